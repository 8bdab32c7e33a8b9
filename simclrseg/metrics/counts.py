"""Metrics: pixels or images are counted over the whole split first, ratios are taken after."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from simclrseg.errors import DataError
from simclrseg.metadata import IGNORE

TOP = 5  # an image whose true class is among so many likeliest ones is a hit
_EXACT = 1 << 24

Values = dict[str, Any]
"""Metrics by name: floats, or arrays (...) where several matrices were given at once."""


def confusion_matrix(prediction: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by true class (row) and predicted class (column), leaving ignored ones out.

    Args:
        prediction: class ids below ``classes``, any shape.
        mask: class ids, the same shape; 255 is ignored.

    Returns:
        (classes, classes) int64. Matrices of several batches add up.
    """
    if prediction.dtype == mask.dtype == np.uint8:
        return _histogram(mask.ravel(), prediction.ravel(), classes)
    counted = mask != IGNORE
    _check_largest(int(mask.max(where=counted, initial=0)), classes)
    pairs = mask[counted].astype(np.intp) * classes + prediction[counted]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _histogram(mask: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """The same by OpenCV, which is faster and lets other threads run; it counts in float32, exact up to 2^24."""
    matrix = np.zeros((256, classes), np.int64)
    for start in range(0, mask.size, _EXACT):
        pair = [part[start : start + _EXACT] for part in (mask, prediction)]
        counts = cv2.calcHist(pair, [0, 1], None, [256, classes], [0, 256, 0, classes])
        matrix += counts.reshape(256, classes).astype(np.int64)
    _check_largest(int(np.flatnonzero(matrix[:IGNORE].any(1)).max(initial=0)), classes)
    return matrix[:classes]


def _check_largest(label: int, classes: int) -> None:
    if label >= classes:
        raise DataError(f"a mask holds class id {label}, but the model has {classes} classes (ids from 0)")


def segmentation_metrics(matrix: np.ndarray, *, empty: float = 1.0) -> Values:
    """Metrics of confusion matrices (..., C, C): of two classes the foreground's, else means over those that occur.

    The first one, ``iou`` or ``miou``, is higher-is-better and says which of two models is the better.

    Args:
        empty: the value where there is no foreground and none was found, of two classes.
    """
    accuracy = pixel_accuracy(matrix)
    if matrix.shape[-1] != 2:
        means = {name: mean_of_known(values) for name, values in class_metrics(matrix).items()}
        return _plain({"miou": means.pop("iou"), **means, "accuracy": accuracy})
    ratios = class_ratios(*(count[..., 1] for count in _by_class(matrix)), empty=empty)
    dice = ratios["f1"]  # the same number, under the name that medical imaging uses
    return _plain({"iou": ratios["iou"], "f1": dice, "dice": dice, **ratios, "accuracy": accuracy})


def class_metrics(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of each class of (..., C, C) confusion matrices, (..., C) each.

    NaN where a class is neither in the masks nor predicted, 0 where it was only the one or the other.
    """
    return class_ratios(*_by_class(matrix))


def class_ratios(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, *, empty: float = math.nan) -> dict[str, np.ndarray]:
    """The same from what was found, wrongly found and missed of each class; ``empty`` where all three are 0."""
    nothing = np.where(tp + fp + fn == 0, empty, 0.0)
    return {
        "iou": ratio(tp, tp + fp + fn, nothing),
        "f1": ratio(2 * tp, 2 * tp + fp + fn, nothing),
        "precision": ratio(tp, tp + fp, nothing),
        "recall": ratio(tp, tp + fn, nothing),
    }


def _by_class(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, or images, of each class that were found, wrongly found and missed, (..., C) each."""
    tp = np.diagonal(matrix, axis1=-2, axis2=-1)
    return tp, matrix.sum(-2) - tp, matrix.sum(-1) - tp


def classification_metrics(matrix: np.ndarray, *, top: np.ndarray | float | None = None) -> Values:
    """Metrics of images, from (..., K, K) confusion matrices; ``accuracy`` comes first.

    Args:
        top: share of the images whose true class is among the five likeliest; None where there are no more classes.
    """
    macro_f1 = mean_of_known(class_metrics(matrix)["f1"])
    metrics = _plain({"accuracy": pixel_accuracy(matrix), "macro_f1": macro_f1})
    return metrics if top is None else {**metrics, "top5": top}


def without_learning(matrix: np.ndarray, metrics: Callable[[np.ndarray], Values]) -> dict[str, float]:
    """What costs nothing: the most that each metric reaches where all pixels, or images, get the same class.

    Of two classes either of them, as one may be the foreground; of more the most frequent one, which is the best.

    Args:
        matrix: (C, C) confusion matrix; only its true classes count.
        metrics: of such matrices (..., C, C).
    """
    true = matrix.sum(1)
    everywhere = [0, 1] if len(true) == 2 else [int(true.argmax())]
    answers = true[:, None] * np.eye(len(true), dtype=true.dtype)[everywhere][:, None, :]  # (answers, C, C)
    return {name: float(np.fmax.reduce(values)) for name, values in metrics(answers).items()}


def in_top(scores: np.ndarray, labels: np.ndarray, k: int = TOP) -> np.ndarray:
    """Images whose true class is among the k highest scores, (N,) bool; of equal ones the first counts, as in argmax.

    Args:
        scores: (N, K), probabilities or logits.
        labels: (N,) true class ids.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits: np.ndarray = (ranked == labels[:, None]).any(axis=1)
    return hits


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of the counted pixels that have their true class, of (..., C, C) confusion matrices."""
    return ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)), 0.0)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; 0 where all are NaN."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1), 0.0)


def ratio(part: np.ndarray, whole: np.ndarray, empty: np.ndarray | float) -> np.ndarray:
    """``part / whole``, and ``empty`` where the whole is 0."""
    whole = np.asarray(whole, np.float64)
    return np.where(whole == 0, empty, part / np.where(whole == 0, 1.0, whole))


def _plain(values: dict[str, np.ndarray]) -> Values:
    return {name: float(value) if np.ndim(value) == 0 else value for name, value in values.items()}
