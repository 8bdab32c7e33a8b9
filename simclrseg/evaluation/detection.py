"""Out-of-distribution detection: does the model know when it does not know?

Every score is higher for what looks less like the training data. (A score that is turned, such as the maximum
probability itself, gives 1 - AUROC: 0.08 where it should say 0.92.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simclrseg.scores.intervals import RESAMPLES, Floats, Interval, interval, resamples
from simclrseg.scores.results import Estimate

NAMES = ("auroc", "aupr", "fpr95")
QUANTILES = 1000  # of many different scores, which intervals are read from
_TOGETHER = 100  # resamples at a time: a few arrays of so many rows, a column an image


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
    doubt: Floats = 1 - probabilities.max(axis=1).astype(np.float64)
    return doubt


def entropy(probabilities: NDArray[np.floating]) -> Floats:
    """H(p) in nats, in [0, ln K]: (N, K, ...) -> (N, ...)."""
    p = probabilities.astype(np.float64)
    nats: Floats = -(p * np.log(np.clip(p, 1e-12, None))).sum(axis=1)
    return nats


def energy(logits: NDArray[np.floating]) -> Floats:
    """-ln sum exp(x) (Liu et al. 2020, eq. 4, at temperature 1): (N, K, ...) -> (N, ...)."""
    x = logits.astype(np.float64)
    top = x.max(axis=1)
    free: Floats = -(top + np.log(np.exp(x - top[:, None]).sum(axis=1)))
    return free


def mutual_information(draws: Iterable[NDArray[np.floating]]) -> Floats:
    """H(mean p) - mean H(p): what the draws of the weights disagree about (Gal et al. 2017, eq. 2), in nats.

    Draws are one or more, each the probabilities of a forward pass with dropout: (N, K, ...) -> (N, ...).
    """
    total, expected, number = np.zeros(()), np.zeros(()), 0
    for draw in draws:
        total, expected, number = total + draw, expected + entropy(draw), number + 1
    information: Floats = np.maximum(entropy(total / number) - expected / number, 0)  # below by rounding only
    return information


@dataclass(frozen=True)
class Detection:
    """How well a score tells out-of-distribution samples, the positives, from the model's own.

    Attributes:
        auroc: area under the receiver operating characteristic; 0.5 is chance.
        aupr: average precision; its chance level is the share of the positives.
        fpr95: false positive rate at the threshold that finds 95 % of the positives.
        intervals: of the three, by name, over images.
        inside, outside: number of images.
    """

    auroc: float
    aupr: float
    fpr95: float
    intervals: dict[str, Interval | None]
    inside: int
    outside: int

    def estimates(self) -> dict[str, Estimate]:
        """The three with their intervals."""
        return {name: Estimate(getattr(self, name), around) for name, around in self.intervals.items()}


def detection(inside: Floats, outside: Floats) -> Detection:
    """AUROC, AUPR and FPR at 95 % TPR, with intervals over the images of both sets.

    Args:
        inside: scores of the model's own test images, (n,), or (n, P) of P pixels of each.
        outside: those of the other dataset, (m,) or (m, P).
    """
    scores = np.concatenate([inside, outside]).reshape(len(inside) + len(outside), -1)
    positive = np.arange(len(scores)) >= len(inside)
    each = _counts(scores.reshape(-1, 1), positive.repeat(scores.shape[1]), np.ones((1, scores.size)))
    auroc, aupr, fpr95 = _curves(*each)[:, 0].tolist()
    found: dict[str, Interval | None] = dict.fromkeys(NAMES)
    if len(inside) > 1 and len(outside) > 1:
        binned = _binned(scores)
        parts = []
        for start in range(0, RESAMPLES, _TOGETHER):
            drawn = [resamples(len(part), number=_TOGETHER, seed=start + k) for k, part in enumerate((inside, outside))]
            parts.append(_curves(*_counts(binned, positive, np.concatenate(drawn, axis=1))))
        found = {name: interval(row) for name, row in zip(NAMES, np.concatenate(parts, axis=1), strict=True)}
    return Detection(auroc, aupr, fpr95, found, len(inside), len(outside))


def _binned(scores: Floats) -> Floats:
    """Scores (n, P), where there are many different ones by their place among ``QUANTILES``."""
    different = np.unique(scores)
    if len(different) <= QUANTILES:
        return scores
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, QUANTILES + 1)[1:-1]))
    return np.searchsorted(edges, scores, side="left").astype(np.float64)


def _counts(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """True and false positives (R, T) at each of T different scores as the threshold, from the highest down.

    Args:
        scores: (n, P), P pixels of n images.
        positive: (n,) images.
        weights: (R, n), how often each image is counted.
    """
    different, place = np.unique(-scores, return_inverse=True)
    place = place.reshape(scores.shape)
    if scores.shape[1] == 1:  # each image has one score: sort and add up
        order = np.argsort(place[:, 0], kind="stable")
        last = np.append(np.diff(place[order, 0]) != 0, True)  # equal scores pass a threshold together
        tp, fp = (np.cumsum(weights[:, order] * which[order], axis=1)[:, last] for which in (positive, ~positive))
        return tp, fp
    rows = np.arange(len(scores))[:, None] * len(different)
    table = np.bincount((place + rows).ravel(), minlength=len(scores) * len(different))
    table = table.reshape(len(scores), -1).astype(np.float64)
    tp, fp = (np.cumsum(weights[:, which] @ table[which], axis=1) for which in (positive, ~positive))
    return tp, fp


def _curves(tp: Floats, fp: Floats) -> Floats:
    """(3, R): AUROC, average precision and FPR at 95 % TPR of each row of counts (R, T)."""
    tpr, fpr = tp / tp[:, -1:], fp / fp[:, -1:]
    start = np.zeros((len(tp), 1))
    tpr0, fpr0 = np.hstack([start, tpr]), np.hstack([start, fpr])
    auroc = np.trapezoid(tpr0, fpr0, axis=1)
    precision = np.divide(tp, tp + fp, out=np.ones_like(tp), where=tp + fp > 0)
    aupr = (np.diff(tpr0, axis=1) * precision).sum(axis=1)
    reached = (tpr >= 0.95 - 1e-12).argmax(axis=1)
    return np.stack([auroc, aupr, fpr[np.arange(len(tp)), reached]])
