"""Tasks, which the engine trains: a network with its loss, whatever it is for.

Write a ``CoupledTask`` where the loss compares samples with one another, else a ``SeparableTask``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Protocol

from torch import Tensor, nn

from simclrseg.engine.average import WeightAverage

Batch = dict[str, Tensor]
"""Tensors of one length by field (``image``, ``mask``, ``label``, ...), on the task's device."""
Logs = dict[str, Tensor | float]
"""Scalars to log, by name; they stay on their device until they are needed."""


class BaseTask(ABC):
    """Base of both kinds of tasks: a network, and hooks that do nothing by default.

    Attributes:
        model: what is trained; checkpoints hold its state, buffers and all.
        teacher: the part of ``model`` that is not trained but follows the rest, in ``after_step``; None for none. It
            computes as in evaluation, so that it answers alike in every process and micro-batch. Without gradient, it
            has no part in the optimizer, the average of weights and synchronized batch norm.
        average: the moving average of the weights, which ``fit`` puts here where it keeps one.
        memory: what ``after_step`` changes beside the model, and checkpoints hold; the same in all processes.
        neighbours: samples that follow one another in a batch and meet in the loss: each so many stay together in
            micro-batches and processes.
        batch_norm_needs: samples that batch norm must see at once for anything to be learned.
        too_few: what becomes of fewer, to follow "of fewer than 8".
    """

    model: nn.Module
    teacher: nn.Module | None = None
    average: WeightAverage | None = None
    memory: Mapping[str, Tensor] = MappingProxyType({})
    neighbours: int = 1
    batch_norm_needs: int = 1
    too_few: str = ""

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Scores over all batches; the first one is higher-is-better and picks the best epoch.

        A task without this cannot be validated.
        """
        raise NotImplementedError

    def measure(self) -> Logs:
        """Figures to log that cost more than a loss, asked for every few steps, after the forward pass."""
        return {}

    def before_step(self, step: int) -> None:  # noqa: B027
        """Prepare for the step, from 0, that is taken next, such as by a weight that grows over a training."""

    def after_step(self, step: int, steps: int) -> None:  # noqa: B027  # most have nothing to do
        """Change what follows after each update, without gradients: teachers, and buffers such as queues.

        Args:
            step: that was taken, from 0, of ``steps`` in the whole training.
        """

    def train(self, training: bool = True) -> None:
        """Put the model in the mode of training or of evaluation; a teacher always is in that of evaluation."""
        self.model.train(training)
        if self.teacher is not None:
            self.teacher.eval()

    @contextmanager
    def mode(self, *, training: bool) -> Iterator[None]:
        """Have the model in that mode while the block runs."""
        before = [(module, module.training) for module in self.model.modules()]  # frozen parts have their own
        self.train(training)
        try:
            yield
        finally:
            for module, own in before:
                module.training = own


class SeparableTask(BaseTask):
    """A task whose loss is a mean over samples: that of a batch adds up from its micro-batches."""

    @abstractmethod
    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """The loss, a mean over the samples of the batch, and what to log beside it."""


class CoupledTask(BaseTask):
    """A task whose loss compares the samples of a batch: micro-batches need gradient caching.

    The loss is ``batch_loss(embed(batch), step)``; there is no ``training_loss`` beside it, as the whole batch would
    then have another objective than its micro-batches.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if hasattr(cls, "training_loss"):
            raise TypeError(
                f"{cls.__name__} is a CoupledTask, whose loss is batch_loss(embed(batch), step): leave out "
                "training_loss, or make it a SeparableTask if its loss is a mean over samples"
            )

    @abstractmethod
    def embed(self, batch: Batch) -> Tensor:
        """Embed samples for the loss: (n, V, E), where V and E are the task's own, as views and features.

        Samples do not meet in it, but for batch norm. What needs no gradient, such as a teacher's answers or
        coordinates, is packed beside the rest, detached.
        """

    @abstractmethod
    def batch_loss(self, embeddings: Tensor, step: int) -> tuple[Tensor, Logs]:
        """The loss of the whole batch from its embeddings, and what to log beside it.

        Of several processes, each has the embeddings of its own samples, and ``distributed.gather`` those of all; the
        loss of the batch is the mean of the processes' losses. Random numbers that are drawn here follow from the seed
        and the step, alike in all processes.

        Args:
            embeddings: (N, V, E), float32 at least.
        """


Task = CoupledTask | SeparableTask


def check_task(task: object, *, scored: bool) -> None:
    """Refuse, by a TypeError, what cannot be trained as it should be, or be validated where it is to be ``scored``."""
    name = type(task).__name__
    if not isinstance(task, Task):
        raise TypeError(
            f"{name} is neither a CoupledTask nor a SeparableTask: derive it from one of them, so that the gradient of "
            "its micro-batches is that of the whole batch"
        )
    if scored and type(task).evaluate is BaseTask.evaluate:
        raise TypeError(f"{name} has no evaluate(): it cannot be validated")
    if task.teacher is None:
        return
    if all(module is not task.teacher for module in task.model.modules()):
        raise TypeError(f"{name}.teacher is no part of its model: a resumed run would have lost it")
    if any(parameter.requires_grad for parameter in task.teacher.parameters()):
        raise TypeError(f"{name}.teacher has a gradient: call requires_grad_(False) on it")


class Loader(Protocol):
    """Batches whose order and contents are functions of epoch and step alone, so that training can go on anywhere."""

    batch_size: int

    def __len__(self) -> int:
        """Steps of an epoch."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on, on the CPU; none when all of them were taken."""
