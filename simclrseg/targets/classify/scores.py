"""Scoring classes image by image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.charts import plots
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.images.framing import Framing
from simclrseg.inference.tiling import Predict
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import (
    TOP,
    class_ratios,
    classification_metrics,
    confusion_matrix,
    in_top,
    mean_of_known,
    without_learning,
)
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.gallery import viewable
from simclrseg.scores.intervals import Floats
from simclrseg.scores.reading import read_ahead
from simclrseg.scores.results import Example, Scores
from simclrseg.targets.base import Scoring


@dataclass(frozen=True)
class ClassificationScores(Scores):
    """True and predicted class of every image, from which every metric follows.

    Attributes:
        labels: (N,) int64 true class ids.
        probabilities: (N, K) float32.
    """

    UNIT = "photos"
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def confusion(self) -> np.ndarray:
        return confusion_matrix(self.predicted, self.labels, self.probabilities.shape[1])

    @property
    def predicted(self) -> np.ndarray:
        """(N,) class ids."""
        ids: np.ndarray = self.probabilities.argmax(1)
        return ids

    def resampled(self, weights: Floats) -> dict[str, Floats]:
        total = weights.sum(1)
        metrics = {
            "accuracy": weights @ (self.predicted == self.labels) / total,
            "macro_f1": mean_of_known(self.by_class(weights)["f1"]),
        }
        if self.probabilities.shape[1] > TOP:
            metrics["top5"] = weights @ in_top(self.probabilities, self.labels) / total
        return metrics

    def by_class(self, weights: Floats) -> dict[str, Floats]:
        count, right = self.probabilities.shape[1], self.predicted == self.labels

        def summed(ids: np.ndarray, some: Floats) -> Floats:
            return np.stack([np.bincount(ids, row, count) for row in some])

        found, true = summed(self.labels, weights * right), summed(self.labels, weights)
        return class_ratios(found, summed(self.predicted, weights) - found, true - found)

    def bad_and_good(self) -> tuple[list[int], list[int]]:
        """Rows of images that were wrong, the surest first, and of those that were right, the surest last."""
        sure = self.probabilities.max(1)
        value = np.where(self.predicted == self.labels, sure, -sure)
        order: list[int] = np.argsort(value, kind="stable")[: (~np.isnan(value)).sum()].tolist()
        wrong = int((value < 0).sum())
        return order[:wrong], order[wrong:]

    def examples(self, rows: Sequence[int], dataset: Dataset, predict: Predict) -> list[Example]:
        """Images, and in words what they show and what was said; they are not predicted again."""
        names, predicted = self.metadata.classes, self.predicted
        found = []
        for row in rows:
            index, sure = self.indices[row], self.probabilities[row].max()
            line = f"true {names[self.labels[row]]}, predicted {names[predicted[row]]} at {sure:.3f}"
            photo = viewable(dataset.image(index), dataset.bands, dataset.blank(index))
            found.append(Example(self.keys[row], line, (("photo", photo),)))
        return found

    @property
    def headline(self) -> dict[str, float]:
        """All metrics over the split: a label has no resolution."""
        several = self.probabilities.shape[1] > TOP
        top = float(in_top(self.probabilities, self.labels).mean()) if several else None
        return classification_metrics(self.confusion, top=top)

    @property
    def without_learning(self) -> dict[str, float]:
        return without_learning(self.confusion, classification_metrics)

    def results(self, split: str) -> dict[str, Any]:
        free = self.without_learning
        return {"split": split, "n": len(self.keys), "metrics": self.headline, "without_learning": free}

    def rows(self) -> list[dict[str, Any]]:
        names = self.metadata.classes
        return [
            {
                "image": key,
                "true": names[label],
                "predicted": names[predicted],
                "probability": float(probability[predicted]),
                "correct": int(predicted == label),
            }
            for key, label, predicted, probability in zip(
                self.keys, self.labels, self.predicted, self.probabilities, strict=True
            )
        ]

    def write_confusion(self, folder: Path) -> None:
        """Draw them too, as ``confusion.png``; of pixels the table shows more."""
        super().write_confusion(folder)
        plots.confusion(self.confusion, self.metadata.classes, folder / "confusion.png")


def score(
    predict: Predict, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, scoring: Scoring
) -> ClassificationScores:
    """Compare predicted classes with labels, by the classes' names; labels have no resolution and are never empty.

    Args:
        predict: the model; it gets a batch of squashed images.
        dataset: images with labels; each of their names is among the model's classes.
    """
    framing = Framing.of(metadata)
    ids = np.array([metadata.classes.index(name) for name in dataset.label_names], np.int64)
    scored: list[int] = []
    skipped: list[str] = []
    parts = []

    def load(index: int) -> np.ndarray:
        return framing.image(dataset.image(index))

    with ThreadPoolExecutor(scoring.workers) as pool:
        for read, images in read_ahead(pool, load, dataset, indices, batch_size=scoring.batch_size, skipped=skipped):
            parts.append(predict(np.stack(images)))
            scored += read
    keys = tuple(dataset.keys[index] for index in scored)
    labels, probabilities = ids[dataset.labels[scored]], np.concatenate(parts)  # type: ignore[index]
    confidences = Confidences.of_images(probabilities, labels)
    return ClassificationScores(metadata, keys, tuple(scored), tuple(skipped), confidences, labels, probabilities)
