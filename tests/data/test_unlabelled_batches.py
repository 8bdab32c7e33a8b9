"""Unlabelled samples beside labelled ones: weak and strong views, and the order in which they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from simclrseg.data.augment import WEAK
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.framing import Cropping, Cutting, Padding, Squashing
from simclrseg.data.loader import WithUnlabelled
from simclrseg.data.samples import MaskPairs, WeakAndStrong
from simclrseg.images.depth import Blank
from tests.data.fakes import FakeDataset, photo

Batch = dict[str, torch.Tensor]
SIDE = 32


def unlabelled(count: int = 11, **options: Any) -> WeakAndStrong:
    return WeakAndStrong(FakeDataset(count), range(count), image_size=SIDE, strengths=WEAK, **options)


def loader(labelled: int = 10, others: int = 11, **options: Any) -> WithUnlabelled:
    samples = MaskPairs(FakeDataset(labelled), range(labelled), image_size=SIDE)
    shared = {"batch_size": 4, "shuffle": True, "drop_last": False, "threads": 2, "neighbours": 2}
    return WithUnlabelled(samples, unlabelled=unlabelled(others), **(shared | options))


def batches(made: WithUnlabelled, epochs: int) -> list[Batch]:
    return [batch for epoch in range(epochs) for batch in made.epoch(epoch)]


def filled(samples: WeakAndStrong, count: int) -> dict[str, np.ndarray]:
    out = {name: np.zeros((count, *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(0, np.arange(count), out)
    return out


def test_strong_views_are_the_weak_one_in_other_colours() -> None:
    out = filled(unlabelled(40), 40)
    same = (out["strong"] == out["image"][:, None]).all((2, 3, 4))
    assert 0 < same.sum() < 20  # one of ten has neither jitter, grey nor blur
    assert (out["strong"][:, 0] != out["strong"][:, 1]).any((1, 2, 3)).sum() > 30
    # what is dark stays dark: the geometry is one
    for view in range(2):
        pairs = zip(out["image"], out["strong"][:, view], strict=True)
        alike = [np.corrcoef(a.mean(2).ravel(), b.mean(2).ravel())[0, 1] for a, b in pairs]
        assert np.median(alike) > 0.8


class Plain(FakeDataset):
    """Photos of one colour each."""

    def image(self, i: int) -> np.ndarray:
        return np.full((40, 60, 3), (40 + i, 120, 200 - i), np.uint8)


def test_weak_views_have_the_photo_s_own_colours_and_each_strong_one_has_others() -> None:
    out = filled(WeakAndStrong(Plain(80), range(80), image_size=SIDE, strengths=WEAK), 80)
    weak = out["image"]
    assert (weak == np.array([Plain(80).image(i)[:1, :1] for i in range(80)])).all()
    first, second = (out["strong"][:, view].mean((1, 2, 3)) - weak.mean((1, 2, 3)) for view in range(2))
    assert min(first.std(), second.std()) > 20 and abs(np.corrcoef(first, second)[0, 1]) < 0.4


def test_colours_of_a_weak_view_say_nothing_of_those_of_its_strong_ones() -> None:
    coloured = replace(WEAK, jitter_probability=1.0)
    out = filled(WeakAndStrong(Plain(80), range(80), image_size=SIDE, strengths=coloured), 80)
    plain = np.array([Plain(80).image(i).mean() for i in range(80)])
    weak = out["image"].mean((1, 2, 3)) - plain
    strong = (out["strong"] - out["image"][:, None].astype(float)).mean((2, 3, 4))
    assert weak.std() > 10
    assert max(abs(np.corrcoef(weak, strong[:, view])[0, 1]) for view in range(2)) < 0.4


def test_half_of_the_views_have_a_rectangle_of_the_paper_s_sizes() -> None:
    boxes = filled(unlabelled(400), 400)["pasted"].reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(1) / SIDE**2
    assert (boxes >= 0).all() and (boxes <= SIDE).all() and (sides >= 0).all()
    assert np.mean(areas > 0) == pytest.approx(0.5, abs=0.06)
    some = areas[areas > 0]
    assert 0.015 < some.min() < 0.05 and 0.3 < some.max() < 0.43
    assert (boxes[areas > 0][:, :2].max(0) > SIDE / 2).all()  # they lie anywhere


def test_each_batch_has_as_many_unlabelled_samples_as_labelled_ones() -> None:
    for batch in batches(loader(), 2):
        assert {len(tensor) for tensor in batch.values()} == {len(batch["index"])}
        assert batch["unlabelled_strong"].shape[1:] == (2, SIDE, SIDE, 3)
        assert batch["unlabelled_pasted"].dtype == torch.int32


def test_all_unlabelled_samples_come_before_any_comes_again_whatever_the_epochs_are() -> None:
    made = loader(labelled=10)  # the last batch is shorter
    order = torch.cat([batch["unlabelled_index"] for batch in batches(made, 7)]).tolist()
    passes = [order[start : start + 11] for start in range(0, 66, 11)]
    assert all(sorted(one) == list(range(11)) for one in passes)
    assert len(set(map(tuple, passes))) == 6


def test_fewer_unlabelled_samples_than_a_batch_come_again_within_it_in_other_views() -> None:
    first = next(loader(others=3).epoch(0))
    order = first["unlabelled_index"].tolist()
    assert sorted(order[:3]) == [0, 1, 2]
    assert not torch.equal(first["unlabelled_image"][3], first["unlabelled_image"][order.index(order[3])])


@pytest.mark.parametrize("start", [1, 2, 3])
def test_an_epoch_goes_on_from_any_step_with_any_number_of_threads(start: int) -> None:
    whole, later = list(loader().epoch(3))[start:], list(loader(threads=5).epoch(3, start))
    assert len(whole) == len(later)
    for one, other in zip(whole, later, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_processes_share_a_batch_out_in_pairs() -> None:
    whole = batches(loader(), 2)
    parts = [batches(loader(rank=rank, world_size=2), 2) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert len(first["index"]) % 2 == 0
        assert all(torch.equal(torch.cat([first[name], second[name]]), batch[name]) for name in batch)


class Holed(Dataset):
    """Photos that are black in a corner alone, where they hold nothing; counts how often that is sought."""

    has_blanks = True

    def __init__(self, count: int, height: int, width: int) -> None:
        super().__init__("holed", [f"{number}.tif" for number in range(count)])
        self.shape, self.sought = (height, width), 0

    def image(self, index: int) -> np.ndarray:
        pixels = photo(index, height=self.shape[0], width=self.shape[1]).clip(90)
        pixels[self.corner(index)] = 0
        return pixels

    def corner(self, index: int) -> Blank:
        rows, columns = (np.arange(side) < side * index // 9 for side in self.shape)
        return rows[:, None] & columns

    def blank(self, index: int) -> Blank | None:
        self.sought += 1
        return self.corner(index) if index else None


@pytest.mark.parametrize(
    "cut", [Squashing, lambda: Padding((120, 120, 120)), lambda: Cropping((120, 120, 120), classes=0)]
)
@pytest.mark.parametrize("shape", [(600, 70), (40, 61)])
def test_pixels_that_hold_nothing_are_not_shown(cut: Callable[[], Cutting], shape: tuple[int, int]) -> None:
    dataset, cutting = Holed(8, *shape), cut()
    samples = WeakAndStrong(dataset, range(8), image_size=SIDE, strengths=WEAK, cutting=cutting)
    out = filled(samples, 8)
    black = out["image"].max(3) < 45  # of the two that a pixel is a mean of
    padding = (out["image"] == 120).all(3)
    assert (out["shown"] == ~(black | padding)).mean() > 0.97 and not out["shown"][black].all()
    assert out["shown"][0].mean() > 0.5 if not cutting.pads else (out["shown"][0] == ~padding[0]).all()
    filled(samples, 8)
    assert dataset.sought == 8


def test_photos_that_are_whole_have_nothing_to_say_of_it() -> None:
    assert "shown" not in unlabelled().fields
