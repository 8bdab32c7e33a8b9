"""How a process takes its share of a batch: so many images at once as its memory and batch norm allow."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from simclrseg.data.loader import Loader
from simclrseg.engine.footprint import (
    Footprint,
    free_memory,
    largest_micro_batch,
    least_micro_batch,
    least_together,
    measure_footprint,
    smaller_micro_batch,
    takes_nothing,
)
from simclrseg.engine.gradients import Passes
from simclrseg.engine.task import Task
from simclrseg.engine.timing import StepTime, step_time
from simclrseg.errors import UsageError
from simclrseg.system import distributed
from simclrseg.system.hardware import explained_shortage
from simclrseg.training.forecast import in_words
from simclrseg.training.knobs import MORE_PHOTOS, Training
from simclrseg.training.session import Session

log = logging.getLogger(__name__)

A_WHILE = 30.0  # seconds of a first step that is spoken of before it is taken
LONG_STEPS = 4e9  # bytes of a step's activations from which on it may take that long
LARGE_BATCHES = 2e6  # bytes of a batch's images, below which that need not be asked


class MicroBatching:
    """Parts of a batch that a process computes one after the other: how large they may be, and what they take.

    Attributes:
        together: samples of all processes that a forward pass must have, of ``least_together``.
        least: images of a micro-batch, of ``least_micro_batch``.
    """

    def __init__(self, session: Session[Any], task: Task, batches: Loader) -> None:
        self.session, self.task, self.batches = session, task, batches
        self.together = least_together(task, batches.fields)
        self.least = least_micro_batch(task, self.together)

    @property
    def own(self) -> int:
        """Images of a batch that are this process's."""
        return self.batches.batch_size // distributed.world_size()

    def check(self) -> None:
        """Refuse what batch norm, or a process of a last batch, could not be trained with.

        Raises:
            UsageError: if batch norm cannot take the micro-batch that was asked for, or the network not what is left
                for a process of a last batch.
        """
        asked = self.session.config.training.micro_batch
        if asked != "auto" and asked * distributed.world_size() < self.together:
            raise UsageError(
                f"--micro-batch {asked}: of one image a batch norm of this network sees one value a channel, and "
                "learns nothing from that",
                f"take {self.together} or more",
                option="micro_batch",
                value=asked,
            )
        check_last_batch(self.task, self.batches)

    def choose(self, recorded: Mapping[str, Any]) -> int:
        """Images of this process in memory at once, at most its share of a batch; a resumed run has those recorded.

        By another number of processes it has as many together, as far as they fit: batch norm sees them all.
        """
        processes = distributed.world_size()
        asked, before = self.session.config.training.micro_batch, recorded.get("processes")
        known = recorded.get("micro_batch") if asked == "auto" else None
        if known is not None and before == processes:
            asked = known
        if asked == "auto":
            asked = -distributed.largest(-self.fitting())  # the same for all processes
            if known is not None and before is not None:
                asked = min(asked, max(1, known * before // processes))
        micro_batch: int = min(self.own, -(-asked // self.task.neighbours) * self.task.neighbours)
        if micro_batch < self.least:
            all_of_them = processes * micro_batch >= len(self.batches.samples)
            remedy = MORE_PHOTOS if all_of_them else "take a larger --micro-batch, or --batch-size"
            log.warning(
                f"batch norm sees {processes * micro_batch} photos at a time, and of fewer than "
                f"{processes * self.least} {self.task.too_few}: little can be learned; {remedy}"
            )
        return micro_batch

    def fitting(self) -> int:
        """This process's whole share of a batch where it fits the free memory, else a part of it that does; say so."""
        own, free = self.own, free_memory(self.session.machine.device)
        if free is None:
            log.info(f"micro-batch {own} of {own}: this system does not say how much memory is free")
            return own
        image, fixed = self.footprint.image, self.footprint.fixed
        micro_batch = largest_micro_batch(own, self.footprint, free, least=self.least)
        log.info(f"micro-batch {micro_batch} of {own}: about {image / 1e6:,.3g} MB an image, {free / 1e9:.1f} GB free")
        if fixed + micro_batch * image > free:
            log.warning(f"{micro_batch} images may not fit the memory: a smaller --image-size or --backbone takes less")
        return micro_batch

    def smaller(self, micro_batch: int) -> int | None:
        """The next one to try where memory was short; None where fewer images will not do."""
        return smaller_micro_batch(micro_batch, self.own, least=self.least)

    @cached_property
    def footprint(self) -> Footprint:
        """Memory of a step of this process."""
        machine = self.session.machine
        self.task.model.to(machine.device).to(memory_format=torch.channels_last)
        passes = Passes(machine.device, machine.precision, seed=0)
        return measure_footprint(self.task, self.batches.fields, batch_size=self.own, passes=passes)

    def time_a_step(self, micro_batch: int) -> StepTime:
        """How long this process's share of a step takes, told by smaller ones."""
        machine, seed = self.session.machine, self.session.config.run.seed
        with explained_shortage("in a step of a few photos", "try a smaller --image-size or --backbone"):
            return step_time(
                self.task,
                self.batches.fields,
                batch_size=self.own,
                micro_batch=micro_batch,
                together=self.together,
                passes=Passes(machine.device, machine.precision, seed),
            )

    def announce_a_long_step(self, micro_batch: int) -> None:
        """Say of a first step that takes long how long it does, before it is taken."""
        row = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.batches.fields.values())
        if self.session.machine.device.type == "cuda" or self.own * row < LARGE_BATCHES:
            return
        is_long = self.own * self.footprint.image > LONG_STEPS
        if is_long and (found := self.time_a_step(micro_batch)).seconds > A_WHILE:
            log.info(f"the first step takes about {in_words(found.seconds)} here")


def check_last_batch(task: Task, batches: Loader) -> None:
    """Refuse by UsageError processes that a last batch has nothing for, where the network needs something."""
    if (most := batches.most_processes) < batches.world_size and not takes_nothing(task, batches.fields):
        fewer = next(count for count in range(most, 0, -1) if batches.batch_size % count == 0)
        raise UsageError(
            f"the last batch of an epoch has photos for {most} of {batches.world_size} processes, and this network "
            "cannot do without any",
            f"take --devices {fewer}",
            option="devices",
            value=batches.world_size,
        )


def tell_batch(asked: Training, batch_size: int) -> None:
    """Say where a batch became smaller than what was asked for."""
    if batch_size < asked.batch_size:
        processes = distributed.world_size()
        evenly = f" that {processes} processes share evenly" if processes > 1 else ""
        log.info(f"batch {batch_size} instead of {asked.batch_size}: an epoch has no more{evenly}")
