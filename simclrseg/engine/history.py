"""What a run tells while it trains: records, who may watch them, and the files that keep them."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from simclrseg.files import write_text, writing


@dataclass(frozen=True)
class Plan:
    """A run before its first step, or where it goes on."""

    epochs: int
    steps_per_epoch: int
    start_step: int
    """Optimizer steps that were taken before."""
    start_epoch: int
    """Epochs that were finished before, with their validation."""
    batch_size: int
    """Samples per optimizer step, over all processes."""
    unit: str = "images"


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step."""

    step: int
    """From 1, over the whole run."""
    epoch: int
    """From 1."""
    learning_rate: float
    logs: dict[str, float]
    """``loss`` first, then what the task logs."""
    images: int
    seconds: float
    """Since the step before, with the wait for data."""
    data_seconds: float
    """Of these, spent waiting for the loader."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch with its validation."""

    epoch: int
    """From 1."""
    step: int
    train: dict[str, float]
    """Means of the steps' logs, weighted by their images."""
    validation: dict[str, float]
    """Scores after the epoch; empty where there is no validation."""
    seconds: float
    """Since the epoch began, or was resumed."""


class Observer(Protocol):
    """Whoever watches a run: files, a progress bar, TensorBoard."""

    def on_start(self, plan: Plan) -> None: ...

    def on_step(self, record: StepRecord) -> None:
        """Told of each step in order; on a GPU a few steps late, so that none waits for the device."""
        ...

    def on_epoch(self, record: EpochRecord) -> None: ...

    def on_end(self) -> None:
        """Told once, also when training stops with an error."""
        ...


class FileHistory:
    """Keeps a run's records in its folder.

    ``metrics.jsonl`` has a line a step and a line an epoch, ``metrics.csv`` a row an epoch. Neither holds a timing and
    every number is written in full, so that a resumed run leaves the same bytes as one that was never interrupted.
    ``timing.csv`` has a row an epoch. A run that goes on first cuts all three back to where it goes on.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = folder / "metrics.jsonl"
        self._metrics = _Table(folder / "metrics.csv")
        self._timing = _Table(folder / "timing.csv")
        self._images = 0
        self._data_seconds = 0.0

    def on_start(self, plan: Plan) -> None:
        self._metrics.cut(plan.start_epoch)
        self._timing.cut(plan.start_epoch)
        lines = self._lines.read_text("utf-8", "replace").splitlines() if self._lines.exists() else []
        write_text(self._lines, "".join(f"{line}\n" for line in lines if _is_past(line, plan)))

    def on_step(self, record: StepRecord) -> None:
        self._images += record.images
        self._data_seconds += record.data_seconds
        self._append({"step": record.step, "epoch": record.epoch, "learning_rate": record.learning_rate, **record.logs})

    def on_epoch(self, record: EpochRecord) -> None:
        where = {"epoch": record.epoch, "step": record.step}
        self._append({**where, "train": record.train, "validation": record.validation})
        train = {f"train_{name}": value for name, value in record.train.items()}
        validation = {f"val_{name}": value for name, value in record.validation.items()}
        self._metrics.append({**where, **train, **validation})
        times = {"seconds": record.seconds, "data_seconds": self._data_seconds, "images": self._images}
        self._timing.append({**where, **times})
        self._images, self._data_seconds = 0, 0.0

    def on_end(self) -> None:
        pass

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self._lines), open(self._lines, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(record) + "\n")


class _Table:
    """A CSV with a row an epoch, written whole each time: columns may come later, and are empty before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []

    def cut(self, epochs: int) -> None:
        """Take up the rows that the file has up to that epoch; those that cannot be read are left out."""
        if not self._path.exists():
            return
        with open(self._path, newline="", encoding="utf-8", errors="replace") as file:
            self._rows = [row for row in csv.DictReader(file) if (_epoch(row) or math.inf) <= epochs]
        self._write()

    def append(self, values: dict[str, float]) -> None:
        self._rows.append({name: repr(value) for name, value in values.items()})
        self._write()

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        if columns:
            writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._path, text.getvalue())


def _epoch(row: dict[str, str]) -> int | None:
    """The epoch of a CSV's row; None where the row is garbled."""
    try:
        for value in row.values():
            float(value if value != "" else "nan")  # empty where the column came later
        return int(row["epoch"])
    except (KeyError, TypeError, ValueError):
        return None


def _is_past(line: str, plan: Plan) -> bool:
    """Whether a line of metrics.jsonl tells of what happened before the plan begins."""
    try:
        record = json.loads(line)
        if "train" in record:
            return bool(record["epoch"] <= plan.start_epoch)
        return bool(record["step"] <= plan.start_step)
    except (KeyError, TypeError, ValueError):  # cut short when the process was killed
        return False
