"""Calibration: is a probability of 0.8 right in 80 of 100 cases? And how good are the predictions that are sure?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simclrseg.evaluation.intervals import Floats
from simclrseg.metadata import IGNORE

BINS = 15
_FINE = 1500  # bins of the confidence by which risk and coverage are read; BINS divides it


@dataclass
class Confidences:
    """Counts of predictions by their confidence, the probability of the predicted class; batches add up.

    Attributes:
        number, right, confidence: (1500,) predictions in each fine bin of (0, 1], how many of them are right, and the
            sum of their confidences.
        squared: sum over predictions of the Brier score, sum_k (p_k - y_k)^2.
    """

    number: Floats
    right: Floats
    confidence: Floats
    squared: float = 0.0

    @classmethod
    def none(cls) -> Confidences:
        return cls(*(np.zeros(_FINE) for _ in range(3)))

    def add(self, probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        """Count predictions.

        Args:
            probabilities: (N, K), rows that sum to 1.
            labels: (N,) true classes.
        """
        top, predicted = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1)
        fine = np.clip(np.ceil(top * _FINE).astype(np.intp) - 1, 0, _FINE - 1)
        self.number += np.bincount(fine, minlength=_FINE)
        self.right += np.bincount(fine, weights=predicted == labels, minlength=_FINE)
        self.confidence += np.bincount(fine, weights=top, minlength=_FINE)
        squares = (probabilities.astype(np.float64) ** 2).sum(axis=1)
        of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        self.squared += float((squares - 2 * of_truth + 1).sum())

    @classmethod
    def of_pixels(cls, probability: NDArray[np.floating], mask: NDArray[np.uint8]) -> Confidences:
        """Count the pixels of one image.

        Args:
            probability: (H, W) of the foreground, or (C, H, W).
            mask: (H, W) true class ids; 255 counts nowhere.
        """
        counted = mask != IGNORE
        p = probability[None] if probability.ndim == 2 else probability
        p = p[:, counted].T  # (n, 1 or C)
        if p.shape[1] == 1:
            p = np.concatenate([1 - p, p], axis=1)
        found = cls.none()
        found.add(p, mask[counted])
        return found

    def __iadd__(self, other: Confidences) -> Confidences:
        """Add the predictions of another batch or image."""
        self.number += other.number
        self.right += other.right
        self.confidence += other.confidence
        self.squared += other.squared
        return self

    @property
    def brier(self) -> float:
        """Mean of sum_k (p_k - y_k)^2 (Brier 1950), in [0, 2]; NaN without predictions."""
        total = self.number.sum()
        return self.squared / total if total else float("nan")

    def reliability(self, bins: int = BINS) -> Reliability:
        """Confidence against accuracy in equal bins, of which there are a divisor of 1500."""
        number, right, confidence = (
            column.reshape(bins, -1).sum(axis=1) for column in (self.number, self.right, self.confidence)
        )
        return Reliability(number, right, confidence)

    def risk_coverage(self) -> tuple[Floats, Floats]:
        """Share of the predictions that are kept, the surest first, and the share of these that is wrong.

        El-Yaniv & Wiener 2010. Both (n,), coverage rising to 1.
        """
        number, right = self.number[::-1], self.right[::-1]
        kept = np.cumsum(number)
        used = number > 0
        if not used.any():
            return np.zeros(0), np.zeros(0)
        return kept[used] / kept[-1], 1 - np.cumsum(right)[used] / kept[used]

    @property
    def aurc(self) -> float:
        """Area under risk against coverage: the mean risk over all coverages; lower is better."""
        coverage, risk = self.risk_coverage()
        if len(coverage) == 0:
            return float("nan")
        return float((np.diff(coverage, prepend=0.0) * risk).sum())


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram: per bin of confidence, predictions, right ones and the sum of confidences, (bins,)."""

    number: Floats
    right: Floats
    confidence: Floats

    @property
    def accuracy(self) -> Floats:
        """(bins,); NaN where a bin is empty."""
        return np.divide(self.right, self.number, out=np.full(len(self.number), np.nan), where=self.number > 0)

    @property
    def mean_confidence(self) -> Floats:
        """(bins,); NaN where a bin is empty."""
        return np.divide(self.confidence, self.number, out=np.full(len(self.number), np.nan), where=self.number > 0)

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over predictions of |accuracy - confidence| of their bin.

        Naeini et al. 2015; Guo et al. 2017, eq. 3.
        """
        total = self.number.sum()
        return float(np.abs(self.right - self.confidence).sum() / total) if total else float("nan")
