"""A training of a command: its machine and its run around the engine, from the first check to the last picture."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Generic, Literal, Self

import numpy as np
import torch
from torch import nn

from simclrseg.charts import plots
from simclrseg.data.loader import Loader
from simclrseg.engine import OPTIMIZERS, SCHEDULES
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.engine.footprint import (
    Footprint,
    least_micro_batch,
    least_together,
    measure_footprint,
    smaller_micro_batch,
    takes_nothing,
)
from simclrseg.engine.freezing import Freezing
from simclrseg.engine.gradients import Passes
from simclrseg.engine.history import FileHistory, Observer, Plan
from simclrseg.engine.loggers import MakeLogger, logger
from simclrseg.engine.loop import FitResult, evaluate, fit
from simclrseg.engine.optimizers import parameter_groups
from simclrseg.engine.runtime import compiled
from simclrseg.engine.schedules import ending_at
from simclrseg.engine.task import Loader as Validation
from simclrseg.engine.task import Task
from simclrseg.engine.timing import StepTime, step_time
from simclrseg.errors import Interrupted, OutOfMemory, SimclrsegError, Terminated, TrainingError, UsageError
from simclrseg.runs.names import Kind
from simclrseg.runs.run import Run, finish, record_facts
from simclrseg.system import distributed
from simclrseg.system.hardware import explained_shortage
from simclrseg.training.curves import training_curves
from simclrseg.training.folder import Config, first_step, open_run, resumed_run, start_anew
from simclrseg.training.forecast import (
    A_WHILE,
    DRY_STEPS,
    DRY_STEPS_ON_A_GPU,
    LARGE_BATCHES,
    LONG_STEPS,
    QUICK,
    QUICK_ON_A_GPU,
    DryRun,
    FirstSteps,
    Forecast,
    bytes_of,
    in_words,
    peak_memory,
    reading_seconds,
)
from simclrseg.training.knobs import MORE_PHOTOS, Training, values_by_key
from simclrseg.training.machine import Machine, as_begun, fitting_micro_batch, prepare_machine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session(Generic[Config]):
    """Config, machine and run of a training, known before anything is read.

    Attributes:
        loggers: the tools that get the numbers too.
        resumed: the run to continue, if it is not a new one.
        requested: the configuration to store, where that of ``config`` is what became of it.
    """

    kind: Kind
    config: Config
    machine: Machine
    loggers: Sequence[MakeLogger] = ()
    resumed: Run | None = None
    requested: Config | None = None

    @classmethod
    def begin(cls, kind: Kind, config: Config) -> Self:
        """Meet the other processes, choose device and number format, and find the run to continue."""
        machine = prepare_machine(config.hardware, config.hardware.precision)
        loggers = [logger(name) for name in dict.fromkeys(config.run.log)]
        resumed, config = resumed_run(kind, config)
        return cls(kind, config, as_begun(machine, resumed), loggers, resumed)


class Trainer:
    """A task, the images that it is trained on, and the run that comes of them.

    Args:
        validation: what epochs are compared on; None where nothing is to be scored.
        learning_rate: at the peak of the schedule.
        suggestion: seconds of a run -> what to advise where that is long.
        scales: of learning rates, by parameter.
        trained: whether the run is trained to its end, and only has to be finished.

    Attributes:
        run: its folder, once it is open.
        micro_batch: images of this process in memory at once, once the run is open.

    Raises:
        UsageError: if batch norm cannot take the micro-batch that was asked for, or the network not what is left for a
            process of a last batch.
    """

    run: Run
    micro_batch: int

    def __init__(
        self,
        session: Session[Any],
        task: Task,
        batches: Loader,
        validation: Validation | None,
        *,
        learning_rate: float,
        suggestion: Callable[[float], str] | None,
        scales: Mapping[nn.Parameter, float] | None = None,
        trained: bool = False,
    ) -> None:
        self.session, self.task, self.batches, self.validation = session, task, batches, validation
        self.learning_rate, self.suggestion, self.scales = learning_rate, suggestion, scales
        self.training = session.config.training
        self.together = least_together(task, batches.fields)
        self.least = least_micro_batch(task, self.together)
        asked = self.training.micro_batch
        if not trained and asked != "auto" and asked * distributed.world_size() < self.together:
            raise UsageError(
                f"--micro-batch {asked}: of one image a batch norm of this network sees one value a channel, and "
                "learns nothing from that",
                f"take {self.together} or more",
                option="micro_batch",
                value=asked,
            )
        if not trained:
            check_last_batch(task, batches)

    @contextmanager
    def open(self, *, name: str, images: Sequence[str], **facts: Any) -> Iterator[Run]:
        """Claim the run's folder, as ``open_run``, and choose the micro-batch."""
        session = self.session
        with open_run(
            session.kind,
            session.requested or session.config,
            resumed=session.resumed,
            name=name,
            machine=session.machine,
            images=images,
            learning_rate=self.learning_rate,
            epochs=self.training.total_epochs,
            batch_size=self.training.batch_size,
            **facts,
        ) as self.run:
            self.micro_batch = self._choose_micro_batch(self.run.environment)
            if distributed.is_main():
                record_facts(self.run, micro_batch=self.micro_batch)
            yield self.run

    def rehearse(self, *, files: int) -> DryRun:
        """Take a few steps, or smaller ones that tell, and say what the run, with so many files of weights, takes."""
        training, machine, batches = self.training, self.session.machine, self.batches
        micro_batch = self._choose_micro_batch({})
        steps = DRY_STEPS.get(machine.device.type, DRY_STEPS_ON_A_GPU)
        plan = Plan(training.total_epochs, len(batches), 0, (), batches.batch_size)
        forecast, images = Forecast(steps=steps, suggestion=self.suggestion, plan=plan), None
        optimizer = self._optimizer(None)
        small = self._time_a_step(micro_batch)
        if small.seconds * steps < (QUICK if machine.device.type == "cpu" else QUICK_ON_A_GPU):
            with compiled(self.task.model, enabled=training.compile):
                fit(
                    self.task,
                    FirstSteps(batches, steps),
                    optimizer=optimizer,
                    schedule=lambda step: 0.0,
                    epochs=1,
                    device=machine.device,
                    precision=machine.precision,
                    micro_batch=micro_batch,
                    together=self.together,
                    clip=training.clip,
                    observers=[forecast],
                    seed=self.session.config.run.seed,
                )
            memory = peak_memory(machine.device)
        else:
            if training.compile:
                log.info("timed as without --compile, which takes minutes before the first step and less after it")
            memory = peak_memory(machine.device) + self.footprint.fixed + micro_batch * self.footprint.image
            computing = small.seconds + self._update_seconds(optimizer)
            reading = reading_seconds(batches)
            images = small.images
            # a CPU computes with the threads that read
            forecast.tell(computing + reading if machine.device.type == "cpu" else max(computing, reading))
        weights = bytes_of(self.task.model.state_dict())
        state = weights + bytes_of(optimizer.state_dict()) + (weights if getattr(training, "ema", None) else 0)
        return DryRun.of(
            forecast,
            images=images,
            batch_size=batches.batch_size,
            micro_batch=micro_batch,
            memory=memory,
            kept=files * weights,
            while_training=self.session.config.run.keep_checkpoints * state,
        )

    @cached_property
    def footprint(self) -> Footprint:
        """Memory of a step of this process."""
        machine = self.session.machine
        self.task.model.to(machine.device).to(memory_format=torch.channels_last)
        passes = Passes(machine.device, machine.precision, seed=0)
        return measure_footprint(self.task, self.batches.fields, batch_size=self._own, passes=passes)

    @property
    def _own(self) -> int:
        """Images of a batch that are this process's."""
        return self.batches.batch_size // distributed.world_size()

    def _time_a_step(self, micro_batch: int) -> StepTime:
        machine, seed = self.session.machine, self.session.config.run.seed
        with explained_shortage("in a step of a few photos", "try a smaller --image-size or --backbone"):
            return step_time(
                self.task,
                self.batches.fields,
                batch_size=self._own,
                micro_batch=micro_batch,
                together=self.together,
                passes=Passes(machine.device, machine.precision, seed),
            )

    def _update_seconds(self, optimizer: torch.optim.Optimizer) -> float:
        """Of the optimizer's step, which is taken without moving anything."""
        for group in optimizer.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        began = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - began

    def _announce_a_long_step(self) -> None:
        """Say of a first step that takes long how long it does, before it is taken."""
        row = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.batches.fields.values())
        if self.session.machine.device.type == "cuda" or self._own * row < LARGE_BATCHES:
            return
        is_long = self._own * self.footprint.image > LONG_STEPS
        if is_long and (found := self._time_a_step(self.micro_batch)).seconds > A_WHILE:
            log.info(f"the first step takes about {in_words(found.seconds)} here")

    def score(self) -> dict[str, float]:
        """Scores of the network as it is, but its loss, which training measures on other images."""
        assert self.validation is not None
        machine = self.session.machine
        self.task.model.to(machine.device)
        found = evaluate(
            self.task,
            self.validation,
            device=machine.device,
            precision=machine.precision,
            micro_batch=self.micro_batch,
        )
        return {name: score for name, score in found.items() if name != "loss"}

    def train(
        self,
        *,
        observers: Sequence[Observer],
        validate_every: int = 1,
        keep: Literal["best", "last"] = "best",
        freezing: Freezing | None = None,
        average: float | None = None,
        patience: int | None = None,
        patient_from: float = 0,
    ) -> FitResult:
        """Run the engine in the run's folder, from its last checkpoint where it has one.

        Args:
            patient_from: epochs before these do not count for ``patience``.
        """
        run, training, machine, saving = self.run, self.training, self.session.machine, self.session.config.run
        checkpoints = Checkpoints(
            run.folder / "checkpoints",
            keep=saving.keep_checkpoints,
            every_steps=saving.checkpoint_steps,
            every_minutes=saving.checkpoint_minutes,
            anew=partial(start_anew, run),
        )
        start = checkpoints.load_last()
        watchers: list[Observer] = []
        if distributed.is_main():
            loggers = self._loggers()
            watchers = [FileHistory(run.folder), Forecast(suggestion=self.suggestion), *observers, *loggers]
        optimizer = self._optimizer(self.scales)
        first = first_step(run, 0 if start is None else start.step)
        schedule = self._schedule(first, is_new=start is not None and 0 < first == start.step)
        self._announce_a_long_step()
        try:
            with compiled(self.task.model, enabled=training.compile):
                result = fit(
                    self.task,
                    self.batches,
                    self.validation,
                    validate_every=validate_every,
                    keep=keep,
                    optimizer=optimizer,
                    schedule=schedule,
                    epochs=training.total_epochs,
                    device=machine.device,
                    precision=machine.precision,
                    micro_batch=self.micro_batch,
                    together=self.together,
                    clip=training.clip,
                    freezing=freezing,
                    average=average,
                    patience=patience,
                    patient_from=max(first // len(self.batches), math.ceil(patient_from)),
                    observers=watchers,
                    checkpoints=checkpoints,
                    start=start,
                    seed=saving.seed,
                )
        except Interrupted as stop:
            raise Interrupted(f"{stop}; go on with: {self._resume}", signum=stop.signum) from None
        if len(result.history) < training.total_epochs:
            name = next(iter(result.best))
            log.info(
                f"stopped after epoch {len(result.history)} of {training.total_epochs}: no {name} better than that of "
                f"epoch {result.best_epoch}, {result.best[name]:.4f}"
            )
        if lines := distributed.union(self.batches.skipped):
            log.warning(f"unreadable photos, which were skipped: {len(lines):,}; the first is {lines[0]}")
        return result

    @contextmanager
    def finishing(
        self, phase: str, *, before: Mapping[str, float] | None = None, chosen: bool = True
    ) -> Iterator[None]:
        """Mark the run finished after a last phase; tell, of what goes wrong there, how that is done without a step.

        Args:
            phase: what is done, as "scoring".
            before: validation scores from before the first step, which the curves show too.
            chosen: whether the curves mark the best epoch.

        Raises:
            OutOfMemory, TrainingError: in the place of an error that a user can mend.
            Interrupted: in the place of a signal.
        """
        fewer = smaller_micro_batch(self.micro_batch, self._own, least=self.least)
        later = f"then finish the run with `{self._resume}`"
        remedy = (
            f"finish the run with `{self._resume} --micro-batch {fewer}`" if fewer else f"free some memory, {later}"
        )
        try:
            with explained_shortage(f"in {phase} with micro-batch {self.micro_batch}", remedy):
                yield
                curves = training_curves(self.run.folder / "metrics.csv", before or {}, chosen=chosen)
                plots.charts(curves, self.run.folder / "curves.png")
                finish(self.run)
        except OutOfMemory:
            raise
        except SimclrsegError as error:
            raise TrainingError(str(error), later) from error
        except (KeyboardInterrupt, Terminated) as stop:
            signum = stop.signum if isinstance(stop, Terminated) else signal.SIGINT
            raise Interrupted(f"stopped in {phase}; go on with: {self._resume}", signum=signum) from None

    def card_rows(self) -> dict[str, object]:
        """The recipe, for the model card."""
        training = self.training
        rate = f"peak learning rate {self.learning_rate:.4g}, {training.schedule} schedule"
        return {"optimizer": f"{training.optimizer}, {rate}", "seed": self.session.config.run.seed}

    @property
    def _resume(self) -> str:
        """The command that goes on with the run."""
        return self.run.command(f"{self.run.kind} --resume")

    def _choose_micro_batch(self, recorded: Mapping[str, Any]) -> int:
        """Images of this process in memory at once, at most its share of a batch; a resumed run has those recorded."""
        machine, processes, asked = self.session.machine, distributed.world_size(), self.training.micro_batch
        if asked == "auto" and recorded.get("processes") == processes:
            asked = recorded.get("micro_batch", "auto")
        if asked == "auto":
            fits = fitting_micro_batch(self._own, machine.device, lambda: self.footprint, least=self.least)
            asked = -distributed.largest(-fits)  # the same for all processes
        micro_batch: int = min(self._own, -(-asked // self.task.neighbours) * self.task.neighbours)
        if micro_batch < self.least:
            all_of_them = processes * micro_batch >= len(self.batches.samples)
            remedy = MORE_PHOTOS if all_of_them else "take a larger --micro-batch, or --batch-size"
            log.warning(
                f"batch norm sees {processes * micro_batch} photos at a time, and of fewer than "
                f"{processes * self.least} {self.task.too_few}: little can be learned; {remedy}"
            )
        return micro_batch

    def _loggers(self) -> list[Observer]:
        """The tools that get the numbers too, which are told the configuration."""
        knobs = values_by_key(self.session.config)
        return [make(self.run.folder, knobs) for make in self.session.loggers]

    def _optimizer(self, scales: Mapping[nn.Parameter, float] | None) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = OPTIMIZERS[self.training.optimizer](
            parameter_groups(self.task.model, self.training.weight_decay, scales=scales),
            learning_rate=self.learning_rate,
            weight_decay=self.training.weight_decay,
        )
        return optimizer

    def _schedule(self, first: int, *, is_new: bool) -> Callable[[int], float]:
        """The learning rate by step.

        Args:
            first: step from which the schedule runs: 0, or where the run got more epochs.
            is_new: whether that is now.
        """
        training, steps = self.training, len(self.batches)
        total = training.total_epochs * steps - first
        warmup = training.warmup_of(total / steps)
        if training.warmup_epochs not in (None, warmup):
            log.warning(
                f"a warm-up of {training.warmup_epochs:g} epochs does not fit into {total / steps:g}: "
                f"it takes {warmup:g}, as by default"
            )
        if is_new:
            log.info(
                f"a new {training.schedule} schedule for {total / steps:g} more epochs, {training.total_epochs} in "
                f"all: {warmup:g} of warm-up to {self.learning_rate:.4g}; weights and the optimizer's state are kept"
            )
        schedule = ending_at(training.final_rate, SCHEDULES[training.schedule])
        return lambda step: self.learning_rate * schedule(step - first, total, round(warmup * steps))


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
