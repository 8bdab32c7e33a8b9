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


def student_t(freedom: float) -> float:
    """The 97.5 % quantile of Student's t with so many degrees of freedom, 1 or more.

    From 3 on by the expansion in 1 / freedom (Abramowitz & Stegun 1964, 26.7.5), within 0.2 %; below, between those of
    1, 2 and 3, at most 3 % too wide.
    """
    if freedom < 3:
        return float(np.exp(np.interp(1 / freedom, (1 / 3, 1 / 2, 1), np.log((3.1824, 4.3027, 12.7062)))))
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def means(values: Floats, weights: Floats) -> Floats:
    """The mean of each resample, (R,), over the images that have a value; NaN where none was drawn."""
    known = ~np.isnan(values)
    drawn = weights[:, known].sum(1)
    total = weights[:, known] @ values[known]
    found: Floats = np.divide(total, drawn, out=np.full(len(weights), np.nan), where=drawn > 0)
    return found
