"""Two views and the places that lie in both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simclrseg.data.augment import PAIR_STRENGTHS, STRENGTHS, VIEW_COLUMNS, Strengths, View, common_box, sample_view
from simclrseg.data.randomness import uniform
from simclrseg.data.samples import MatchedViews, TwoViews
from tests.data.fakes import FakeDataset

CROPS = replace(PAIR_STRENGTHS["none"], crop_scale=(0.2, 1.0), crop_ratio=(3 / 4, 4 / 3), flip_probability=0.5)
SIZE, PLACES = 64, 16


class Coordinates:
    """An image whose red and green say where a pixel is: its centre, as 16-bit fractions of the sides."""

    bands = ("red", "green", "blue")
    dtype = np.uint16
    keys = ("a",) * 64
    labels = None

    def __init__(self, height: int = 120, width: int = 150) -> None:
        self.height, self.width = height, width

    def image(self, i: int) -> np.ndarray:
        y, x = np.mgrid[: self.height, : self.width] + 0.5
        planes = (x / self.width, y / self.height, np.zeros_like(x))
        return np.rint(65535 * np.stack(planes, axis=2)).astype(np.uint16)

    def path(self, i: int) -> Path | None:
        return None


def filled(samples: Any, positions: range, epoch: int = 0) -> dict[str, np.ndarray]:
    out = {name: np.zeros((len(positions), *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(epoch, np.array(positions), out)
    return out


def matched(dataset: Any, count: int, strengths: Strengths = CROPS, **options: Any) -> MatchedViews:
    options = {"places": PLACES, "overlap": 0.1, "image_size": SIZE, **options}
    return MatchedViews(dataset, range(count), strengths=strengths, **options)


def bilinear(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """The value at (x, y), fractions of the sides, between the centres of pixels."""
    side = len(picture)
    column, row = (min(max(f * side - 0.5, 0), side - 1) for f in (x, y))
    i, j = min(int(row), side - 2), min(int(column), side - 2)
    down, right = row - i, column - j
    upper = picture[i, j] * (1 - right) + picture[i, j + 1] * right
    lower = picture[i + 1, j] * (1 - right) + picture[i + 1, j + 1] * right
    return upper * (1 - down) + lower * down


def test_a_place_is_the_same_place_of_the_image_in_both_views() -> None:
    image = Coordinates()
    out = filled(matched(image, 64), range(64))
    assert out["matched"].all()
    diagonal = np.hypot(image.height, image.width)
    flips = []
    for views, places, where in zip(out["image"].astype(float) / 65535, out["places"], out["where"], strict=True):
        for view, points in zip(views, places, strict=True):
            flips.append(view[0, 0, 0] > view[0, -1, 0])
            step = np.abs(view[1, 0, :2] - view[0, 1, :2]).max()  # of a pixel of the view, in fractions of the image
            for (x, y), truth in zip(points, where * diagonal / (image.width, image.height), strict=True):
                seen = bilinear(view, x, y)[:2]
                assert np.abs(seen - truth).max() < step
    assert 0.3 < np.mean(flips) < 0.7


def test_places_lie_in_both_views_and_all_over_what_they_share() -> None:
    out = filled(matched(Coordinates(), 64, places=64), range(64))
    assert (out["places"] >= 0).all() and (out["places"] <= 1).all()
    assert (out["where"] >= 0).all() and (np.linalg.norm(out["where"], axis=2) <= 1).all()
    spread = np.ptp(out["places"], axis=2).max(1)  # in the smaller view they reach far
    assert np.median(spread) > 0.8


def test_a_point_is_found_in_a_crop_and_in_its_mirror_image() -> None:
    view = View((10, 20, 40, 80), False, (), (1.0, 1.0, 1.0, 0.0), False, 0.0)
    points = np.array([[20.0, 10.0], [40.0, 50.0], [100.0, 60.0]])
    assert view.locate(points).tolist() == [[0, 0], [0.25, 1], [1, 1.25]]
    assert view._replace(flip=True).locate(points).tolist() == [[1, 0], [0.75, 1], [0, 1.25]]


@pytest.mark.parametrize(
    ("other", "common"),
    [
        ((0, 0, 20, 30), (10, 20, 10, 10)),
        ((15, 25, 5, 5), (15, 25, 5, 5)),
        ((50, 20, 10, 10), (50, 20, 0, 10)),
        ((70, 0, 9, 9), (70, 20, 0, 0)),
    ],
)
def test_what_two_crops_share_has_no_size_where_they_do_not_meet(
    other: tuple[int, ...], common: tuple[int, ...]
) -> None:
    one, two = (View(box, False, (), (1.0,) * 4, False, 0.0) for box in ((10, 20, 40, 80), other))
    assert common_box(one, two) == common_box(two, one) == common


def test_crops_that_share_enough_are_those_of_two_plain_views() -> None:
    dataset, strengths = FakeDataset(32), STRENGTHS["seed"]
    plain = filled(TwoViews(dataset, range(32), image_size=SIZE, strengths=strengths), range(32))
    out = filled(matched(dataset, 32, strengths), range(32))
    same = (plain["image"] == out["image"]).all((1, 2, 3, 4))
    assert same.mean() > 0.8


def test_crops_that_share_too_little_are_drawn_again_from_the_image_s_own_numbers() -> None:
    dataset, small = FakeDataset(64), replace(CROPS, crop_scale=(0.05, 0.1))
    out = filled(matched(dataset, 64, small, overlap=0.3), range(64))
    again = filled(matched(dataset, 64, small, overlap=0.3), range(40, 50))
    for name, rows in again.items():
        np.testing.assert_array_equal(rows, out[name][40:50])
    numbers = uniform(0, 0, np.arange(64), MatchedViews.ATTEMPTS * 2 * VIEW_COLUMNS)
    for index, (found, where) in enumerate(zip(out["matched"], out["where"], strict=True)):
        height, width = dataset.image(index).shape[:2]
        shares = []
        for pair in numbers[index].reshape(MatchedViews.ATTEMPTS, 2, -1).tolist():
            views = [sample_view(u, height, width, small) for u in pair]
            top, left, tall, wide = common_box(*views)
            share = tall * wide / min(view.box[2] * view.box[3] for view in views)
            shares.append((share, (left, top), (left + wide, top + tall)))
        enough = [each for each in shares if each[0] >= 0.3]
        assert found == bool(enough)
        if found:
            points = where * np.hypot(height, width)
            assert (points >= np.array(enough[0][1]) - 1e-3).all() and (points <= np.array(enough[0][2]) + 1e-3).all()
    assert 0 < out["matched"].mean() < 1


def test_places_of_views_that_never_meet_are_anywhere_in_each() -> None:
    tiny = replace(CROPS, crop_scale=(0.002, 0.003))
    out = filled(matched(FakeDataset(32), 32, tiny), range(32))
    lonely = ~out["matched"]
    assert lonely.mean() > 0.5
    assert np.isfinite(out["where"]).all() and (out["places"] >= 0).all() and (out["places"] <= 1).all()


def test_whole_images_share_everything() -> None:
    out = filled(matched(FakeDataset(8), 8, STRENGTHS["whole"]), range(8))
    first, second = out["places"].transpose(1, 0, 2, 3)
    assert out["matched"].all() and np.array_equal(first[..., 1], second[..., 1])
    flipped = np.isclose(first[..., 0], 1 - second[..., 0])
    assert (np.isclose(first[..., 0], second[..., 0]) | flipped).all() and flipped.any()
