"""Polygons drawn and traced: against pycocotools and a pixel at a time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as reference

from simclrseg.labels.polygons import Object, Region, Runs, draw, fill, keyhole, trace
from simclrseg.labels.rle import decode_rle, encode_rle

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
SQUARE = np.array([[2, 1], [7, 1], [7, 4], [2, 4]], float)


def moved(x: float, y: float) -> np.ndarray:
    return SQUARE + np.array([x, y])


def drawn(*rings, size=(6, 10)):
    return draw([Object(1, tuple(np.array(ring, float) for ring in rings))], size)


def speckles(rng) -> np.ndarray:
    """Any mask: noise, or blobs with holes."""
    height, width = rng.integers(1, 60, 2)
    noise = rng.random((height, width))
    return noise < rng.random() if rng.random() < 0.5 else cv2.GaussianBlur(noise, (0, 0), 2) > 0.5


def test_a_pixel_belongs_to_a_polygon_if_its_centre_does():
    mask = drawn(SQUARE)
    assert mask.sum() == 15 and (mask[1:4, 2:7] == 1).all()
    assert drawn(moved(0.4, 0.4)).tolist() == mask.tolist()
    assert (drawn(moved(0.6, 0.6))[2:5, 3:8] == 1).all()


def test_a_polygon_is_filled_as_a_pixel_at_a_time_tells():
    rng = np.random.default_rng(0)
    for _ in range(40):
        ring = rng.uniform(-5, 25, (rng.integers(3, 9), 2))
        inside = np.zeros((17, 20), bool)
        for row, column in np.ndindex(inside.shape):
            x, y = column + 0.5, row + 0.5
            for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (y1 <= y) != (y2 <= y) and x > x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                    inside[row, column] ^= True
        assert (drawn(ring, size=(17, 20)) == inside).all()


def test_pycocotools_draws_the_same_but_for_pixels_on_the_edge():
    rng = np.random.default_rng(1)
    for _ in range(60):
        height, width = map(int, rng.integers(20, 90, 2))
        ring = rng.random((rng.integers(3, 9), 2)) * [width, height]
        theirs = reference.decode(reference.frPyObjects([ring.ravel().tolist()], height, width))[..., 0]
        edge = np.zeros((height + 2, width + 2), np.uint8)
        cv2.polylines(edge, [((ring + 0.5) * 256).round().astype(np.int32)[:, None]], True, 1, 1, shift=8)
        near = cv2.dilate(edge, np.ones((3, 3)))[1:-1, 1:-1] > 0
        assert not ((drawn(ring, size=(height, width)) != theirs) & ~near).any()


def traced(mask) -> np.ndarray:
    objects = [Object(1, (keyhole(outline, holes),)) for outline, holes in trace(mask)]
    assert len(objects) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    return draw(objects, mask.shape) > 0


def test_small_and_thin_objects_are_the_same_when_they_are_traced_and_drawn_again():
    rng = np.random.default_rng(2)
    for _ in range(60):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.random() / 2
        assert (traced(mask) == mask).all()
    for mask in (np.eye(30) > 0, np.ones((1, 30), bool), np.ones((5, 5), bool)):
        assert (traced(mask) == mask).all()


def test_what_is_traced_and_drawn_again_changes_on_the_edge_alone():
    rng = np.random.default_rng(4)
    for sigma in (1, 2, 4, 8):
        mask = cv2.GaussianBlur(rng.random((150, 200)), (0, 0), sigma) > 0.5  # parts with holes
        grown, shrunk = (turn(mask.astype(np.uint8), np.ones((3, 3))) > 0 for turn in (cv2.dilate, cv2.erode))
        again = traced(mask)
        assert (again <= grown).all() and (again >= shrunk).all()
        assert (again & mask).sum() / (again | mask).sum() > 0.97


def test_a_round_object_is_traced_by_few_points():
    mask = cv2.circle(np.zeros((300, 300), np.uint8), (150, 150), 100, 1, -1)
    ((outline, holes),) = trace(mask > 0)
    assert len(outline) < 80 and not holes


def test_the_smaller_lies_on_top_or_else_the_later():
    large, small = np.array([[0, 0], [9, 0], [9, 6], [0, 6]], float), SQUARE
    for objects in ([Object(1, (large,)), Object(2, (small,))], [Object(2, (small,)), Object(1, (large,))]):
        mask = draw(objects, (6, 10))
        assert (mask[1:4, 2:7] == 2).all() and (mask == 1).sum() == 54 - 15
    assert draw([Object(1, (small,)), Object(2, (small,))], (6, 10)).max() == 2
    assert draw([Object(2, (small,)), Object(1, (small,))], (6, 10)).max() == 1


def test_parts_of_an_object_are_put_together_and_overlap_is_no_hole():
    mask = drawn(SQUARE, moved(2, 1))
    assert mask.sum() == 15 + 15 - 6
    region = Region(-1, 8, np.ones((3, 4), bool))  # of which two rows and columns lie in the image
    assert (
        draw([Object(1, (SQUARE, region))], (6, 10)) == (drawn(SQUARE) | np.pad([[1, 1]] * 2, ((0, 4), (8, 0))))
    ).all()


def test_what_lies_outside_is_cut_off():
    mask = draw([Object(1, (Region(4, -2, np.ones((3, 4), bool)),))], (6, 10))
    assert mask.sum() == 4 and (mask[4:, :2] == 1).all()
    assert drawn(moved(-4, -2)).sum() == 3 * 2
    assert fill(moved(20, 0), (6, 10)).pixels.size == 0
    assert drawn(moved(30, 30)).sum() == 0


def test_run_lengths_of_both_kinds_are_read_as_pycocotools_writes_them():
    rng = np.random.default_rng(3)
    for _ in range(60):
        mask = speckles(rng)
        theirs = reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert theirs == encode_rle(mask)
        ends = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [2]])))
        plain = np.diff(np.concatenate([[0], ends])).tolist()
        for counts in (theirs, plain):
            assert (draw([Object(1, (Runs(mask.shape, counts),))], mask.shape) == mask).all()


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([5, 4], "cover 9 pixels of 5 x 2 = 10"),
        ([5, -1, 6], "no run lengths"),
        ([5.5, 4.5], "no run lengths"),
        (["a"], "no run lengths"),
        ("P", "no run lengths"),  # a character that says more follow
        ("é", "no run lengths"),
        ("9" * 3, "cover"),
    ],
)
def test_run_lengths_that_are_none_are_refused(counts, says):
    with pytest.raises(ValueError, match=says):
        decode_rle(counts, (2, 5))
    with pytest.raises(ValueError, match="for 5 x 2 pixels, the photo is 2 x 5"):
        draw([Object(1, (Runs((2, 5), [10]),))], (5, 2))
