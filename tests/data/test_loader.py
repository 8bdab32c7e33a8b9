import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from simclrseg.data.augment import STRENGTHS
from simclrseg.data.loader import Loader
from simclrseg.data.samples import Images, MaskPairs, TwoViews
from simclrseg.errors import ImageError, UsageError
from tests.data.fakes import FakeDataset

Batch = dict[str, torch.Tensor]


def loader(n: int = 37, batch_size: int = 8, **options: Any) -> Loader:
    samples = TwoViews(FakeDataset(n, broken=(5,)), range(n), image_size=24, strengths=STRENGTHS["paper"], seed=0)
    return Loader(samples, **{"batch_size": batch_size, "shuffle": True, "drop_last": False, "threads": 2} | options)


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        assert all(torch.equal(x[name], y[name]) for name in x)


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert not loader_threads()


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("simclrseg-loader")]


def test_batches_are_uint8_with_channels_last() -> None:
    batches = list(loader().epoch(0))
    assert batches[0]["image"].shape == (8, 2, 24, 24, 3)
    assert batches[0]["image"].dtype == torch.uint8
    assert batches[0]["index"].dtype == torch.int64
    assert [len(batch["index"]) for batch in batches] == [8, 8, 8, 8, 5]


@pytest.mark.parametrize("threads", [1, 3, 8, 40])
def test_batches_are_bit_identical_for_any_number_of_threads(threads: int) -> None:
    assert_same(list(loader(threads=threads).epoch(1)), list(loader(threads=2).epoch(1)))


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5])
def test_an_epoch_continues_from_any_step_as_if_it_had_run(start: int) -> None:
    assert_same(list(loader().epoch(2, start)), list(loader().epoch(2))[start:])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world_size", [2, 4])
def test_the_shares_of_all_processes_make_the_batch_of_one(world_size: int, drop_last: bool) -> None:
    whole = list(loader(drop_last=drop_last).epoch(0))
    shares = [
        list(loader(drop_last=drop_last, rank=rank, world_size=world_size).epoch(0)) for rank in range(world_size)
    ]
    joined = [
        {name: torch.cat([part[name] for part in parts]) for name in parts[0]} for parts in zip(*shares, strict=True)
    ]
    assert_same(joined, whole)


def test_more_processes_than_photos_in_the_last_batch_leave_some_without_any() -> None:
    shares = [list(loader(9, rank=rank, world_size=4).epoch(0)) for rank in range(4)]
    assert sorted(len(share[-1]["index"]) for share in shares) == [0, 0, 0, 1]


def test_every_photo_comes_once_an_epoch_in_another_order_each_time() -> None:
    photos = Loader(
        Images(FakeDataset(30), range(30), image_size=8), batch_size=7, shuffle=True, drop_last=False, threads=2
    )
    first, second = (torch.cat([batch["index"] for batch in photos.epoch(epoch)]).tolist() for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second


def test_without_shuffling_the_order_is_that_of_the_samples() -> None:
    indices = [9, 2, 7, 4]
    photos = Loader(
        Images(FakeDataset(10), indices, image_size=8), batch_size=3, shuffle=False, drop_last=False, threads=2
    )
    assert torch.cat([batch["index"] for batch in photos.epoch(3)]).tolist() == indices


def test_the_seed_changes_the_order() -> None:
    orders = [torch.cat([batch["index"] for batch in loader(seed=seed).epoch(0)]).tolist() for seed in (0, 1)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "steps"), [(10, 5, True, 2), (11, 5, True, 2), (11, 5, False, 3)]
)
def test_length_is_the_number_of_steps(n: int, batch_size: int, drop_last: bool, steps: int) -> None:
    batches = loader(n, batch_size, drop_last=drop_last)
    assert len(batches) == len(list(batches.epoch(0))) == steps


def test_the_same_loader_can_be_iterated_twice_even_at_once() -> None:
    batches = loader()
    both = list(zip(batches.epoch(0), batches.epoch(0), strict=True))
    assert_same([a for a, _ in both], [b for _, b in both])


def test_a_batch_that_was_kept_never_changes() -> None:
    kept, copies = [], []
    for batch in loader(threads=4).epoch(0):
        kept.append(batch)
        copies.append({name: tensor.clone() for name, tensor in batch.items()})
    assert_same(kept, copies)
    assert len({batch["image"].data_ptr() for batch in kept}) == len(kept)


def test_an_abandoned_iterator_ends_its_threads() -> None:
    iterator = loader(threads=4).epoch(0)
    next(iterator)
    assert loader_threads()
    del iterator
    assert not loader_threads()


def test_what_a_thread_raises_is_raised_at_its_batch() -> None:
    samples = MaskPairs(FakeDataset(40, broken=(21,)), range(40), image_size=8, strict=True)
    batches = Loader(samples, batch_size=10, shuffle=False, drop_last=False, threads=3).epoch(0)
    assert next(batches)["index"].tolist() == list(range(10))
    next(batches)
    with pytest.raises(ImageError, match=r"photos/021\.png"):
        next(batches)


def test_threads_work_ahead_while_the_consumer_works_but_not_without_bound() -> None:
    dataset = FakeDataset(400, labels=False)
    batches = Loader(Images(dataset, range(400), image_size=8), batch_size=10, shuffle=False, drop_last=True, threads=2)
    iterator = batches.epoch(0)
    next(iterator)
    deadline = time.monotonic() + 5
    while len(dataset.reads) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(dataset.reads) == 50  # the batch in hand and four more
    iterator.close()


def test_large_batches_are_not_hoarded() -> None:
    class Large:
        """Two views of 224 px, which nobody writes: their memory is never touched."""

        fields: ClassVar[dict[str, Any]] = {"image": ((2, 224, 224, 3), np.uint8)}
        filled = 0

        def __len__(self) -> int:
            return 4 * 4096

        def fill(self, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]) -> None:
            self.filled += len(positions)

    samples = Large()
    batches = Loader(samples, batch_size=4096, shuffle=True, drop_last=True, threads=1).epoch(0)
    next(batches)
    while samples.filled < 2 * 4096:
        time.sleep(0.01)
    time.sleep(0.1)
    assert samples.filled == 2 * 4096  # the batch in hand and one more
    batches.close()


def test_a_batch_larger_than_the_set_is_an_error_that_says_what_fits() -> None:
    with pytest.raises(UsageError, match="batch size 8 is larger than the set of 5: take 5 or less"):
        loader(5, drop_last=True)
    assert len(loader(5, drop_last=False)) == 1


def test_a_batch_that_processes_cannot_share_evenly_is_an_error() -> None:
    with pytest.raises(UsageError, match="batch size 8 cannot be shared out over 3 processes: take 9"):
        loader(world_size=3)


def test_orders_of_views_match_the_index_that_comes_with_them() -> None:
    n = 20
    samples = Images(FakeDataset(n), range(n), image_size=8)
    plain = Loader(samples, batch_size=n, shuffle=False, drop_last=False, threads=1)
    mixed = Loader(samples, batch_size=n, shuffle=True, drop_last=False, threads=3)
    (a,), (b,) = list(plain.epoch(0)), list(mixed.epoch(0))
    np.testing.assert_array_equal(a["image"][b["index"]], b["image"])
