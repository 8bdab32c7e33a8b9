"""Losses on their way from the device to whoever watches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from simclrseg.engine.history import Observer, StepRecord
from simclrseg.engine.task import Logs
from simclrseg.errors import TrainingError

STEPS_ON_A_GPU = 10  # reading a number waits for the device: read those of several steps at once


class Meter:
    """Reads back what steps logged, stops a run whose loss is not finite, and keeps the means of the epoch.

    On a GPU a few steps late, ``every`` so many at once; ``flush`` before anything is saved.

    Attributes:
        sums, images: of the epoch so far, by log: the log times the step's images, and the images of the steps that
            had it.
    """

    def __init__(self, observers: Sequence[Observer], *, every: int) -> None:
        self.sums: dict[str, float] = {}
        self.images: dict[str, int] = {}
        self._observers = observers
        self._every = every
        self._pending: list[tuple[StepRecord, Logs]] = []

    def add(self, record: StepRecord, logs: Logs) -> None:
        """Take a step's record, and its logs that are still on the device."""
        self._pending.append((record, logs))
        if len(self._pending) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Read all steps that are pending and tell the observers."""
        pending, self._pending = self._pending, []
        values = iter(_read([value for _, logs in pending for value in logs.values()]))
        for record, logs in pending:
            record = dataclasses.replace(record, logs={name: next(values) for name in logs})
            if not math.isfinite(record.logs["loss"]):
                raise TrainingError(
                    f"the loss is {record.logs['loss']} at step {record.step} (epoch {record.epoch}, learning rate "
                    f"{record.learning_rate:.3g})",
                    "try a lower --learning-rate, --clip 1 or --precision fp32",
                )
            for name, value in record.logs.items():
                self.sums[name] = self.sums.get(name, 0.0) + value * record.images
                self.images[name] = self.images.get(name, 0) + record.images
            for observer in self._observers:
                observer.on_step(record)

    def take_means(self) -> dict[str, float]:
        """The means of the epoch, each step weighted by its images; the next epoch starts from nothing."""
        means = {name: total / self.images[name] for name, total in self.sums.items()}
        self.sums, self.images = {}, {}
        return means


def _read(values: list[Tensor | float]) -> list[float]:
    """Numbers as floats, those on a GPU in one transfer; some are computed on the CPU, and cost none."""
    numbers = [value.detach() if isinstance(value, Tensor) else value for value in values]
    away = {place: n.float() for place, n in enumerate(numbers) if isinstance(n, Tensor) and not n.is_cpu}
    read = dict(zip(away, torch.stack([*away.values()]).tolist(), strict=True)) if away else {}
    return [read[place] if place in read else float(number) for place, number in enumerate(numbers)]
