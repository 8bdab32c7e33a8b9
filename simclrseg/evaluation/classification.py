"""Scoring classes photo by photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simclrseg.data.datasets.base import Dataset
from simclrseg.errors import ImageError
from simclrseg.evaluation.calibration import Confidences
from simclrseg.evaluation.reading import read_ahead
from simclrseg.images import resize_image
from simclrseg.metrics import (
    TOP,
    class_ratios,
    classification_metrics,
    confusion_matrix,
    in_top,
    mean_of_known,
    top_hits,
)

# uint8 images (N, S, S, 3) -> probabilities (N, K) float32
Predict = Callable[[np.ndarray], np.ndarray]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What was true and what was said of every photo, from which every metric follows.

    Attributes:
        keys: the N photos' names in their dataset.
        indices: the same as numbers.
        labels: (N,) int64 true class ids.
        probabilities: (N, K) float32.
        skipped: photos that could not be read, with the reason.
    """

    keys: tuple[str, ...]
    indices: tuple[int, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    skipped: tuple[str, ...]

    @property
    def confusion(self) -> np.ndarray:
        """(K, K) photos by true class (row) and predicted class (column)."""
        return confusion_matrix(self.predicted, self.labels, self.probabilities.shape[1])

    @property
    def confidences(self) -> Confidences:
        """Counts of the photos by their confidence."""
        found = Confidences.none()
        found.add(self.probabilities, self.labels)
        return found

    @property
    def predicted(self) -> np.ndarray:
        """(N,) class ids."""
        ids: np.ndarray = self.probabilities.argmax(1)
        return ids

    def resampled(self, weights: Floats) -> dict[str, Floats]:
        """Every metric of some resamples: weights (R, N) -> (R,) each."""
        total = weights.sum(1)
        metrics = {
            "accuracy": weights @ (self.predicted == self.labels) / total,
            "macro_f1": mean_of_known(self.by_class(weights)["f1"]),
        }
        if self.probabilities.shape[1] > TOP:
            ranked = in_top(self.probabilities, self.labels)
            metrics["top5"] = weights @ ranked / total
        return metrics

    def by_class(self, weights: Floats) -> dict[str, Floats]:
        """The metrics of each class: weights (R, N) -> (R, K) each."""
        count, right = self.probabilities.shape[1], self.predicted == self.labels

        def summed(ids: np.ndarray, some: Floats) -> Floats:
            return np.stack([np.bincount(ids, row, count) for row in some])

        found, true = summed(self.labels, weights * right), summed(self.labels, weights)
        return class_ratios(found, summed(self.predicted, weights) - found, true - found)

    @property
    def metrics(self) -> dict[str, float]:
        several = self.probabilities.shape[1] > TOP
        top = top_hits(self.probabilities, self.labels) / len(self.keys) if several else None
        return classification_metrics(self.confusion, top=top)


def score(
    predict: Predict,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    classes: Sequence[str],
    image_size: int,
    batch_size: int,
    workers: int,
) -> Scores:
    """Compare predicted classes with labels, by the classes' names.

    Args:
        predict: the model; it gets a batch of squashed photos.
        dataset: photos with labels; each of their names is among ``classes``.
        classes: the model's K class names, by id.
        image_size: side S of the squares that the model was trained on.
    """
    ids = np.array([classes.index(name) for name in dataset.label_names])
    keys: list[str] = []
    scored: list[int] = []
    skipped: list[str] = []
    labels: list[int] = []
    probabilities = [np.zeros((0, len(classes)), np.float32)]

    def load(index: int) -> np.ndarray | str:
        try:
            return resize_image(dataset.image(index), (image_size, image_size))
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(workers) as pool:
        for chunk, loaded in read_ahead(pool, load, indices, batch_size):
            read = [(index, item) for index, item in zip(chunk, loaded, strict=True) if not isinstance(item, str)]
            skipped += [item for item in loaded if isinstance(item, str)]
            if read:
                probabilities.append(predict(np.stack([image for _, image in read])))
            keys += [dataset.keys[index] for index, _ in read]
            scored += [index for index, _ in read]
            labels += [int(ids[dataset.labels[index]]) for index, _ in read]  # type: ignore[index]
    return Scores(tuple(keys), tuple(scored), np.array(labels, np.int64), np.concatenate(probabilities), tuple(skipped))
