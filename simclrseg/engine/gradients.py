"""The gradient of one batch, in one piece or from micro-batches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from simclrseg.engine.depthwise import fast_depthwise
from simclrseg.engine.runtime import autocast
from simclrseg.engine.task import Batch, CoupledTask, Logs, SeparableTask, Task
from simclrseg.system import distributed


@dataclass(frozen=True)
class Passes:
    """Number format of forward passes, and their random numbers, which follow from seed and step."""

    device: torch.device
    precision: str
    seed: int

    @contextmanager
    def forward(self, step: int, part: int) -> Iterator[None]:
        """Context of one forward pass; the same step and part give the same random numbers again."""
        _seed(f"{self.seed}/{step}/{distributed.rank()}/{part}")
        with autocast(self.device, self.precision), fast_depthwise(self.device):
            yield


def _seed(name: str) -> None:
    torch.manual_seed(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest()))


def accumulate_gradient(
    task: Task,
    batch: Batch,
    *,
    step: int,
    micro_batch: int | None,
    together: int = 1,
    passes: Passes,
    scaler: torch.amp.GradScaler,
) -> tuple[Tensor, Logs]:
    """Add the gradient of the batch's loss to the parameters.

    Each of several processes has its share of the batch: losses are weighted by it, and their gradients summed.

    Args:
        micro_batch: samples whose activations are in memory at once; None for all.
        together: samples of all processes that a forward pass must have, of ``least_together``.

    Returns:
        The loss of the batch and what to log.
    """
    shares = distributed.gather(torch.tensor([batch_length(batch)])).tolist()
    size = sum(shares)
    parts = split(batch, number_of_parts(shares, micro_batch or size, together, task.neighbours), task.neighbours)
    if isinstance(task, CoupledTask):
        total = _coupled(task, parts, size, step=step, passes=passes, scaler=scaler)
    else:
        total = _separable(task, parts, size, step=step, passes=passes, scaler=scaler)
    distributed.sum_in_place([parameter.grad for parameter in task.model.parameters() if parameter.grad is not None])
    if distributed.world_size() > 1:
        logged = [torch.as_tensor(value, dtype=torch.float32, device=passes.device) for value in total.values()]
        total = dict(zip(total, distributed.total(torch.stack(logged)), strict=True))  # still on the device
    return torch.as_tensor(total.pop("loss")), total


def _separable(
    task: SeparableTask, parts: list[Batch], size: int, *, step: int, passes: Passes, scaler: torch.amp.GradScaler
) -> Logs:
    """Add up the mean over samples from the micro-batches, each weighted by its length."""
    total: Logs = {}
    for number, part in enumerate(parts):
        weight = batch_length(part) / size
        with passes.forward(step, number):
            loss, logs = task.training_loss(part)
        scaler.scale(loss * weight).backward()
        _add(total, {"loss": loss.detach(), **logs}, weight)
    return total


def _coupled(
    task: CoupledTask, parts: list[Batch], size: int, *, step: int, passes: Passes, scaler: torch.amp.GradScaler
) -> Logs:
    """Gradient caching (Gao et al. 2021, §3): the whole batch's gradient with one micro-batch's activations.

    Embed all without a graph, differentiate the loss by the embeddings, then embed each micro-batch again, with the
    same random numbers, and continue from its share of that gradient. Equal to the whole batch's gradient, but that
    batch norm sees a micro-batch; its running statistics change in the second pass only.
    """

    def embed(number: int) -> Tensor:
        with passes.forward(step, number):
            embeddings = task.embed(parts[number])
        return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))  # the loss compares them all

    if len(parts) == 1:
        embeddings = embed(0)
    else:
        with torch.no_grad(), buffers_kept(task.model):
            embeddings = torch.cat([embed(number) for number in range(len(parts))]).requires_grad_()  # (N, V, E)
    weight = len(embeddings) / size
    _seed(f"{passes.seed}/{step}")  # the loss is that of the whole batch: all processes share its random numbers
    loss, logs = task.batch_loss(embeddings, step)
    if len(parts) == 1:
        scaler.scale(loss * weight).backward()
    else:
        (gradient,) = torch.autograd.grad(scaler.scale(loss * weight), embeddings)
        for number, share in enumerate(gradient.split([batch_length(part) for part in parts])):
            embed(number).backward(share)
    total: Logs = {}
    _add(total, {"loss": loss.detach(), **logs}, weight)
    return total


def _add(total: Logs, logs: Logs, weight: float) -> None:
    for name, value in logs.items():
        # the mean over no samples is not a number
        total[name] = total.get(name, 0.0) + (value * weight if weight else 0.0)


def batch_length(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def number_of_parts(shares: Sequence[int], micro_batch: int, together: int = 1, neighbours: int = 1) -> int:
    """Micro-batches of a batch, as many in each process: batch norm lets them wait for one another.

    Each has ``together`` samples or more, of all processes: what would be left alone joins the others, though one of
    them then has one more than ``micro_batch``. ``shares`` are the samples of each process.

    Args:
        neighbours: samples that are not split.
    """
    units = [math.ceil(share / neighbours) for share in shares]
    most = math.ceil(max(units) / max(1, micro_batch // neighbours))
    enough = (parts for parts in range(most, 1, -1) if neighbours * sum(unit // parts for unit in units) >= together)
    return next(enough, 1)


def split(batch: Batch, parts: int, neighbours: int = 1) -> list[Batch]:
    """Micro-batches of nearly the same length; the shorter ones, which may be empty, come last."""
    size, more = divmod(math.ceil(batch_length(batch) / neighbours), parts)
    ends = [neighbours * (size * part + min(part, more)) for part in range(1, parts)]
    columns = [tensor.tensor_split(ends) for tensor in batch.values()]
    return [dict(zip(batch, part, strict=True)) for part in zip(*columns, strict=True)]


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Undo what forward passes do to buffers, such as batch norm's running statistics."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)
