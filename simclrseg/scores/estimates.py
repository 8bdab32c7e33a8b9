"""Metrics with their intervals over images, or over images and seeds, and differences on the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simclrseg.scores.intervals import Floats, Interval, interval, means, resamples, student_t
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

    The same images are drawn for both, ValueError for others; the two differ by more than chance where an interval does
    not hold 0.
    """
    if first.keys != second.keys:
        raise ValueError("two models can only be compared on the same images")

    def subtracted(some: Floats) -> dict[str, Floats]:
        ours, theirs = second.resampled(some), first.resampled(some)
        return {name: ours[name] - theirs[name] for name in ours if name in theirs}

    return _estimates(subtracted(_everything(first)), None if weights is None else subtracted(weights))


def over_seeds(seeds: Sequence[Scores], weights: Floats | None) -> dict[str, Estimate]:
    """Means over trainings that differ by their seed, with intervals over images and seeds.

    The error of a mean over n seeds is that over images, by the bootstrap, and that over seeds: Student's t of n - 1
    degrees of freedom times the standard error. They are independent, so that their squares add up. A bootstrap over
    two or three seeds would be far too narrow. Of a single seed the interval is over images alone.
    """
    found, drawn = _by_seed(seeds, weights)
    return {name: _over_seeds(values.mean(), drawn.get(name), _margin(values)) for name, values in found.items()}


def differences_over_seeds(
    first: Sequence[Scores], second: Sequence[Scores], weights: Floats | None, *, paired: bool
) -> dict[str, Estimate]:
    """Differences of the second trainings' means from the first's, with intervals over images and seeds.

    Args:
        paired: whether they have the same seeds, in the same order, whose differences are taken one by one; else the
            degrees of freedom are Welch's (1947). A single seed is taken to vary as those of the other do.
    """
    ours, our_draws = _by_seed(second, weights)
    theirs, their_draws = _by_seed(first, weights)
    found = {}
    for name in (name for name in ours if name in theirs):
        drawn = our_draws[name] - their_draws[name] if name in our_draws else None
        margin = _margin(ours[name] - theirs[name]) if paired else _margin(ours[name], theirs[name])
        found[name] = _over_seeds(ours[name].mean() - theirs[name].mean(), drawn, margin)
    return found


def spread(seeds: Sequence[Scores]) -> dict[str, float]:
    """Standard deviations over trainings; NaN of a single one."""
    found, _ = _by_seed(seeds, None)
    return {name: float(values.std(ddof=1)) if len(values) > 1 else math.nan for name, values in found.items()}


def _by_seed(seeds: Sequence[Scores], weights: Floats | None) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Every metric of each training, (n,), and the mean over trainings in each resample of the images, (R,)."""
    whole = [scores.resampled(_everything(scores)) for scores in seeds]
    drawn = [] if weights is None else [scores.resampled(weights) for scores in seeds]
    return (
        {name: np.array([values[name][0] for values in whole]) for name in whole[0]},
        {name: np.mean([values[name] for values in drawn], axis=0) for name in whole[0]} if drawn else {},
    )


def _margin(*samples: Floats) -> float:
    """Half the width of the interval over seeds: of a mean, or of the difference of two; 0 where there is one seed."""
    several = [values for values in samples if len(values) > 1]
    errors = [float(values.var(ddof=1)) / len(values) for values in several]
    if len(several) == 1 < len(samples):
        errors[0] *= 1 + len(several[0])  # s² (1 / n + 1): of the single one the error is s itself
    if not sum(errors):
        return 0.0
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(values) - 1) for error, values in zip(errors, several, strict=True)
    )
    return student_t(freedom) * math.sqrt(sum(errors))


def _over_seeds(value: float, drawn: Floats | None, margin: float) -> Estimate:
    """A mean with its interval over images, made wider by the margin over seeds."""
    ends = None if drawn is None else interval(drawn)
    if ends is None:
        return Estimate(float(value))
    below, above = math.hypot(value - ends.low, margin), math.hypot(ends.high - value, margin)
    return Estimate(float(value), Interval(float(value - below), float(value + above)))


def _everything(scores: Scores) -> Floats:
    return np.ones((1, len(scores.keys)))


def _estimates(values: Mapping[str, Floats], drawn: Mapping[str, Floats] | None) -> dict[str, Estimate]:
    return {
        name: Estimate(float(value[0]), None if drawn is None else interval(drawn[name]))
        for name, value in values.items()
    }
