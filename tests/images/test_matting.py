"""Soft edges: transparency that follows the photo, and no colour of the old background."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.images import matting
from simclrseg.images.matting import cut_out

SIDE, SCALE = 96, 3.0
ORANGE, GREEN = np.array([230, 130, 30.0]), np.array([20, 160, 60.0])


def scene(shift: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An orange disc with a blended edge on green; its true share (H, W), and what a network may say: coarse, and off.

    Args:
        shift: pixels by which the probability's disc is too large.
    """
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    inside = SIDE / 3 - np.hypot(y - SIDE / 2, x - SIDE / 2)
    share = (inside / 2 + 0.5).clip(0, 1)
    image = share[..., None] * ORANGE + (1 - share[..., None]) * GREEN
    likely = 1 / (1 + np.exp(-(inside + shift) / 1.5))
    return image.round().astype(np.uint8), share, (255 * likely + 0.5).astype(np.uint8)


def cut(image: np.ndarray, likely: np.ndarray, scale: float = SCALE) -> np.ndarray:
    return np.concatenate(list(cut_out(lambda start, stop: image[start:stop], likely, scale)))


def test_the_edge_is_nearer_to_the_photos_own_than_the_masks_and_than_the_probability():
    image, share, likely = scene()
    alpha = cut(image, likely)[:, :, 3] / 255
    errors = [np.abs(found - share).mean() for found in (alpha, likely > 127, likely / 255)]
    assert errors[0] < 0.6 * min(errors[1:])
    assert ((alpha > 0) & (alpha < 1)).sum() > SIDE  # a soft one


def test_the_edge_has_the_foregrounds_colour_where_it_is_seen_through():
    image, _, likely = scene(shift=0)
    found = cut(image, likely)
    edge = (found[:, :, 3] > 40) & (found[:, :, 3] < 215)
    halo, left = (
        np.abs(colours[edge] - ORANGE).mean() for colours in (image.astype(float), found[:, :, :3].astype(float))
    )
    assert edge.any() and left < 0.3 * halo


def test_far_from_the_edge_the_photo_stays_as_it_is():
    image, share, likely = scene()
    found = cut(image, likely)
    inner, outer = np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2)) < SIDE / 5, share == 0
    outer &= np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2)) > SIDE / 2
    np.testing.assert_array_equal(found[inner], np.dstack([image, np.full((SIDE, SIDE), 255)])[inner])
    np.testing.assert_array_equal(found[outer], np.dstack([image, np.zeros((SIDE, SIDE), int)])[outer])


@pytest.mark.parametrize("likely", [0, 255])
def test_a_photo_without_an_edge_is_kept_or_hidden_as_a_whole(likely):
    image, *_ = scene()
    found = cut(image, np.full((SIDE, SIDE), likely, np.uint8))
    np.testing.assert_array_equal(found, np.dstack([image, np.full((SIDE, SIDE), likely)]))


@pytest.mark.parametrize("scale", [1.0, 3.0, 6.0, 40.0])
def test_parts_of_a_large_photo_fit_together(monkeypatch, scale):
    image, _, likely = scene()
    image = np.random.default_rng(0).integers(0, 30, image.shape).astype(np.uint8) + image // 2
    whole = cut(image, likely, scale)
    monkeypatch.setattr(matting, "SIDE", 37)
    np.testing.assert_allclose(cut(image, likely, scale).astype(int), whole, atol=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 5)])
def test_tiny_photos_are_cut_out_too(size):
    likely = np.zeros(size, np.uint8)
    likely.flat[::2] = 255
    found = cut(np.full((*size, 3), 90, np.uint8), likely, 0.1)
    assert found.shape == (*size, 4) and found.dtype == np.uint8
