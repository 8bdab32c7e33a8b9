"""Results of an evaluation, as its tables, files and pages read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.inference.masks import Predict
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


class Finding(Protocol):
    """A further part of an evaluation, such as calibration."""

    @property
    def picture(self) -> Path | None:
        """A PNG that the report shows."""

    def facts(self) -> dict[str, Any]:
        """The form of ``metrics.json`` and ``--json``."""

    def rows(self) -> list[dict[str, Any]]:
        """The rows of its CSV file; the ends of intervals are columns ``<name>_low`` and ``<name>_high``."""


@dataclass(frozen=True)
class Example:
    """An image as it is shown: its name in the dataset, what was found in it, and titled pictures (H, W, 3) uint8."""

    key: str
    text: str
    pictures: tuple[tuple[str, np.ndarray], ...]


class Scores(Protocol):
    """Predictions compared with the truth in N images, whatever was counted in them."""

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata of the model that was scored."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The images' names in their dataset."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The same as numbers."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Images that could not be read, with the reason."""

    @property
    def unit(self) -> str:
        """The unit that has a true and a predicted class, ``pixels`` or ``photos``."""

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) pixels or images by true class (row) and predicted class (column)."""

    @property
    def headline(self) -> dict[str, float]:
        """The metrics over the split that are quoted."""

    @property
    def confidences(self) -> Confidences:
        """Counts of these by their confidence."""

    def resampled(self, weights: Floats) -> dict[str, Floats]:
        """Weights (R, N) -> every metric over the split, (R,) each; the first decides."""

    def by_class(self, weights: Floats) -> dict[str, Floats]:
        """Weights (R, N) -> every metric of each class, (R, C) each."""

    def sweep(self) -> dict[str, Floats]:
        """Metrics over the split and ``threshold``, (T,) each; empty where there is no foreground that has one."""

    def bad_and_good(self) -> tuple[list[int], list[int]]:
        """Rows of images that may be shown as bad and as good ones, the worst first in both; none without a value."""

    def examples(self, rows: Sequence[int], dataset: Dataset, predict: Predict) -> list[Example]:
        """One or more of the images as they are shown, read once more from the dataset that was scored."""

    def results(self, split: str) -> dict[str, Any]:
        """The content of ``test.json``."""

    def rows(self) -> list[dict[str, Any]]:
        """A row an image, in the order in which they were scored."""

    def means(self, weights: Floats | None) -> dict[str, Estimate]:
        """The means over images of their own metrics; weights (R, N) of resamples, None for no intervals."""

    def notes(self, weights: Floats | None, validation: Callable[[], Self] | None) -> dict[str, Any]:
        """Notes that belong beside the numbers; validation images are scored only where something is chosen on them."""

    def draw(self, folder: Path) -> None:
        """Write the pictures that show the scores."""


@dataclass(frozen=True)
class Evaluated:
    """One fine-tuned model and what it said of some images.

    Attributes:
        name: what tables call it; no two of a report are the same.
        kind, path: ``run`` and its folder, or ``model`` and its ONNX file.
        task: ``segmentation`` or ``classification``.
        learner: the network that can be asked; None for an ONNX file.
        predict: the same as a function of images, squashed to ``metadata.image_size``.
        dataset, split: the images, and the part of them that was scored.
        indices: those that could be read, in ``dataset`` and in the order of all N rows below.
        test_hash: of these images and what is true of them; two models with the same one can be compared.
        scores: the counts of each image, from which the rest follows as ``Scores`` and ``scores.estimates`` say.
        metrics: over the whole split, the one that decides first.
        facts: of the model: ``encoder``, ``pretrained``, ``data_ratio``, ``pretraining_seconds``,
            ``finetuning_seconds``, …; None where not known.
        notes: counts and choices that belong to the numbers: ``empty_masks``, ``best_threshold``, …
        findings: of other parts of the evaluation, by name: ``calibration``, ``ood``, ``embedding``.
    """

    name: str
    kind: Literal["run", "model"]
    path: Path
    task: str
    metadata: ModelMetadata
    learner: Any | None
    predict: Predict
    dataset: Dataset
    split: str
    indices: tuple[int, ...]
    test_hash: str
    scores: Scores
    metrics: Mapping[str, Estimate]
    means: Mapping[str, Estimate]
    per_class: list[dict[str, Any]]
    per_image: list[dict[str, Any]]
    confusion: np.ndarray
    facts: Mapping[str, Any]
    notes: Mapping[str, Any]
    findings: dict[str, Finding] = field(default_factory=dict)

    @property
    def deciding(self) -> str:
        """The metric that says which of two models is the better."""
        return next(iter(self.metrics))


@dataclass(frozen=True)
class Report:
    """The results of one call of ``evaluate``.

    Attributes:
        models: in the order in which they were named.
        baseline: name of the model that the others are compared with; None with one model.
        differences: by the name of each other model, what it has more than the baseline on the same images, by metric.
    """

    folder: Path
    models: tuple[Evaluated, ...]
    baseline: str | None = None
    differences: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)

    @property
    def ranked(self) -> list[Evaluated]:
        """The models, the best first; those without a value, such as of empty masks that are left out, last."""

        def place(model: Evaluated) -> tuple[bool, float]:
            value = model.metrics[model.deciding].value
            return math.isnan(value), -value

        return sorted(self.models, key=place)


def write_confusion(folder: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """Write a confusion matrix as ``confusion.csv``: a row a true class."""
    rows = [
        {"true": name, **dict(zip(classes, row, strict=True))}
        for name, row in zip(classes, matrix.tolist(), strict=True)
    ]
    write_rows(folder / "confusion.csv", rows)
