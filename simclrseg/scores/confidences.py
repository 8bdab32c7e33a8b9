"""Calibration: is a probability of 0.8 right in 80 of 100 cases? And how good are the predictions that are sure?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simclrseg.metadata import IGNORE
from simclrseg.scores.intervals import Floats

BINS = 15
LEVELS, WIDTH = 2_500, 0.01
"""Bins of the logit of the confidence by which risk and coverage of pixels are read, and how wide they are."""
LOWEST = -8.0  # the logit where they begin; the last one ends at 17, above the largest float32 below 1
NEAREST = 2.0**-25  # to 0 and 1 that a confidence comes
_TOGETHER = 1 << 18  # predictions that are worked on at once


@dataclass
class Confidences:
    """Counts of predictions by their confidence, the probability of the predicted class; those of images add up.

    Attributes:
        number, right, confidence: (15,) predictions in each equal bin of (0, 1], how many of them are right, and the
            sum of their confidences.
        levels: (2, L) predictions at each level of confidence, rising, and the right ones among them. Of images every
            confidence that occurs is a level; of pixels, which are too many, there are 2,500.
        squared: sum over predictions of the Brier score, sum_k (p_k - y_k)^2.
    """

    number: Floats
    right: Floats
    confidence: Floats
    levels: Floats
    squared: float = 0.0

    @classmethod
    def none(cls) -> Confidences:
        """To which those of pixels can be added."""
        return cls(np.zeros(BINS), np.zeros(BINS), np.zeros(BINS), np.zeros((2, LEVELS)))

    @classmethod
    def of_images(cls, probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> Confidences:
        """Count images of probabilities (N, K) and true classes (N,)."""
        values, level = np.unique(probabilities.max(axis=1), return_inverse=True)
        return cls._of(probabilities.T, labels, level, len(values))

    @classmethod
    def of_pixels(cls, probability: NDArray[np.floating], mask: NDArray[np.uint8]) -> Confidences:
        """Count the pixels of one image.

        Args:
            probability: (H, W) of the foreground, or (C, H, W).
            mask: (H, W) true class ids; 255 counts nowhere.
        """
        counted = mask != IGNORE
        p = probability[None] if probability.ndim == 2 else probability
        return cls._of(p[:, counted], mask[counted])

    @classmethod
    def _of(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer],
        level: NDArray[np.integer] | None = None,
        levels: int = LEVELS,
    ) -> Confidences:
        """Count predictions of probabilities (K, N).

        Part by part, for the numbers on the way take many times the memory of the probabilities; but sums are over all.

        Args:
            probabilities: without levels also (1, N), of the second of two classes.
            level: (N,) of each; by default that of pixels.
        """
        count = len(labels)
        top, scores, place = np.empty(count), np.empty(count), np.empty(count, np.int8)
        right, by_level = np.zeros(BINS), np.zeros((2, levels))
        for part in _parts(count):
            some, truth = probabilities[:, part], labels[part]
            if level is None and len(some) == 1:
                some = np.concatenate([1 - some, some])
            highest = some.max(axis=0)
            own = _level_of(highest) if level is None else level[part]
            top[part] = highest
            place[part] = np.clip(np.ceil(top[part] * BINS).astype(np.intp) - 1, 0, BINS - 1)
            hit = some.argmax(axis=0) == truth
            right += np.bincount(place[part][hit], minlength=BINS)
            by_level += [np.bincount(at, minlength=levels) for at in (own, own[hit])]
            squares = (some.astype(np.float64) ** 2).sum(axis=0)
            of_truth = some[truth, np.arange(len(truth))].astype(np.float64)
            scores[part] = squares - 2 * of_truth + 1
        return cls(
            np.bincount(place, minlength=BINS).astype(np.float64),
            right,
            np.bincount(place, weights=top, minlength=BINS).astype(np.float64),
            by_level,
            float(scores.sum()),
        )

    def __iadd__(self, other: Confidences) -> Confidences:
        """Add the pixels of another image."""
        self.number += other.number
        self.right += other.right
        self.confidence += other.confidence
        self.levels += other.levels
        self.squared += other.squared
        return self

    @property
    def brier(self) -> float:
        """Mean of sum_k (p_k - y_k)^2 (Brier 1950), in [0, 2]; NaN without predictions."""
        total = self.number.sum()
        return self.squared / total if total else float("nan")

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over predictions of |accuracy - confidence| of their bin.

        Naeini et al. 2015; Guo et al. 2017, eq. 3. NaN without predictions.
        """
        total = self.number.sum()
        return float(np.abs(self.right - self.confidence).sum() / total) if total else float("nan")

    def mean(self, sums: Floats) -> Floats:
        """Accuracy of each bin from ``right``, mean confidence from ``confidence``: (15,), NaN where a bin is empty."""
        mean: Floats = np.divide(sums, self.number, out=np.full(BINS, np.nan), where=self.number > 0)
        return mean

    def risk_coverage(self) -> tuple[Floats, Floats]:
        """Share of the predictions that are kept, the surest first, and the share of these that is wrong.

        El-Yaniv & Wiener 2010. Both (n,), coverage rising to 1.
        """
        kept, wrong = self._surest()
        return kept / kept[-1:], wrong / kept

    @property
    def aurc(self) -> float:
        """Area under risk against coverage: the mean risk over all coverages; lower is better.

        Predictions of one level come in no order, so that on average its errors lie evenly among them.
        """
        kept, wrong = self._surest()
        if len(kept) == 0:
            return float("nan")
        number, errors = np.diff(kept, prepend=0.0), np.diff(wrong, prepend=0.0)
        before, wrong_before = kept - number, wrong - errors
        # the sum of (wrong_before + i share) / (before + i) for i = 1 ... number
        share = errors / number
        risks = errors + (wrong_before - share * before) * (_harmonic(kept) - _harmonic(before))
        return float(risks.sum() / kept[-1])

    def _surest(self) -> tuple[Floats, Floats]:
        """Predictions down to each level that occurs, the surest first, and how many of them are wrong."""
        number, right = self.levels[:, self.levels[0] > 0][:, ::-1]
        return np.cumsum(number), np.cumsum(number - right)


def _level_of(confidence: NDArray[np.floating]) -> NDArray[np.intp]:
    """The level of each pixel's confidence, (n,)."""
    logit = np.log(np.maximum(confidence, NEAREST) / np.maximum(1 - confidence, NEAREST))
    level: NDArray[np.intp] = np.clip(((logit - LOWEST) / WIDTH).astype(np.intp), 0, LEVELS - 1)
    return level


def _parts(count: int) -> Iterator[slice]:
    """So many predictions in parts of about one size, of which none is of a single one unless it is alone."""
    number = -(-count // _TOGETHER)
    return (slice(count * part // number, count * (part + 1) // number) for part in range(number))


def _harmonic(number: Floats) -> Floats:
    """1 + 1/2 + ... + 1/n less Euler's constant, within 0.002."""
    return np.log(number + 0.5) + 1 / (24 * (number + 0.5) ** 2)
