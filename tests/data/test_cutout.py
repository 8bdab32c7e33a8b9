"""What is cut out of a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simclrseg.data.cutout import Cutout, cut, rectangles
from simclrseg.data.randomness import uniform


def cut_out(cutout: Cutout, size: int, seed: int = 0, bands: int = 3) -> np.ndarray:
    u = uniform(seed, 0, np.arange(1), cutout.columns(size, bands))[0]
    out = np.zeros((size, size, bands), bool)
    cut(u, cutout, out)
    return out


def drawn_one_by_one(cutout: Cutout, size: int, seed: int, bands: int = 3) -> np.ndarray:
    u = uniform(seed, 0, np.arange(1), cutout.columns(size, bands))[0]
    out = np.zeros((size, size, bands), bool)
    boxes = u[1:].reshape(bands, 4, -1)
    for band in range(bands):
        numbers = boxes[band if u[0] < cutout.single_band_probability else 0]
        for top, left, bottom, right in rectangles(numbers, cutout, size).T:
            out[top:bottom, left:right, band] = True
    return out


@pytest.mark.parametrize("size", [32, 96, 257])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_union_of_its_rectangles(size, seed):
    cutout = Cutout()
    np.testing.assert_array_equal(cut_out(cutout, size, seed), drawn_one_by_one(cutout, size, seed))


@pytest.mark.parametrize("longest", [2, 16, 40])
def test_rectangles_have_sides_in_range_except_where_the_edge_cuts_them(longest):
    u = uniform(3, 0, np.arange(1), 4 * 5000).reshape(4, -1)
    top, left, bottom, right = rectangles(u, Cutout(longest=longest), 64)
    assert top.min() == left.min() == 0 and bottom.max() == right.max() == 64
    assert (bottom > top).all() and (right > left).all()
    inside = (top > 0) & (left > 0) & (bottom < 64) & (right < 64)
    sides = np.concatenate([(bottom - top)[inside], (right - left)[inside]])
    assert set(np.unique(sides)) == set(range(2, longest + 1))


@pytest.mark.parametrize(("share", "size", "longest"), [(0.5, 256, 16), (0.5, 32, 16), (0.2, 96, 16), (0.75, 96, 40)])
def test_about_the_asked_share_is_cut_and_every_pixel_with_the_same_probability(share, size, longest):
    cutout = Cutout(share=share, longest=longest)
    often = np.mean([cut_out(cutout, size, seed) for seed in range(150)], axis=0)  # (S, S, bands)
    assert often.mean() == pytest.approx(share, abs=0.03)
    edge = np.concatenate([often[0], often[-1], often[:, 0], often[:, -1]]).mean()
    assert edge == pytest.approx(share, abs=0.05)


def test_the_number_of_rectangles_follows_from_the_share():
    cutout = Cutout(share=0.5, shortest=4, longest=4)
    p = (4 / 67) ** 2  # of 67 x 67 places that a square of 4 can take on 64 px, 16 cover a given pixel
    assert cutout.rectangles(64) == round(math.log(0.5) / math.log(1 - p))
    assert Cutout(share=0.001).rectangles(32) == 1


def test_half_of_the_photos_lose_whole_pixels_and_half_lose_bands_on_their_own():
    cuts = [cut_out(Cutout(), 32, seed) for seed in range(200)]
    whole = [bool((each == each[:, :, :1]).all()) for each in cuts]
    assert 0.4 < np.mean(whole) < 0.6
    assert all(each[:, :, band].any() for each in cuts for band in range(3))


@pytest.mark.parametrize(("probability", "alone"), [(0.0, False), (1.0, True)])
def test_bands_can_always_or_never_be_cut_on_their_own(probability, alone):
    cutout = Cutout(single_band_probability=probability)
    for seed in range(5):
        each = cut_out(cutout, 32, seed, bands=12)
        assert (each != each[:, :, :1]).any() == alone
