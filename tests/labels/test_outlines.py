"""Outlines along the pixels' corners hold each pixel of a class, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from simclrseg.labels.outlines import parts_of
from simclrseg.labels.polygons import fill, place


def pixels_of(part, size):
    """(H, W), True in the pixels of a part by its rings: what lies in an odd number of them."""
    found = np.zeros(size, bool)
    for ring in (part.outline, *part.holes):
        region = fill(ring.astype(float), size)
        place(region, found)[...] ^= region.pixels
    return found


def signed_area(ring):
    x, y = ring.T
    return (np.roll(x, -1) * y - x * np.roll(y, -1)).sum() / 2  # positive against the clock, as images are seen


@pytest.mark.parametrize("seed", range(60))
def test_parts_drawn_again_are_the_mask_with_each_area_and_mean(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 25, 2))
    mask = (rng.random(size) < rng.random()).astype(np.uint8) * rng.integers(1, 4, size, np.uint8)
    values = rng.integers(0, 256, size).astype(np.uint8)
    again = np.zeros(size, np.uint8)
    for part in parts_of(mask, range(1, 4), values):
        where = pixels_of(part, size)
        assert not again[where].any() and part.area == where.sum()
        assert part.mean == pytest.approx(values[where].mean())
        assert cv2.connectedComponents(where.astype(np.uint8), connectivity=4)[0] == 2
        again[where] = part.label
    np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize("seed", range(20))
def test_no_ring_touches_itself_and_holes_turn_the_other_way(seed):
    mask = (np.random.default_rng(seed).random((20, 30)) < 0.55).astype(np.uint8)
    parts = list(parts_of(mask, range(1, 2), mask))
    assert any(part.holes for part in parts)
    for part in parts:
        for ring in (part.outline, *part.holes):
            assert len({*map(tuple, ring.tolist())}) == len(ring)
        assert signed_area(part.outline) > 0 and all(signed_area(hole) < 0 for hole in part.holes)


def test_a_ring_of_pixels_that_meet_at_corners_alone_is_four_parts():
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    parts = list(parts_of(diamond, range(1, 2), diamond))
    assert [part.area for part in parts] == [1, 1, 1, 1] and not any(part.holes for part in parts)


def test_straight_sides_have_no_corners_between_their_ends():
    (part,) = parts_of(np.ones((40, 70), np.uint8), range(1, 2), np.full((40, 70), 51, np.uint8))
    assert {*map(tuple, part.outline.tolist())} == {(0, 0), (0, 40), (70, 40), (70, 0)} and len(part.outline) == 4
    assert (part.area, part.mean) == (2800, 51)


def test_the_first_class_has_no_outline_where_it_is_not_asked_for():
    assert list(parts_of(np.zeros((4, 4), np.uint8), range(1, 3), np.zeros((4, 4), np.uint8))) == []
