"""Metrics: pixels or photos are counted over the whole split first, ratios are taken after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simclrseg.errors import DataError
from simclrseg.metadata import IGNORE

TOP = 5  # a photo whose true class is among so many likeliest ones is a hit


@dataclass(frozen=True)
class Counts:
    """Pixels, or photos, by class, each (C,) int64: found, wrongly found, missed, and rightly left."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @classmethod
    def from_confusion(cls, matrix: np.ndarray) -> Counts:
        """From a confusion matrix (C, C), true class by row."""
        tp = np.diag(matrix)
        fp = matrix.sum(0) - tp
        fn = matrix.sum(1) - tp
        return cls(tp, fp, fn, matrix.sum() - tp - fp - fn)


def confusion_matrix(prediction: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by true class (row) and predicted class (column), leaving ignored ones out.

    Args:
        prediction: class ids below ``classes``, any shape.
        mask: class ids, the same shape; 255 is ignored.

    Returns:
        (classes, classes) int64. Matrices of several batches add up.
    """
    counted = mask != IGNORE
    pairs = mask[counted].astype(np.intp) * classes + prediction[counted]
    matrix = np.bincount(pairs, minlength=classes * classes)
    if len(matrix) > classes * classes:
        raise DataError(
            f"a mask holds class id {mask[counted].max()}, but the model has {classes} classes (ids from 0)"
        )
    return matrix.reshape(classes, classes)


def segmentation_metrics(matrix: np.ndarray) -> dict[str, float]:
    """Micro averages of a confusion matrix: for two classes those of the foreground, else over all classes.

    The first one is higher-is-better and says which of two models is the better.
    """
    return binary_metrics(matrix) if len(matrix) == 2 else multiclass_metrics(matrix)


def binary_metrics(matrix: np.ndarray) -> dict[str, float]:
    """Micro averages for the foreground, class 1, of a (2, 2) confusion matrix; ``iou`` comes first."""
    counts = Counts.from_confusion(matrix)
    tp, fp, fn = (int(count[1]) for count in (counts.tp, counts.fp, counts.fn))
    empty = 1.0 if tp + fp + fn == 0 else 0.0  # nothing to find and nothing found is right
    f1 = _ratio(2 * tp, 2 * tp + fp + fn, empty)
    return {
        "iou": _ratio(tp, tp + fp + fn, empty),
        "f1": f1,
        "dice": f1,  # the same number, under the name that medical imaging uses
        "precision": _ratio(tp, tp + fp, empty),
        "recall": _ratio(tp, tp + fn, empty),
        "accuracy": pixel_accuracy(matrix),
    }


def multiclass_metrics(matrix: np.ndarray) -> dict[str, float]:
    """Micro averages of a (C, C) confusion matrix; ``miou`` comes first: the mean over the classes that occur."""
    iou = per_class_iou(matrix)
    occurs = ~np.isnan(iou)
    return {"miou": float(iou[occurs].mean()) if occurs.any() else 0.0, "accuracy": pixel_accuracy(matrix)}


def classification_metrics(matrix: np.ndarray, *, top: float | None = None) -> dict[str, float]:
    """Of photos; ``accuracy`` comes first.

    Args:
        matrix: (K, K) photos by true class (row) and predicted class (column).
        top: share of the photos whose true class is among the five likeliest; None where there are no more classes.
    """
    f1 = per_class_f1(matrix)
    occurs = ~np.isnan(f1)
    metrics = {"accuracy": pixel_accuracy(matrix), "macro_f1": float(f1[occurs].mean()) if occurs.any() else 0.0}
    return metrics if top is None else {**metrics, "top5": top}


def per_class_f1(matrix: np.ndarray) -> np.ndarray:
    """F1 of each class, (K,); NaN where a class is neither true nor predicted."""
    counts = Counts.from_confusion(matrix)
    total = 2 * counts.tp + counts.fp + counts.fn
    return np.where(total > 0, 2 * counts.tp / np.maximum(total, 1), np.nan)


def top_hits(scores: np.ndarray, labels: np.ndarray, k: int = TOP) -> int:
    """How many photos have their true class among the k highest scores; of equal ones the first counts, as in argmax.

    Args:
        scores: (N, K), probabilities or logits.
        labels: (N,) true class ids.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return int((ranked == labels[:, None]).any(axis=1).sum())


def per_class_iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (C,); NaN where a class is neither in the masks nor predicted."""
    counts = Counts.from_confusion(matrix)
    union = counts.tp + counts.fp + counts.fn
    return np.where(union > 0, counts.tp / np.maximum(union, 1), np.nan)


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Share of the counted pixels that have their true class."""
    return _ratio(int(np.trace(matrix)), int(matrix.sum()), 0.0)


def _ratio(part: int, whole: int, empty: float) -> float:
    return part / whole if whole else empty
