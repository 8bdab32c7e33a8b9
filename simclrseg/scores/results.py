"""Scores: what was found beside what is true, image by image, and what they are written as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.inference.tiling import Predict
from simclrseg.metadata import ModelMetadata
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.intervals import Floats, Interval
from simclrseg.scores.wording import written
from simclrseg.system.files import write_rows


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % bootstrap interval over images; None where there was one image."""

    value: float
    interval: Interval | None = None

    def __str__(self) -> str:
        return written(self.value) + (f" {self.interval}" if self.interval else "")

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {"value": self.value, "interval": [self.interval.low, self.interval.high] if self.interval else None}

    def columns(self, name: str) -> dict[str, float | None]:
        """The form of a CSV row: the value and the ends of its interval."""
        low, high = (self.interval.low, self.interval.high) if self.interval else (None, None)
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


@dataclass(frozen=True)
class Example:
    """An image as it is shown: its name in the dataset, what was found in it, and titled pictures (H, W, 3) uint8."""

    key: str
    text: str
    pictures: tuple[tuple[str, np.ndarray], ...]


@dataclass(frozen=True)
class Scores(ABC):
    """Predictions compared with the truth in N images, whatever was counted in them.

    Attributes:
        UNIT: what has a true and a predicted class: ``pixels`` or ``photos``.
        metadata: of the model that was scored.
        keys, indices: the images by name and by number in their dataset.
        skipped: images that could not be read, with the reason.
        confidences: counts of all pixels or images by their confidence.
    """

    UNIT: ClassVar[str]
    metadata: ModelMetadata
    keys: tuple[str, ...]
    indices: tuple[int, ...]
    skipped: tuple[str, ...]
    confidences: Confidences

    @property
    @abstractmethod
    def confusion(self) -> np.ndarray:
        """(C, C) pixels or images by true class (row) and predicted class (column)."""

    @property
    @abstractmethod
    def headline(self) -> dict[str, float]:
        """The metrics over the split that are quoted."""

    @property
    @abstractmethod
    def without_learning(self) -> dict[str, float]:
        """What these would be where all pixels, or images, got the same class, the best one for each metric."""

    @abstractmethod
    def resampled(self, weights: Floats) -> dict[str, Floats]:
        """Weights (R, N) -> every metric over the split, (R,) each; the first decides."""

    @abstractmethod
    def by_class(self, weights: Floats) -> dict[str, Floats]:
        """Weights (R, N) -> every metric of each class, (R, C) each."""

    @abstractmethod
    def bad_and_good(self) -> tuple[list[int], list[int]]:
        """Rows of images that may be shown as bad and as good ones, the worst first in both; none without a value."""

    @abstractmethod
    def examples(self, rows: Sequence[int], dataset: Dataset, predict: Predict) -> list[Example]:
        """One or more of the images as they are shown, read once more from the dataset that was scored."""

    @abstractmethod
    def results(self, split: str) -> dict[str, Any]:
        """The content of ``test.json``."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """A row an image, in the order in which they were scored."""

    def sweep(self) -> dict[str, Floats]:
        """Metrics over the split and ``threshold``, (T,) each; empty where there is no foreground that has one."""
        return {}

    def means(self, weights: Floats | None) -> dict[str, Estimate]:
        """The means over images of their own metrics; weights (R, N) of resamples, None for no intervals."""
        return {}

    def notes(self, weights: Floats | None, validation: Callable[[], Self] | None) -> dict[str, Any]:
        """Notes that belong beside the numbers; validation images are scored only where something is chosen on them."""
        return {}

    def write_confusion(self, folder: Path) -> None:
        """Write which classes are taken for which as ``confusion.csv``: a row a true class."""
        names, matrix = self.metadata.classes, self.confusion.tolist()
        rows = [{"true": name, **dict(zip(names, row, strict=True))} for name, row in zip(names, matrix, strict=True)]
        write_rows(folder / "confusion.csv", rows)
