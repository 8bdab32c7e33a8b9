"""Metrics with their bootstrap intervals, and the differences between two models on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simclrseg.scores.intervals import Floats, interval, means, resamples
from simclrseg.scores.results import Estimate, Scores


def draws(scores: Scores) -> Floats | None:
    """The weights (R, N) of the resamples; None for one image, which says nothing about others."""
    return resamples(len(scores.keys)) if len(scores.keys) > 1 else None


def over_split(scores: Scores, weights: Floats | None) -> dict[str, Estimate]:
    """Every metric over the split."""
    return _estimates(scores.resampled(_everything(scores)), None if weights is None else scores.resampled(weights))


def over_images(by_image: Mapping[str, Floats], weights: Floats | None) -> dict[str, Estimate]:
    """The means of what each image has; images without a value are left out."""
    one = np.ones((1, len(next(iter(by_image.values())))))
    return _estimates(
        {name: means(values, one) for name, values in by_image.items()},
        None if weights is None else {name: means(values, weights) for name, values in by_image.items()},
    )


def class_rows(scores: Scores, weights: Floats | None, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class: its name, its metrics and the ends of their intervals; NaN where it does not occur."""
    found = scores.by_class(_everything(scores))
    drawn = None if weights is None else scores.by_class(weights)
    rows: list[dict[str, Any]] = []
    for label, name in enumerate(classes):
        row: dict[str, Any] = {"class": name}
        for metric, values in found.items():
            ends = None if drawn is None else interval(drawn[metric][:, label])
            row[metric] = float(values[0, label])
            row[f"{metric}_low"], row[f"{metric}_high"] = (ends.low, ends.high) if ends else (np.nan, np.nan)
        rows.append(row)
    return rows


def differences(first: Scores, second: Scores, weights: Floats | None) -> dict[str, Estimate]:
    """Differences of the second model from the first, by metric, with paired intervals.

    The same images are drawn for both; the two differ by more than chance where an interval does not hold 0.

    Raises:
        ValueError: if the images are others.
    """
    if first.keys != second.keys:
        raise ValueError("two models can only be compared on the same images")

    def subtracted(some: Floats) -> dict[str, Floats]:
        ours, theirs = second.resampled(some), first.resampled(some)
        return {name: ours[name] - theirs[name] for name in ours if name in theirs}

    return _estimates(subtracted(_everything(first)), None if weights is None else subtracted(weights))


def _everything(scores: Scores) -> Floats:
    return np.ones((1, len(scores.keys)))


def _estimates(values: Mapping[str, Floats], drawn: Mapping[str, Floats] | None) -> dict[str, Estimate]:
    return {
        name: Estimate(float(value[0]), None if drawn is None else interval(drawn[name]))
        for name, value in values.items()
    }
