"""Observers that send a run's numbers to other tools. To add one: write its class, add its line to LOGGERS.

The name is that of the tool's package. A tool that fails costs its numbers, never the training.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simclrseg.engine import LOGGERS
from simclrseg.engine.history import EpochRecord, Observer, Plan, StepRecord
from simclrseg.errors import SimclrsegError, TrainingError, UsageError
from simclrseg.system.files import finite, write_text
from simclrseg.text import printable

log = logging.getLogger(__name__)

MakeLogger = Callable[[Path, Mapping[str, Any]], Observer]
"""From a run's folder, and its knobs by name, to the observer."""


def logger(package: str) -> MakeLogger:
    """What makes the observer for a tool; UsageError, before anything is created, where it is not installed."""
    if find_spec(package) is None:
        raise UsageError(
            f"--log {package}: the package is not installed",
            f"run: pip install 'simclrseg[{package}]'",
            option="log",
            value=package,
        )
    observer: MakeLogger = LOGGERS[package]
    return lambda folder, config: Dispensable(package, observer(folder, config))


class Dispensable:
    """An observer without which training goes on, with a warning, when it fails.

    Before the first step it is an error: the tool was asked for, and nothing is lost yet.
    """

    def __init__(self, name: str, observer: Observer) -> None:
        self._name = name
        self._begin = observer.on_start
        self._observer: Observer | None = observer

    def on_start(self, plan: Plan) -> None:
        try:
            self._begin(plan)
        except SimclrsegError:
            raise
        except Exception as error:
            raise TrainingError(f"--log {self._name}: {_reason(error)}", option="log", value=self._name) from error

    def on_step(self, record: StepRecord) -> None:
        self._tell(lambda observer: observer.on_step(record))

    def on_epoch(self, record: EpochRecord) -> None:
        self._tell(lambda observer: observer.on_epoch(record))

    def on_end(self) -> None:
        self._tell(lambda observer: observer.on_end())

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        if self._observer is None:
            return
        try:
            tell(self._observer)
        except Exception as error:
            self._observer = None
            log.warning(f"--log {self._name} failed, and gets no more of this run ({_reason(error)})")


class TensorBoard:
    """Event files in the run's folder ``tensorboard``, which ``tensorboard --logdir runs`` shows.

    A run that goes on hides what it will write again.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder / "tensorboard"
        self._config = config

    def on_start(self, plan: Plan) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=plan.start_step + 1)
        if plan.start_step == 0:
            self._writer.add_text(
                "config", "\n".join(f"    {name}: {printable(str(value))}" for name, value in self._config.items())
            )

    def on_step(self, record: StepRecord) -> None:
        for name, value in _step_values(record).items():
            self._writer.add_scalar(name, value, record.step)

    def on_epoch(self, record: EpochRecord) -> None:
        for name, value in _epoch_values(record).items():
            self._writer.add_scalar(name, value, record.step)
        self._writer.flush()

    def on_end(self) -> None:
        if hasattr(self, "_writer"):  # not where it could not be opened
            self._writer.close()


class WandB:
    """A run of that name at Weights & Biases, in the project ``simclrseg``; W&B's own variables configure it.

    A run that goes on stays the same run there.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._run: Any = None

    def on_start(self, plan: Plan) -> None:
        client = import_module("wandb")
        identity = self._folder / "wandb.id"
        if not identity.exists():
            write_text(identity, secrets.token_hex(8))
        self._run = client.init(
            project="simclrseg",
            name=self._folder.name,
            id=identity.read_text("utf-8"),
            resume="allow",
            dir=str(self._folder),
            config=finite(self._config),
        )

    def on_step(self, record: StepRecord) -> None:
        self._run.log(_step_values(record), step=record.step)

    def on_epoch(self, record: EpochRecord) -> None:
        self._run.log({"epoch": record.epoch, **_epoch_values(record)}, step=record.step)

    def on_end(self) -> None:
        if self._run is not None:
            self._run.finish()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _step_values(record: StepRecord) -> dict[str, float]:
    speed = {"images_per_second": record.images / record.seconds} if record.seconds else {}
    logs = {f"step/{name}": value for name, value in record.logs.items()}
    return {**logs, "learning_rate": record.learning_rate, **speed}


def _epoch_values(record: EpochRecord) -> dict[str, float]:
    train = {f"train/{name}": value for name, value in record.train.items()}
    return {**train, **{f"val/{name}": value for name, value in record.validation.items()}}
