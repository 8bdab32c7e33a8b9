"""The gradient of one batch, in one piece or from micro-batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from simclrseg import distributed
from simclrseg.engine.runtime import autocast
from simclrseg.engine.task import Batch, ContrastiveTask, Logs, Task


@dataclass(frozen=True)
class Passes:
    """How forward passes run: their number format, and their random numbers, which follow from seed and step."""

    device: torch.device
    precision: str
    seed: int

    @contextmanager
    def forward(self, step: int, part: int) -> Iterator[None]:
        """Context of one forward pass; the same step and part give the same random numbers again."""
        name = f"{self.seed}/{step}/{distributed.rank()}/{part}"
        torch.manual_seed(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest()))
        with autocast(self.device, self.precision):
            yield


def accumulate_gradient(
    task: Task,
    batch: Batch,
    *,
    step: int,
    micro_batch: int | None,
    passes: Passes,
    scaler: torch.amp.GradScaler,
) -> tuple[Tensor, Logs]:
    """Add the gradient of the batch's loss to the parameters.

    A loss that is a mean over samples adds up from its micro-batches, each weighted by its length. One that couples
    samples does not: it takes the cached gradient.

    Args:
        step: optimizer step, from 0.
        micro_batch: samples whose activations are in memory at once; None for all.

    Returns:
        The loss of the batch and what to log.
    """
    size = batch_length(batch)
    parts = _split(batch, micro_batch or size)
    if len(parts) > 1 and isinstance(task, ContrastiveTask):
        return _cached(task, parts, step=step, passes=passes, scaler=scaler)
    total: Logs = {}
    for number, part in enumerate(parts):
        weight = batch_length(part) / size
        with passes.forward(step, number):
            loss, logs = task.training_loss(part)
        scaler.scale(loss * weight).backward()
        for name, value in {"loss": loss.detach(), **logs}.items():
            total[name] = total.get(name, 0.0) + value * weight
    return total.pop("loss"), total  # type: ignore[return-value]


def _cached(
    task: ContrastiveTask, parts: list[Batch], *, step: int, passes: Passes, scaler: torch.amp.GradScaler
) -> tuple[Tensor, Logs]:
    """Gradient caching (Gao et al. 2021, §3): the whole batch's gradient with one micro-batch's activations.

    Embed all without a graph, differentiate the loss by the embeddings, then embed each micro-batch again, with the
    same random numbers, and continue from its share of that gradient. Equal to the whole batch's gradient, but that
    batch norm sees a micro-batch; its running statistics change in the second pass only.
    """
    embeddings = []
    with torch.no_grad(), _buffers_kept(task.model):
        for number, part in enumerate(parts):
            with passes.forward(step, number):
                embeddings.append(_widened(task.embed(part)))
    leaf = torch.cat(embeddings).requires_grad_()  # (N, 2, D)
    loss, logs = task.batch_loss(leaf)
    (gradient,) = torch.autograd.grad(scaler.scale(loss), leaf)
    shares = gradient.split([batch_length(part) for part in parts])
    for number, (part, share) in enumerate(zip(parts, shares, strict=True)):
        with passes.forward(step, number):
            again = _widened(task.embed(part))
        again.backward(share)
    return loss.detach(), logs


def batch_length(batch: Batch) -> int:
    """Number of samples in a batch."""
    return len(next(iter(batch.values())))


def _split(batch: Batch, size: int) -> list[Batch]:
    columns = [tensor.split(size) for tensor in batch.values()]
    return [dict(zip(batch, part, strict=True)) for part in zip(*columns, strict=True)]


def _widened(embeddings: Tensor) -> Tensor:
    """In float32 at least: the loss compares them all."""
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Undo what forward passes do to buffers, such as batch norm's running statistics."""
    before = [buffer.clone() for buffer in model.buffers()]
    yield
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
