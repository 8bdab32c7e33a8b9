"""Bootstrap intervals over images: how much would a number change with other photos of the same kind?

An image is resampled whole, by its counts, for its pixels are not independent of one another. A resample is a row of
weights, so that all of them are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95

Floats = NDArray[np.float64]
# (R, ...) sums of R resamples -> (R,) or (R, K) values
Statistic = Callable[[Floats], Floats]


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


def summed(counts: NDArray[np.generic], weights: Floats) -> Floats:
    """The sums of each resample: counts (n, ...) and weights (R, n) -> (R, ...)."""
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (weights @ flat).reshape(len(weights), *counts.shape[1:])


def interval(values: Floats, *, level: float = LEVEL) -> Interval | None:
    """The middle ``level`` of resampled values (R,); None where they are not numbers."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def interval_of(counts: NDArray[np.generic], statistic: Statistic, *, weights: Floats | None = None) -> Interval | None:
    """Interval of a ratio of sums over images, such as a micro-averaged IoU.

    Args:
        counts: (n, ...) of each image.
        statistic: (R, ...) sums -> (R,).

    Returns:
        None for fewer than two images: one image says nothing about others.
    """
    if len(counts) < 2:
        return None
    weights = resamples(len(counts)) if weights is None else weights
    return interval(statistic(summed(counts, weights)))


def interval_of_mean(values: Floats, *, weights: Floats | None = None) -> Interval | None:
    """Interval of a mean over images, (n,); images whose value is NaN count in no resample."""
    if len(values) < 2:
        return None
    weights = resamples(len(values)) if weights is None else weights
    return interval(means(values, weights))


def means(values: Floats, weights: Floats) -> Floats:
    """The mean of each resample, (R,), over the images that have a value; NaN where none was drawn."""
    known = ~np.isnan(values)
    drawn = weights[:, known].sum(1)
    total = weights[:, known] @ values[known]
    return np.divide(total, drawn, out=np.full(len(weights), np.nan), where=drawn > 0)


def paired_difference(
    first: NDArray[np.generic], second: NDArray[np.generic], statistic: Statistic
) -> tuple[float, Interval | None]:
    """What the second model has more than the first, on the same images, drawn together.

    Args:
        first, second: (n, ...) counts of the same n images in the same order.
        statistic: (R, ...) sums -> (R,).

    Returns:
        The difference and its interval; the two differ by more than chance where it does not hold 0.
    """
    if first.shape != second.shape:
        raise ValueError(f"counts of {first.shape} and {second.shape} are not of the same images")
    everything = np.ones((1, len(first)))
    difference = float((statistic(summed(second, everything)) - statistic(summed(first, everything)))[0])
    if len(first) < 2:
        return difference, None
    weights = resamples(len(first))
    return difference, interval(statistic(summed(second, weights)) - statistic(summed(first, weights)))
