"""A dry run: a few steps, or smaller ones that tell, and what the whole run takes by them; nothing is left behind."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from simclrseg.data.loader import Loader
from simclrseg.engine.history import Plan
from simclrseg.engine.loop import fit
from simclrseg.engine.runtime import compiled
from simclrseg.engine.task import Batch
from simclrseg.training.batches import MicroBatching
from simclrseg.training.forecast import Forecast, in_words

log = logging.getLogger(__name__)

DRY_STEPS = {"cpu": 5}
DRY_STEPS_ON_A_GPU = 22  # its times come in several steps at once
QUICK = 4.0  # seconds of dry steps that are taken whole; of others smaller ones tell
QUICK_ON_A_GPU = 15.0  # whose allocator then says what they took
FEW_TO_READ = 32


@dataclass(frozen=True)
class DryRun:
    """The findings of a dry run, in words where people read them.

    Attributes:
        seconds: of the whole run.
        bytes, bytes_while_training: of its files, and of those that are there besides until it is finished.
    """

    dry_run: str
    micro_batch: int
    memory: str
    images_per_second: float
    epoch: str
    whole_run: str
    disk: str
    seconds: float
    bytes: int
    bytes_while_training: int

    @classmethod
    def of(
        cls,
        forecast: Forecast,
        *,
        images: int | None,
        batch_size: int,
        micro_batch: int,
        memory: int,
        kept: int,
        while_training: int,
    ) -> Self:
        """The findings as the forecast has them.

        Args:
            images: of the largest step that was taken, where it is smaller than those of the run.
            memory: bytes at most.
            kept, while_training: bytes of the run's files, and of those that are there besides until it is finished.
        """
        told_by = "" if images is None else f"an estimate from a step of {images} photos; "
        return cls(
            dry_run=f"{told_by}nothing was written",
            micro_batch=micro_batch,
            memory=f"{memory / 1e9:.1f} GB",
            images_per_second=batch_size / forecast.step,
            epoch=in_words(forecast.epoch),
            whole_run=in_words(forecast.run),
            disk=f"{kept / 1e6:.0f} MB, and {while_training / 1e6:.0f} MB more while it trains",
            seconds=forecast.run,
            bytes=kept,
            bytes_while_training=while_training,
        )

    def in_words(self) -> dict[str, Any]:
        """What people read of it."""
        numbers = ("seconds", "bytes", "bytes_while_training")
        return {name: value for name, value in vars(self).items() if name not in numbers}


def rehearse(
    batching: MicroBatching,
    optimizer: torch.optim.Optimizer,
    *,
    suggestion: Callable[[float], str] | None,
    kept: int,
    best: bool,
) -> DryRun:
    """Take a few steps, or smaller ones that tell, and say what the run takes; no weight moves.

    Args:
        suggestion: seconds of the run -> what to advise where that is long.
        kept: bytes of the weights that the run keeps.
        best: whether the weights of the best epoch lie beside its states while it trains.
    """
    session, task, batches = batching.session, batching.task, batching.batches
    training, machine = session.config.training, session.machine
    micro_batch = batching.choose({})
    steps = DRY_STEPS.get(machine.device.type, DRY_STEPS_ON_A_GPU)
    plan = Plan(training.total_epochs, len(batches), 0, (), batches.batch_size)
    forecast, images = Forecast(steps=steps, suggestion=suggestion, plan=plan), None
    small = batching.time_a_step(micro_batch)
    if small.seconds * steps < (QUICK if machine.device.type == "cpu" else QUICK_ON_A_GPU):
        with compiled(task.model, enabled=training.compile):
            fit(
                task,
                FirstSteps(batches, steps),
                optimizer=optimizer,
                schedule=lambda step: 0.0,
                epochs=1,
                device=machine.device,
                precision=machine.precision,
                micro_batch=micro_batch,
                together=batching.together,
                clip=training.clip,
                observers=[forecast],
                seed=session.config.run.seed,
            )
        memory = peak_memory(machine.device)
    else:
        if training.compile:
            log.info("timed as without --compile, which takes minutes before the first step and less after it")
        memory = peak_memory(machine.device) + batching.footprint.fixed + micro_batch * batching.footprint.image
        computing = small.seconds + update_seconds(optimizer)
        reading = reading_seconds(batches)
        images = small.images
        # a CPU computes with the threads that read
        forecast.tell(computing + reading if machine.device.type == "cpu" else max(computing, reading))
    weights = bytes_of(task.model.state_dict())
    state = weights + bytes_of(optimizer.state_dict()) + (weights if getattr(training, "ema", None) else 0)
    return DryRun.of(
        forecast,
        images=images,
        batch_size=batches.batch_size,
        micro_batch=micro_batch,
        memory=memory,
        kept=kept,
        while_training=session.config.run.keep_checkpoints * state + weights * best,
    )


def update_seconds(optimizer: torch.optim.Optimizer) -> float:
    """Of the optimizer's step, which is taken without moving anything."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    began = time.perf_counter()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - began


def reading_seconds(batches: Loader) -> float:
    """Seconds in which all threads read a batch: told by a part of it."""
    unit = batches.neighbours * batches.world_size
    count = min(batches.batch_size, -(-FEW_TO_READ // unit) * unit)
    few = iter(replace(batches, batch_size=count, drop_last=True).epoch(0))
    began = time.perf_counter()
    next(few)
    return (time.perf_counter() - began) * batches.batch_size / count


class FirstSteps:
    """A loader's first steps, as often as needed: an epoch for a dry run."""

    def __init__(self, loader: Loader, steps: int) -> None:
        self.batch_size = loader.batch_size
        self._loader = loader
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        done = start_step
        while done < self._steps:
            for batch in self._loader.epoch(epoch):
                yield batch
                done += 1
                if done == self._steps:
                    return


def bytes_of(tree: Any) -> int:
    """Bytes of all tensors in nested dicts and lists."""
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        tree = list(tree.values())
    return sum(map(bytes_of, tree)) if isinstance(tree, list | tuple) else 0


def peak_memory(device: torch.device) -> int:
    """Most bytes so far: of the GPU's memory, or of this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
