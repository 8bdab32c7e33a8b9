"""Observers that send a run's numbers to other tools. To add one: write its function, add its line to LOGGERS.

A function says at once, before anything is created, when its package is missing; what it returns makes the observer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simclrseg.engine.history import EpochRecord, Observer, Plan, StepRecord
from simclrseg.errors import TrainingError, UsageError
from simclrseg.files import write_text

PROJECT = "simclrseg"

MakeLogger = Callable[[Path, Mapping[str, Any]], Observer]
"""From a run's folder, and its knobs by name, to the observer."""


def tensorboard() -> MakeLogger:
    """Event files in the run's folder ``tensorboard``, which ``tensorboard --logdir runs`` shows."""
    _require("tensorboard")
    return TensorBoard


def wandb() -> MakeLogger:
    """A run of that name at Weights & Biases, in the project ``simclrseg``; W&B's own variables configure it."""
    _require("wandb")
    return WandB


class TensorBoard:
    """Writes each step and each epoch; a run that goes on hides what it will write again."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder / "tensorboard"
        self._config = config

    def on_start(self, plan: Plan) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=plan.start_step + 1)
        if plan.start_step == 0:
            self._writer.add_text("config", "\n".join(f"    {name}: {value}" for name, value in self._config.items()))

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
    """Sends each step and each epoch; a run that goes on stays the same run there."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._run: Any = None

    def on_start(self, plan: Plan) -> None:
        client = import_module("wandb")
        identity = self._folder / "wandb.id"
        if not identity.exists():
            write_text(identity, secrets.token_hex(8))
        try:
            self._run = client.init(
                project=PROJECT,
                name=self._folder.name,
                id=identity.read_text("utf-8"),
                resume="allow",
                dir=str(self._folder),
                config=dict(self._config),
            )
        except client.Error as error:  # no account, no network
            raise TrainingError(f"--log wandb: {' '.join(str(error).split())}") from error

    def on_step(self, record: StepRecord) -> None:
        self._run.log(_step_values(record), step=record.step)

    def on_epoch(self, record: EpochRecord) -> None:
        self._run.log({"epoch": record.epoch, **_epoch_values(record)}, step=record.step)

    def on_end(self) -> None:
        if self._run is not None:
            self._run.finish()


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise UsageError(f"--log {package}: the package is not installed; run: pip install 'simclrseg[{package}]'")


def _step_values(record: StepRecord) -> dict[str, float]:
    speed = {"images_per_second": record.images / record.seconds} if record.seconds else {}
    logs = {f"step/{name}": value for name, value in record.logs.items()}
    return {**logs, "learning_rate": record.learning_rate, **speed}


def _epoch_values(record: EpochRecord) -> dict[str, float]:
    train = {f"train/{name}": value for name, value in record.train.items()}
    return {**train, **{f"val/{name}": value for name, value in record.validation.items()}}
