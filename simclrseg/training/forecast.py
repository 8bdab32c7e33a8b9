"""How long a run will take: said after its first steps, or found out by a dry run that leaves nothing behind."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from simclrseg.data.loader import Loader
from simclrseg.engine.history import Observer, Plan, StepRecord
from simclrseg.engine.task import Batch
from simclrseg.training.knobs import PATIENCE

log = logging.getLogger(__name__)

FIRST_STEPS = 20
WARM_UP = 2  # steps that are slower than the rest
DRY_STEPS = {"cpu": 5}
DRY_STEPS_ON_A_GPU = 22  # its times come in several steps at once
QUICK = 4.0  # seconds of dry steps that are taken whole; of others smaller ones tell
QUICK_ON_A_GPU = 15.0  # whose allocator then says what they took
FEW_TO_READ = 32
A_WHILE = 30.0  # seconds of a first step that is spoken of before it is taken
LONG_STEPS = 4e9  # bytes of a step's activations from which on it may take that long
LARGE_BATCHES = 2e6  # bytes of a batch's images, below which that need not be asked


class Forecast(Observer):
    """Says, once, how long the whole run will take, validation aside.

    Args:
        steps: after so many; the first ones are slower than the rest and do not count.
        suggestion: the command of a smaller run, given the seconds of this one; None where none is to be suggested.
        plan: of the whole run, where the steps are those of a dry run.

    Attributes:
        step: seconds of one.
        epoch, run: seconds of an epoch and of the whole run; 0 until they are known.
    """

    def __init__(
        self,
        *,
        steps: int = FIRST_STEPS,
        suggestion: Callable[[float], str] | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.step = self.epoch = self.run = 0.0
        self._steps = steps
        self._suggestion = suggestion
        self._whole = plan
        self._timed: list[float] = []

    def on_start(self, plan: Plan) -> None:
        self._plan = plan

    def on_step(self, record: StepRecord) -> None:
        step = record.step - self._plan.start_step
        if not WARM_UP < step <= self._steps:
            return
        self._timed.append(record.seconds)
        if step == self._steps:
            self.tell(sum(self._timed) / len(self._timed))

    def tell(self, step: float) -> None:
        """Say how long the run takes whose steps take so many seconds."""
        plan = self._whole or self._plan
        self.step = step
        self.epoch = self.step * plan.steps_per_epoch
        self.run = self.epoch * plan.epochs
        log.info(
            f"about {in_words(self.run)} for the whole run: "
            f"{plan.batch_size / self.step:,.3g} {plan.unit}/s, {self.step:.2g} s a step"
        )
        if self._suggestion is not None and self.run > PATIENCE:
            log.info(f"a smaller run: {self._suggestion(self.run)}")


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


def in_words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 20 min``, ``5 days 2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"
