"""Records of a training, observers of them, and the files that keep them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simclrseg.system.content import parse_json
from simclrseg.system.files import json_text, write_text, writing


@dataclass(frozen=True)
class Plan:
    """A run before its first step, or where it goes on."""

    epochs: int
    steps_per_epoch: int
    start_step: int
    """Optimizer steps that were taken before."""
    history: tuple[EpochRecord, ...]
    """The epochs that were finished before, with their validation."""
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
    """Time since the step before, with the wait for data."""
    data_seconds: float
    """Seconds of these that were spent waiting for the loader."""


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
    """Time since the epoch began, or was resumed."""


class Observer(Protocol):
    """A part that is told of a run: files, a progress bar, TensorBoard. What derives from it hears what it wants to."""

    def on_start(self, plan: Plan) -> None:
        return

    def on_step(self, record: StepRecord) -> None:
        """Hear of each step in order; on a GPU a few steps late, so that none waits for the device."""
        return

    def on_epoch(self, record: EpochRecord) -> None:
        return

    def on_end(self) -> None:
        """Hear of the end once, also when training stops with an error."""
        return


class FileHistory(Observer):
    """Keeps a run's records in its folder.

    ``metrics.jsonl`` has a line a step and a line an epoch, ``metrics.csv`` a row an epoch. Neither holds a timing and
    every number is written in full, so that a resumed run leaves the same bytes as one that was never interrupted.
    ``timing.csv`` has a row an epoch. A run that goes on first writes the epochs before anew, whether or not they had
    come so far, and of the rest keeps what the files have up to where it goes on.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = folder / "metrics.jsonl"
        self._metrics = _Table(folder / "metrics.csv")
        self._timing = _Table(folder / "timing.csv")
        self._images = 0
        self._data_seconds = 0.0

    def on_start(self, plan: Plan) -> None:
        self._metrics.add(*map(_metrics, plan.history))
        known = self._timing.read()
        self._timing.add(*(known.get(record.epoch) or _times(record) for record in plan.history))
        lines = self._lines.read_text("utf-8", "replace").splitlines() if self._lines.exists() else []
        steps = [(step, f"{line}\n") for line in lines if (step := _step(line)) is not None and step <= plan.start_step]
        epochs = [(record.step, _line(record)) for record in plan.history]
        merged = sorted([*steps, *epochs], key=lambda pair: pair[0])  # stable: an epoch follows its last step
        write_text(self._lines, "".join(line for _, line in merged))

    def on_step(self, record: StepRecord) -> None:
        self._images += record.images
        self._data_seconds += record.data_seconds
        where = {"step": record.step, "epoch": record.epoch, "learning_rate": record.learning_rate}
        self._append(json_text({**where, **record.logs}))

    def on_epoch(self, record: EpochRecord) -> None:
        self._append(_line(record))
        self._metrics.add(_metrics(record))
        self._timing.add(_times(record, data_seconds=self._data_seconds, images=self._images))
        self._images, self._data_seconds = 0, 0.0

    def _append(self, line: str) -> None:
        with writing(self._lines), open(self._lines, "a", encoding="utf-8", newline="\n") as file:
            file.write(line)


Row = dict[str, str]


class _Table:
    """A CSV with a row an epoch, written whole each time: columns may come later, and are empty before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[Row] = []

    def read(self) -> dict[int, Row]:
        """The rows that the file has, by their epochs; those that cannot be read are left out."""
        if not self._path.exists():
            return {}
        with open(self._path, newline="", encoding="utf-8", errors="replace") as file:
            return {epoch: row for row in csv.DictReader(file) if (epoch := _epoch(row)) is not None}

    def add(self, *rows: Row) -> None:
        self._rows.extend(rows)
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        if columns:
            writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._path, text.getvalue())


def _metrics(record: EpochRecord) -> Row:
    train = {f"train_{name}": value for name, value in record.train.items()}
    validation = {f"val_{name}": value for name, value in record.validation.items()}
    return _row({"epoch": record.epoch, "step": record.step, **train, **validation})


def _times(record: EpochRecord, **more: float) -> Row:
    return _row({"epoch": record.epoch, "step": record.step, "seconds": record.seconds, **more})


def _row(values: Mapping[str, float]) -> Row:
    return {name: repr(value) for name, value in values.items()}


def _line(record: EpochRecord) -> str:
    values = {"epoch": record.epoch, "step": record.step, "train": record.train, "validation": record.validation}
    return json_text(values)


def _epoch(row: Row) -> int | None:
    """The epoch of a CSV's row; None where the row is garbled."""
    try:
        for value in row.values():
            float(value if value != "" else "nan")  # empty where the column came later
        return int(row["epoch"])
    except (KeyError, TypeError, ValueError):
        return None


def _step(line: str) -> int | None:
    """The step that a line of metrics.jsonl tells of; None for an epoch's, and where the line is garbled."""
    try:
        record = parse_json(line)
        return None if "train" in record else int(record["step"])
    except (KeyError, TypeError, ValueError):  # cut short when the process was killed
        return None
