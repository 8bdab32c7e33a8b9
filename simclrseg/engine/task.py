"""What the engine knows of the thing that it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

# A batch is a dict of tensors of one length, by field (``image``, ``mask``, ``label``, ...), on the task's device.
Batch = dict[str, Tensor]
# What to log: scalars by name; they stay on their device until they are needed.
Logs = dict[str, Tensor | float]


@runtime_checkable
class Task(Protocol):
    """A network and its loss."""

    @property
    def model(self) -> nn.Module: ...

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """The loss, a mean over the samples of the batch, and what to log beside it."""
        ...


@runtime_checkable
class ValidatedTask(Task, Protocol):
    """A task that can be scored; without it there is no best epoch."""

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Scores over all batches; the first one is higher-is-better and picks the best epoch."""
        ...


@runtime_checkable
class ContrastiveTask(Task, Protocol):
    """A task whose loss couples the samples of a batch, so that micro-batches need gradient caching.

    ``training_loss(batch)`` is ``batch_loss(embed(batch))``.
    """

    def embed(self, batch: Batch) -> Tensor:
        """Embeddings of both views of each sample, (n, 2, D); samples do not meet in it, but for batch norm."""
        ...

    def batch_loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """The loss of the whole batch from its embeddings (N, 2, D), and what to log beside it."""
        ...


@runtime_checkable
class MeasuredTask(Task, Protocol):
    """A task with something to log that costs more than a loss, or waits for the device."""

    def measure(self) -> Logs:
        """Asked every few steps, after the forward pass of a step and about it."""
        ...


class Loader(Protocol):
    """Batches whose order and contents are functions of epoch and step alone, so that training can go on anywhere."""

    batch_size: int

    def __len__(self) -> int:
        """Steps of an epoch."""
        ...

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on, on the CPU; none when all of them were taken."""
        ...
