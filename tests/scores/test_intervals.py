"""Bootstrap intervals against resampling spelled out, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simclrseg.scores.intervals import interval, interval_of_mean, means, resamples, student_t


def test_each_resample_draws_as_many_images_as_there_are() -> None:
    weights = resamples(7, number=50)
    assert weights.shape == (50, 7)
    assert (weights.sum(1) == 7).all()
    assert len(np.unique(weights, axis=0)) > 40


def test_the_same_seed_draws_the_same_images() -> None:
    assert (resamples(9, seed=3) == resamples(9, seed=3)).all()
    assert (resamples(9, seed=3) != resamples(9, seed=4)).any()


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
        found = interval(means(rng.binomial(20, 0.7, 100) / 20, weights))
        assert found is not None
        hits += found.low <= 0.7 <= found.high
    assert 180 <= hits <= 199


def test_images_without_a_value_count_in_no_resample() -> None:
    values = np.array([1.0, np.nan, 3.0])
    weights = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 0.0], [0.0, 3.0, 0.0]])
    assert means(values, weights) == pytest.approx([2.0, 1.0, np.nan], nan_ok=True)


def test_one_image_has_no_interval() -> None:
    assert interval_of_mean(np.array([0.5])) is None


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 2.4, 3, 4, 7.5, 30, 1000])
def test_the_quantile_of_students_t_is_scipys(freedom):
    exact = stats.t.ppf(0.975, freedom)
    assert 0.998 * exact < student_t(freedom) < (1.002 if freedom >= 3 else 1.03) * exact
