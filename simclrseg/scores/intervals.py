"""Bootstrap intervals over images: how much would a number change with other images of the same kind?

An image is resampled whole, by its counts, for its pixels are not independent of one another. A resample is a row of
weights, so that all of them are one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a bootstrap distribution (Efron & Tibshirani 1993, §13.3), at 95 %."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.4f}, {self.high:.4f}]"


def resamples(images: int, *, number: int = RESAMPLES, seed: int = 0) -> Floats:
    """How often each image is drawn, with replacement, in each resample.

    Args:
        images: number of images n.
        seed: of the draws; two models that are compared get the same ones.

    Returns:
        (number, n); each row sums to n.
    """
    draws = np.random.default_rng(seed).integers(0, images, (number, images))
    draws += images * np.arange(number)[:, None]
    return np.bincount(draws.ravel(), minlength=number * images).reshape(number, images).astype(np.float64)


def interval(values: Floats) -> Interval | None:
    """The middle 95 % of resampled values (R,); None where they are not numbers."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(float(low), float(high))


def interval_of_mean(values: Floats) -> Interval | None:
    """Interval of a mean over images, (n,); None for one image, which says nothing about others."""
    return interval(means(values, resamples(len(values)))) if len(values) > 1 else None


def means(values: Floats, weights: Floats) -> Floats:
    """The mean of each resample, (R,), over the images that have a value; NaN where none was drawn."""
    known = ~np.isnan(values)
    drawn = weights[:, known].sum(1)
    total = weights[:, known] @ values[known]
    found: Floats = np.divide(total, drawn, out=np.full(len(weights), np.nan), where=drawn > 0)
    return found
