"""A training of a command: its machine and its run around the engine, from the first check to the last picture."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from simclrseg.charts import plots
from simclrseg.data.loader import Loader
from simclrseg.engine import OPTIMIZERS, SCHEDULES
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.engine.freezing import Freezing
from simclrseg.engine.history import FileHistory, Observer
from simclrseg.engine.loop import FitResult, evaluate, fit
from simclrseg.engine.optimizers import parameter_groups
from simclrseg.engine.runtime import compiled
from simclrseg.engine.schedules import ending_at
from simclrseg.engine.task import Loader as Validation
from simclrseg.engine.task import Task
from simclrseg.errors import Interrupted, OutOfMemory, SimclrsegError, Terminated, TrainingError
from simclrseg.runs.run import Run, finish, record_facts
from simclrseg.system import distributed
from simclrseg.system.hardware import explained_shortage
from simclrseg.training.batches import MicroBatching
from simclrseg.training.curves import training_curves
from simclrseg.training.dry_run import DryRun, rehearse
from simclrseg.training.folder import first_step, open_run, start_anew
from simclrseg.training.forecast import Forecast
from simclrseg.training.knobs import values_by_key
from simclrseg.training.session import Session

log = logging.getLogger(__name__)


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
        UsageError: of ``MicroBatching.check``.
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
        self.batching = MicroBatching(session, task, batches)
        if not trained:
            self.batching.check()

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
            warmup_epochs=self.training.warmup,
            epochs=self.training.total_epochs,
            batch_size=self.training.batch_size,
            **facts,
        ) as (self.run, began):
            self.micro_batch = self.batching.choose(began)
            if distributed.is_main():
                record_facts(self.run, micro_batch=self.micro_batch)
            yield self.run

    def rehearse(self, *, kept: int, best: bool = False) -> DryRun:
        """Say what the run takes, by a few steps; ``kept`` and ``best`` are those of ``dry_run.rehearse``."""
        return rehearse(self.batching, self._optimizer(None), suggestion=self.suggestion, kept=kept, best=best)

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
        self.batching.announce_a_long_step(self.micro_batch)
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
                    together=self.batching.together,
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
        fewer = self.batching.smaller(self.micro_batch)
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
