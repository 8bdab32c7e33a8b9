"""Bootstrap intervals against resampling spelled out, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.evaluation.intervals import (
    interval,
    interval_of,
    interval_of_mean,
    means,
    paired_difference,
    resamples,
    summed,
)


def share(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def test_each_resample_draws_as_many_images_as_there_are() -> None:
    weights = resamples(7, number=50)
    assert weights.shape == (50, 7)
    assert (weights.sum(1) == 7).all()
    assert len(np.unique(weights, axis=0)) > 40


def test_the_same_seed_draws_the_same_images() -> None:
    assert (resamples(9, seed=3) == resamples(9, seed=3)).all()
    assert (resamples(9, seed=3) != resamples(9, seed=4)).any()


def test_summed_is_resampling_spelled_out() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (5, 2, 2))
    weights = resamples(5, number=3)
    for row, total in zip(weights.astype(int), summed(counts, weights), strict=True):
        images = np.repeat(np.arange(5), row)
        assert (total == counts[images].sum(0)).all()


def test_the_interval_is_the_middle_95_percent() -> None:
    found = interval(np.arange(1001.0))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((25, 975))
    assert interval(np.full(4, np.nan)) is None


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    found = interval_of_mean(values)
    assert found is not None
    assert found.low < values.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_ninety_five_in_a_hundred_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    weights = resamples(100)
    hits = 0
    for _ in range(200):
        counts = np.stack([rng.binomial(20, 0.7, 100), np.full(100, 20)], axis=1)
        found = interval_of(counts, share, weights=weights)
        assert found is not None
        hits += found.low <= 0.7 <= found.high
    assert 180 <= hits <= 199


def test_images_without_a_value_count_in_no_resample() -> None:
    values = np.array([1.0, np.nan, 3.0])
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    assert means(values, weights) == pytest.approx([2.0, 1.0, np.nan], nan_ok=True)


def test_one_image_has_no_interval() -> None:
    assert interval_of(np.array([[1, 2]]), share) is None
    assert interval_of_mean(np.array([0.5])) is None
    assert paired_difference(np.array([[1, 2]]), np.array([[2, 2]]), share) == (0.5, None)


def test_a_paired_difference_is_narrower_than_two_intervals_where_images_differ_more_than_models() -> None:
    rng = np.random.default_rng(0)
    first = np.stack([rng.integers(0, 90, 200), np.full(200, 100)], axis=1)
    second = first + np.array([5, 0])
    difference, found = paired_difference(first, second, share)
    assert difference == pytest.approx(0.05)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.05, 0.05))
    alone = interval_of(first, share)
    assert alone is not None and alone.high - alone.low > 0.05


def test_equal_models_differ_by_nothing() -> None:
    counts = np.random.default_rng(0).integers(1, 9, (30, 2))
    difference, found = paired_difference(counts, counts, share)
    assert difference == 0
    assert found is not None and (found.low, found.high) == (0, 0)


def test_counts_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        paired_difference(np.ones((3, 2)), np.ones((4, 2)), share)
