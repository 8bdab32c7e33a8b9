"""Out-of-distribution detection: does the model know when it does not know?

Every score is higher for what looks less like the training data. (A score that is turned, such as the maximum
probability itself, gives 1 - AUROC: 0.08 where it should say 0.92.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simclrseg.evaluation.intervals import Interval, interval, resamples

Floats = NDArray[np.float64]


def pair_logits(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """A single logit x of the foreground as two classes, 0 and x: (N, 1, ...) -> (N, 2, ...); others as they are."""
    if logits.shape[1] != 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=1)


def pair_probabilities(probabilities: NDArray[np.floating], *, binary: bool) -> NDArray[np.floating]:
    """(N, ...) of the foreground -> (N, 2, ...) of both classes; (N, K, ...) as they are."""
    return np.stack([1 - probabilities, probabilities], axis=1) if binary else probabilities


def max_softmax(probabilities: NDArray[np.floating]) -> Floats:
    """1 - max p, in [0, 1 - 1/K] (Hendrycks & Gimpel 2017): (N, K, ...) -> (N, ...)."""
    return 1 - probabilities.max(axis=1).astype(np.float64)


def entropy(probabilities: NDArray[np.floating]) -> Floats:
    """H(p) in nats, in [0, ln K]: (N, K, ...) -> (N, ...)."""
    p = probabilities.astype(np.float64)
    return -(p * np.log(np.clip(p, 1e-12, None))).sum(axis=1)


def energy(logits: NDArray[np.floating], *, temperature: float = 1.0) -> Floats:
    """-T ln sum exp(x / T) (Liu et al. 2020, eq. 4): (N, K, ...) -> (N, ...)."""
    x = logits.astype(np.float64) / temperature
    top = x.max(axis=1)
    return -temperature * (top + np.log(np.exp(x - top[:, None]).sum(axis=1)))


def mutual_information(draws: NDArray[np.floating]) -> Floats:
    """H(mean p) - mean H(p): what the draws of the weights disagree about (Gal et al. 2017, eq. 2), in nats.

    Args:
        draws: (M, N, K, ...) probabilities of M forward passes with dropout.

    Returns:
        (N, ...), never below 0 but for rounding, which is cut off.
    """
    expected = np.mean([entropy(draw) for draw in draws], axis=0)
    return np.maximum(entropy(draws.mean(axis=0)) - expected, 0)


@dataclass(frozen=True)
class Detection:
    """How well a score tells out-of-distribution samples, the positives, from the model's own."""

    auroc: float
    aupr: float
    fpr95: float
    """False positive rate at the threshold that finds 95 % of the positives."""
    intervals: dict[str, Interval | None]
    """Bootstrap intervals of the three, by name."""
    inside: int
    outside: int


def detection(inside: Floats, outside: Floats) -> Detection:
    """AUROC, AUPR (average precision) and FPR at 95 % TPR, with intervals over the samples of both sets.

    Args:
        inside: (n,) scores of the model's own test samples.
        outside: (m,) scores of the other dataset.
    """
    scores = np.concatenate([inside, outside])
    positive = np.concatenate([np.zeros(len(inside)), np.ones(len(outside))])
    names = ("auroc", "aupr", "fpr95")
    values = _curves(scores, positive, np.ones((1, len(scores))))[:, 0]
    found: dict[str, Interval | None] = dict.fromkeys(names)
    if len(inside) > 1 and len(outside) > 1:
        weights = np.concatenate([resamples(len(inside), seed=0), resamples(len(outside), seed=1)], axis=1)
        found = {name: interval(row) for name, row in zip(names, _curves(scores, positive, weights), strict=True)}
    return Detection(*(float(value) for value in values), found, len(inside), len(outside))


def _curves(scores: Floats, positive: Floats, weights: Floats) -> Floats:
    """(3, R): AUROC, average precision and FPR at 95 % TPR of each row of weights (R, n)."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores pass a threshold together
    hits, total = positive[order] * weights[:, order], weights[:, order]
    tp = np.cumsum(hits, axis=1)[:, last]
    fp = np.cumsum(total, axis=1)[:, last] - tp
    tpr, fpr = tp / tp[:, -1:], fp / fp[:, -1:]
    start = np.zeros((len(weights), 1))
    tpr0, fpr0 = np.hstack([start, tpr]), np.hstack([start, fpr])
    auroc = np.trapezoid(tpr0, fpr0, axis=1)
    precision = np.divide(tp, tp + fp, out=np.ones_like(tp), where=tp + fp > 0)
    aupr = (np.diff(tpr0, axis=1) * precision).sum(axis=1)
    reached = (tpr >= 0.95 - 1e-12).argmax(axis=1)
    return np.stack([auroc, aupr, fpr[np.arange(len(weights)), reached]])
