"""Pictures, masks and probabilities in another size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from simclrseg.images.resizing import resize_image, resize_mask, resize_part, resize_probability


def test_shrinking_averages_each_axis_on_its_own():
    image = np.zeros((4, 4, 3), np.uint8)
    image[::2] = 200
    assert (resize_image(image, (2, 2)) == 100).all()
    assert (resize_image(image, (2, 8)) == 100).all()  # down in one axis, up in the other
    assert resize_image(image, (4, 4)) is image


@pytest.mark.parametrize("size", [(8, 50), (16, 16), (60, 40)])
def test_many_bands_are_resized_as_each_alone(size: tuple[int, int]) -> None:
    stored = np.random.default_rng(0).integers(0, 2**16, (16, 50, 13)).astype(np.uint16)
    resized = resize_image(stored, size)
    assert resized.shape == (*size, 13) and resized.dtype == np.uint16
    for band in range(13):
        np.testing.assert_array_equal(resized[:, :, band], resize_image(np.ascontiguousarray(stored[:, :, band]), size))


def test_masks_are_resized_without_new_values():
    mask = np.array([[0, 255], [3, 7]], np.uint8)
    assert set(np.unique(resize_mask(mask, (33, 17)))) == {0, 3, 7, 255}


@pytest.mark.parametrize("shape", [(37, 53), (320, 240), (20, 90)])
def test_a_resized_mask_takes_the_pixel_below_each_centre_and_so_lies_on_its_photo(shape):
    mask = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    rows, columns = (np.floor((np.arange(32) + 0.5) * side / 32).astype(int) for side in shape)
    np.testing.assert_array_equal(resize_mask(mask, (32, 32)), mask[np.ix_(rows, columns)])


@pytest.mark.parametrize("channels", [(), (1,), (3,), (21,)])
def test_probabilities_keep_range_and_channels(channels):
    probability = np.random.default_rng(0).random((5, 7, *channels), np.float32)
    resized = resize_probability(probability, (20, 31))
    assert resized.shape == (20, 31, *channels)
    assert resized.dtype == np.float32
    assert 0 <= resized.min() <= resized.max() <= 1
    assert abs(resized.mean() - probability.mean()) < 0.1


@pytest.mark.parametrize("own", [(13, 20), (5, 7), (1, 1)])
@pytest.mark.parametrize("size", [(8, 9), (31, 40)])
def test_a_part_of_a_coarser_mask_is_its_pixels_below_the_centres_of_the_new_ones(
    own: tuple[int, int], size: tuple[int, int]
) -> None:
    shape, mask = (52, 83, 3), np.arange(own[0] * own[1]).reshape(own).astype(np.uint16)
    for top, left, bottom, right in ((0, 0, 30, 83), (3, 11, 47, 29), (51, 82, 52, 83)):
        found = resize_part(mask, shape, (top, left, bottom, right), size)
        ends = ((top, bottom, size[0], shape[0], own[0]), (left, right, size[1], shape[1], own[1]))
        rows, columns = (
            [int((first + (Fraction(i) + Fraction(1, 2)) * (last - first) / count) * less / side) for i in range(count)]
            for first, last, count, side, less in ends
        )
        assert found.tolist() == [[mask[y, x] for x in columns] for y in rows]


def test_a_part_of_a_mask_of_the_image_s_size_is_a_mask_of_its_own() -> None:
    mask = np.random.default_rng(0).integers(0, 9, (52, 83), np.uint8)
    part = np.ascontiguousarray(mask[3:47, 11:29])
    assert np.array_equal(resize_part(mask, (52, 83, 3), (3, 11, 47, 29), (20, 21)), resize_mask(part, (20, 21)))
    whole = resize_part(mask[::2, ::3], (52, 83, 3), (0, 0, 52, 83), (20, 21))
    assert np.array_equal(whole, resize_mask(np.ascontiguousarray(mask[::2, ::3]), (20, 21)))
