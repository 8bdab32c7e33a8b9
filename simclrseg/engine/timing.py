"""The time of a training step, from smaller ones of the same network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from simclrseg.engine.batch_norm import synchronized
from simclrseg.engine.footprint import Fields, blank_batch
from simclrseg.engine.gradients import Passes, accumulate_gradient, buffers_kept, number_of_parts
from simclrseg.engine.runtime import freed_memory_kept
from simclrseg.engine.task import CoupledTask, Task
from simclrseg.system import distributed

ENOUGH = 1.0  # seconds of a step that tells: what does not grow with its images is little beside it
SLOW = 5.0  # seconds of a first step that is not taken again, though libraries prepare themselves in it
LARGEST_LOSS = 4096  # images whose embeddings are compared; of more, the time grows with their square
LEAST_SLOPE = 0.6  # of the time an image took so far: less is noise


@dataclass(frozen=True)
class StepTime:
    """How long a step takes, reading images and the optimizer aside.

    Attributes:
        images: of the largest step that was taken for it.
    """

    seconds: float
    images: int


def step_time(
    task: Task, fields: Fields, *, batch_size: int, micro_batch: int, together: int = 1, passes: Passes
) -> StepTime:
    """Time small steps of the real network, each larger than the one before, until one takes long enough to tell.

    The task is left as it was. Of several processes all take the same steps.

    Args:
        fields: of the samples that batches are made of.
        batch_size: of this process.
        together: samples of all processes that a forward pass must have, of ``least_together``.
    """
    shares = [batch_size] * distributed.world_size()
    parts = number_of_parts(shares, micro_batch, together, task.neighbours)
    whole = math.ceil(batch_size / parts)
    least = -(-max(together, 2) // distributed.world_size())
    size = min(whole, -(-least // task.neighbours) * task.neighbours)
    task.model.to(passes.device).to(memory_format=torch.channels_last)

    def seconds(images: int) -> float:
        """The first step of a size is slower, as libraries prepare themselves."""
        first = _seconds(task, fields, images, together, passes, embedded_twice=parts > 1)
        if first > (SLOW if images == size else ENOUGH):
            return first
        return min(first, _seconds(task, fields, images, together, passes, embedded_twice=parts > 1))

    with (
        torch.random.fork_rng(devices=[]),
        task.mode(training=True),
        freed_memory_kept(passes.device),
        synchronized(task.model, task.teacher),
        buffers_kept(task.model),
    ):
        timed = [(size, seconds(size))]
        while (images := timed[-1][0]) < whole and timed[-1][1] < ENOUGH:
            timed.append((min(whole, 2 * images), seconds(min(whole, 2 * images))))
        found = parts * _extrapolated(timed, whole)
        if isinstance(task, CoupledTask) and images < batch_size:
            found += _loss_seconds(task, fields, batch_size, passes)
    return StepTime(found, images)


def _seconds(task: Task, fields: Fields, images: int, together: int, passes: Passes, *, embedded_twice: bool) -> float:
    """Of forward and backward pass of so many images; with gradient caching they are embedded once more before."""
    batch = blank_batch(fields, images, passes.device)

    def step() -> None:
        if embedded_twice and isinstance(task, CoupledTask):
            with torch.no_grad(), passes.forward(0, 0):
                task.embed(batch)
        scaler = torch.amp.GradScaler(passes.device.type, enabled=False)
        accumulate_gradient(task, batch, step=0, micro_batch=images, together=together, passes=passes, scaler=scaler)

    try:
        return _timed(step, passes.device)
    finally:
        for parameter in task.model.parameters():
            parameter.grad = None


def _loss_seconds(task: CoupledTask, fields: Fields, batch_size: int, passes: Passes) -> float:
    """Of the loss of a whole batch, which compares its images with one another, and its gradient."""
    with torch.no_grad(), passes.forward(0, 0):
        few = task.embed(blank_batch(fields, 2 * task.neighbours, passes.device))
    few = few.to(torch.promote_types(few.dtype, torch.float32))
    count = min(batch_size, LARGEST_LOSS)
    embeddings = few.repeat(math.ceil(count / len(few)), 1, 1)[:count].requires_grad_()

    def loss() -> None:
        torch.autograd.grad(task.batch_loss(embeddings, 0)[0], embeddings)

    return _timed(loss, passes.device) * (batch_size / count) ** 2


def _timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the process that takes longest."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return distributed.largest(round((time.perf_counter() - began) * 1e6)) / 1e6


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _extrapolated(timed: Sequence[tuple[int, float]], images: int) -> float:
    """The time of so many images, on the line through the last two that were timed."""
    most, longest = timed[-1]
    each = longest / most
    if len(timed) > 1:
        fewer, shorter = timed[-2]
        each = min(each, max(LEAST_SLOPE * each, (longest - shorter) / (most - fewer)))
    return longest + each * (images - most)
