"""Batches from a pool of threads: OpenCV releases the GIL, so threads do what others need processes for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from itertools import islice

import cv2
import numpy as np
import torch

from simclrseg.data.randomness import permutation
from simclrseg.data.samples import Fields, Samples, spread
from simclrseg.errors import UsageError

_CHUNK = 8  # most samples of one task: enough to hide what a task costs, few enough to share a batch out
_AHEAD_BYTES = 256 << 20  # batches prepared ahead stay below this, though one there always is
_MAX_AHEAD = 4
_BESIDE = "unlabelled_"


@dataclass(eq=False)
class Loader:
    """Batches of samples, the same whatever the number of threads and from whichever step they start.

    Each batch is a fresh dict of CPU tensors, by the names of ``samples.fields``: images and masks have
    their dataset's type, as uint8, and channels last, ``image`` (B, S, S, bands) or (B, 2, S, S, bands). The threads
    belong to an iterator and end with it.

    Raises:
        UsageError: if the batch cannot be shared out evenly, or is larger than the set where short ones are dropped.
    """

    samples: Samples
    _: KW_ONLY
    batch_size: int
    """Over all processes; each gets its contiguous share of every batch."""
    seed: int = 0
    """Seed of the order."""
    shuffle: bool
    """A new order each epoch, else the order of the samples."""
    drop_last: bool
    """Leave out the short batch at the end."""
    threads: int
    rank: int = 0
    world_size: int = 1
    neighbours: int = 1
    """Samples that follow one another and go to one process."""

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            fault = f"cannot be shared out over {self.world_size} processes"
            remedy = f"take {math.ceil(self.batch_size / self.world_size) * self.world_size}"
        elif self.drop_last and len(self.samples) < self.batch_size:
            fault = f"is larger than the set of {len(self.samples)}"
            remedy = f"take {len(self.samples)} or less"
        else:
            return
        size = self.batch_size
        raise UsageError(f"batch size {size} {fault}", remedy, option="batch_size", value=size)

    @property
    def fields(self) -> Fields:
        """Of the samples."""
        return self.samples.fields

    @property
    def skipped(self) -> list[str]:
        """One line for each image that could not be read so far."""
        return self.samples.skipped

    def __len__(self) -> int:
        """Steps of an epoch."""
        steps = len(self.samples) / self.batch_size
        return math.floor(steps) if self.drop_last else math.ceil(steps)

    @property
    def most_processes(self) -> int:
        """Processes that the last batch of an epoch has something for, however many there are."""
        last = min(self.batch_size, len(self.samples) - (len(self) - 1) * self.batch_size)
        return math.ceil(last / self.neighbours)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of an epoch from ``start_step`` on. What a thread raises is raised here, at its batch."""
        cv2.setNumThreads(0)  # each call on the thread that makes it; for the whole process
        order = permutation(self.seed, epoch, len(self.samples)) if self.shuffle else np.arange(len(self.samples))
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="simclrseg-loader")
        batches = (self._submit(pool, epoch, order, step) for step in range(start_step, len(self)))
        try:
            pending = deque(islice(batches, self._ahead()))
            while pending:
                arrays, tasks = pending.popleft()
                for task in tasks:
                    task.result()
                pending.extend(islice(batches, 1))
                yield {name: torch.from_numpy(array) for name, array in arrays.items()}
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(
        self, pool: ThreadPoolExecutor, epoch: int, order: np.ndarray, step: int
    ) -> tuple[dict[str, np.ndarray], list[Future[None]]]:
        """Hand a batch to the threads: its arrays, and the tasks that fill them."""
        positions = self._own(order[step * self.batch_size : (step + 1) * self.batch_size])
        arrays = _empty(self.samples, len(positions))  # fresh: the consumer may keep one as long as it likes
        return arrays, self._fill(pool, self.samples, epoch, positions, arrays)

    def _own(self, batch: np.ndarray) -> np.ndarray:
        """The share of this process."""
        units = math.ceil(len(batch) / self.neighbours)
        first, last = (self.neighbours * (units * rank // self.world_size) for rank in (self.rank, self.rank + 1))
        return batch[first:last]

    def _fill(
        self, pool: ThreadPoolExecutor, samples: Samples, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]
    ) -> list[Future[None]]:
        chunk = max(1, min(_CHUNK, math.ceil(len(positions) / self.threads)))
        tasks = []
        for start in range(0, len(positions), chunk):
            rows = slice(start, start + chunk)
            some = {name: array[rows] for name, array in out.items()}
            tasks.append(pool.submit(samples.fill, epoch, positions[rows], some))
        return tasks

    def _ahead(self) -> int:
        """Batches to prepare while the consumer works on one."""
        row = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.fields.values())
        return min(_MAX_AHEAD, max(1, _AHEAD_BYTES // (row * self.batch_size // self.world_size)))


_order = lru_cache(2)(permutation)  # of many images it takes longer than a step should wait


@dataclass(eq=False)
class WithUnlabelled(Loader):
    """Batches of labelled samples, and beside each of these an unlabelled one, in fields named ``unlabelled_...``.

    An epoch is a pass over the labelled samples. The unlabelled ones come in an order of their own, which goes through
    all of them before any comes again, whatever the epochs are.
    """

    unlabelled: Samples = field(kw_only=True)

    @property
    def fields(self) -> Fields:
        return self.samples.fields | {f"{_BESIDE}{name}": kind for name, kind in self.unlabelled.fields.items()}

    @property
    def skipped(self) -> list[str]:
        return self.samples.skipped + self.unlabelled.skipped

    def _submit(
        self, pool: ThreadPoolExecutor, epoch: int, order: np.ndarray, step: int
    ) -> tuple[dict[str, np.ndarray], list[Future[None]]]:
        arrays, tasks = super()._submit(pool, epoch, order, step)
        size = len(self.unlabelled)
        whole = len(self) * self.batch_size if self.drop_last else len(order)  # an epoch takes as many
        first = epoch * whole + step * self.batch_size
        count = min(self.batch_size, len(order) - step * self.batch_size)
        # in all passes over the unlabelled samples, one after another
        places = self._own(np.arange(first, first + count))
        beside = _empty(self.unlabelled, len(places))
        for number in np.unique(places // size).tolist():
            mine = np.flatnonzero(places // size == number)
            rows = slice(mine[0], mine[-1] + 1)
            positions = _order(self.seed, number, size)[places[rows] % size]
            out = {name: array[rows] for name, array in beside.items()}
            tasks += self._fill(pool, self.unlabelled, number, positions, out)
        return arrays | {f"{_BESIDE}{name}": array for name, array in beside.items()}, tasks


class InTurn:
    """The batches of several loaders, of one after the other."""

    def __init__(self, *loaders: Loader) -> None:
        self.loaders = loaders
        self.batch_size = max(loader.batch_size for loader in loaders)

    def __len__(self) -> int:
        return sum(map(len, self.loaders))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of an epoch from ``start_step`` on."""
        for loader in self.loaders:
            yield from loader.epoch(epoch, min(start_step, len(loader)))
            start_step = max(0, start_step - len(loader))


def some_rows(samples: Samples, count: int) -> dict[str, np.ndarray]:
    """At most ``count`` samples of the first epoch, spread over all of them, by field."""
    positions = np.array(spread(range(len(samples)), count))
    rows = _empty(samples, len(positions))
    samples.fill(0, positions, rows)
    return rows


def _empty(samples: Samples, count: int) -> dict[str, np.ndarray]:
    return {name: np.empty((count, *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
