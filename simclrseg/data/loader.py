"""Batches from a pool of threads: OpenCV releases the GIL, so threads do what others need processes for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import cv2
import numpy as np
import torch

from simclrseg.data.randomness import permutation
from simclrseg.data.samples import Fields, spread
from simclrseg.errors import UsageError

_CHUNK = 8  # most samples of one task: enough to hide what a task costs, few enough to share a batch out
_AHEAD_BYTES = 256 << 20  # batches prepared ahead stay below this, though one there always is
_MAX_AHEAD = 4


class Samples(Protocol):
    """Samples as the loader needs them; see data/samples.py."""

    fields: Fields

    @property
    def skipped(self) -> Sequence[str]:
        """One line for each photo that could not be read so far."""
        ...

    def __len__(self) -> int: ...

    def fill(self, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]) -> None: ...


class Loader:
    """Batches of samples, the same whatever the number of threads and from whichever step they start.

    Each batch is a fresh dict of CPU tensors, by the names of ``samples.fields``: images and masks have
    their dataset's type, as uint8, and channels last, ``image`` (B, S, S, bands) or (B, 2, S, S, bands). The threads
    belong to an iterator and end with it.

    Args:
        batch_size: over all processes; each gets its contiguous share of every batch.
        seed: of the order.
        shuffle: a new order each epoch, else the order of the samples.
        drop_last: leave out the short batch at the end.
        threads: that read and augment.
        rank, world_size: this process among all of them.

    Raises:
        UsageError: if the batch cannot be shared out evenly, or is larger than the set where short ones are dropped.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool,
        drop_last: bool,
        threads: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise UsageError(
                f"batch size {batch_size} cannot be shared out over {world_size} processes",
                f"take {math.ceil(batch_size / world_size) * world_size}",
                option="batch_size",
                value=batch_size,
            )
        if drop_last and len(samples) < batch_size:
            raise UsageError(
                f"batch size {batch_size} is larger than the set of {len(samples)}",
                f"take {len(samples)} or less",
                option="batch_size",
                value=batch_size,
            )
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.threads = threads
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Steps of an epoch."""
        steps = len(self.samples) / self.batch_size
        return math.floor(steps) if self.drop_last else math.ceil(steps)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of an epoch from ``start_step`` on. What a thread raises is raised here, at its batch."""
        cv2.setNumThreads(0)  # each call on the thread that makes it; for the whole process
        order = permutation(self.seed, epoch, len(self.samples)) if self.shuffle else np.arange(len(self.samples))
        steps = iter(range(start_step, len(self)))
        pending: deque[_Batch] = deque()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="simclrseg-loader")
        try:
            for _ in range(self._ahead()):
                self._submit(pool, epoch, order, steps, pending)
            while pending:
                arrays, tasks = pending.popleft()
                for task in tasks:
                    task.result()
                self._submit(pool, epoch, order, steps, pending)
                yield {name: torch.from_numpy(array) for name, array in arrays.items()}
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(
        self, pool: ThreadPoolExecutor, epoch: int, order: np.ndarray, steps: Iterator[int], pending: deque[_Batch]
    ) -> None:
        """Hand the next batch, if there is one, to the threads."""
        step = next(steps, None)
        if step is None:
            return
        batch = order[step * self.batch_size : (step + 1) * self.batch_size]
        first, last = (len(batch) * rank // self.world_size for rank in (self.rank, self.rank + 1))
        positions = batch[first:last]
        # Fresh memory for each batch: the consumer may keep one as long as it likes.
        arrays = {
            name: np.empty((len(positions), *shape), dtype) for name, (shape, dtype) in self.samples.fields.items()
        }
        chunk = max(1, min(_CHUNK, math.ceil(len(positions) / self.threads)))
        tasks = []
        for start in range(0, len(positions), chunk):
            rows = slice(start, start + chunk)
            out = {name: array[rows] for name, array in arrays.items()}
            tasks.append(pool.submit(self.samples.fill, epoch, positions[rows], out))
        pending.append((arrays, tasks))

    def _ahead(self) -> int:
        """Batches to prepare while the consumer works on one."""
        row = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.samples.fields.values())
        return min(_MAX_AHEAD, max(1, _AHEAD_BYTES // (row * self.batch_size // self.world_size)))


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


_Batch = tuple[dict[str, np.ndarray], list["Future[None]"]]


def some_rows(samples: Samples, count: int) -> dict[str, np.ndarray]:
    """At most ``count`` samples of the first epoch, spread over all of them, by field."""
    positions = np.array(spread(range(len(samples)), count))
    rows = {name: np.empty((len(positions), *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(0, positions, rows)
    return rows
