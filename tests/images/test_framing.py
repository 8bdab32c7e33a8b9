"""How whole pictures are brought to squares, and back."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.images.framing import Framing, fitted, padded, window_of_most
from simclrseg.images.resizing import resize_image, resize_mask
from simclrseg.metadata import ModelMetadata
from tests.data.fakes import photo

SHAPES = [(40, 60), (60, 40), (50, 50), (7, 200), (200, 3), (31, 32), (1, 1), (1, 500)]


def framing(resize: str, side: int = 32) -> Framing:
    mean = (0.2, 0.5, 1.0)
    return Framing.of(ModelMetadata(task="segmentation", encoder="cnn", image_size=side, resize=resize, mean=mean))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_padded_picture_keeps_its_aspect_and_the_rest_has_the_mean_colour(shape: tuple[int, int]) -> None:
    image = photo(0, height=shape[0], width=shape[1])
    mask = (image[:, :, 0] > 127).astype(np.uint8)
    frame, truth = framing("pad").image(image), framing("pad").mask(mask, image.shape)
    height, width = fitted(shape, (32, 32))
    assert max(height, width) == 32
    assert abs(height / width - shape[0] / shape[1]) <= 0.6 / min(height, width) * max(1, shape[0] / shape[1])
    for y in range(32):
        for x in range(32):
            if y >= height or x >= width:
                assert frame[y, x].tolist() == [51, 128, 255] and truth[y, x] == 255
    assert np.array_equal(frame[:height, :width], resize_image(image, (height, width)))
    assert np.array_equal(truth[:height, :width], resize_mask(mask, (height, width)))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_said_of_padding_is_cut_off(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    for resize in ("squash", "pad", "tile"):
        one = framing(resize)
        window = one.window(shape)
        shown = window[2] - window[0], window[3] - window[1]
        probability = (one.image(image)[..., 0] == 200).astype(np.float32)
        assert one.cut(probability, shown).all()
        assert probability.sum() == one.cut(probability, shown).size


def test_squashing_is_what_it_was() -> None:
    image = photo(1, height=70, width=30)
    assert np.array_equal(framing("squash").image(image), resize_image(image, (32, 32)))


def test_a_tile_is_a_window_of_the_picture_itself() -> None:
    image = photo(2, height=90, width=20)
    mask = np.zeros((90, 20), np.uint8)
    mask[70:75, 3:9] = 2
    one = framing("tile")
    top, left, bottom, right = one.window(image.shape, mask)
    assert (bottom - top, left, right) == (32, 0, 20) and top <= 70 and bottom >= 75
    frame = one.image(image, (top, left, bottom, right))
    assert np.array_equal(frame[:, :20], image[top:bottom]) and (frame[:, 20:] == [51, 128, 255]).all()
    assert (one.mask(mask, image.shape, (top, left, bottom, right)) == 2).sum() == 30
    coarse = mask[::2, ::2]
    assert (one.mask(coarse, image.shape, (top, left, bottom, right)) == 2).sum() == pytest.approx(30, abs=14)


def test_the_window_of_most_holds_a_thing_that_is_alone_and_else_is_the_middle() -> None:
    for top, left in ((0, 0), (95, 3), (50, 50), (31, 64), (99, 99)):
        marked = np.zeros((110, 130), np.uint8)
        marked[top : top + 11, left : left + 11] = 1
        marked[5:9, 120:123] = 255  # ignored
        y, x, bottom, right = window_of_most(marked, (32, 24))
        assert (bottom - y, right - x) == (32, 24)
        assert marked[y:bottom, x:right].sum() % 255 == (marked == 1).sum()
    assert window_of_most(np.zeros((110, 130), np.uint8), (32, 24)) == (39, 53, 71, 77)
    assert window_of_most(np.zeros((10, 130), np.uint8), (32, 24)) == (0, 53, 10, 77)


def test_padding_fills_bands_of_any_type_and_leaves_large_pictures_alone() -> None:
    bands = np.full((3, 4, 12), 60_000, np.uint16)
    whole = padded(bands, (5, 4), tuple(range(12)))
    assert whole.dtype == np.uint16 and whole[4, 0].tolist() == list(range(12)) and (whole[:3] == 60_000).all()
    assert padded(bands, (2, 4), (0,) * 12) is bands
