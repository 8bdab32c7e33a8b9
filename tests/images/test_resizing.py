"""Pictures, masks and probabilities in another size."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.images.resizing import resize_image, resize_mask, resize_probability


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
