"""Calibration against its definitions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from simclrseg.evaluation.calibration import Confidences


def predictions(number: int, classes: int, *, honest: bool) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that were drawn from them or from a flatter distribution."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(classes, 0.5), number)
    drawn = probabilities if honest else (probabilities + 1 / classes) / 2
    labels = (drawn.cumsum(1) < rng.random((number, 1))).sum(1).clip(0, classes - 1)
    return probabilities, labels


def counted(probabilities: np.ndarray, labels: np.ndarray) -> Confidences:
    confidences = Confidences.none()
    confidences.add(probabilities, labels)
    return confidences


def test_honest_probabilities_are_calibrated_and_boastful_ones_are_not() -> None:
    assert counted(*predictions(50_000, 4, honest=True)).reliability().ece < 0.01
    assert counted(*predictions(50_000, 4, honest=False)).reliability().ece > 0.1


def test_the_error_is_its_definition() -> None:
    probabilities, labels = predictions(500, 3, honest=False)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert counted(probabilities, labels).reliability().ece == pytest.approx(expected, abs=1e-9)


def test_brier_is_scikit_learns() -> None:
    probabilities, labels = predictions(400, 2, honest=True)
    theirs = brier_score_loss(labels, probabilities[:, 1], scale_by_half=True)
    assert counted(probabilities, labels).brier == pytest.approx(2 * theirs, abs=1e-9)


def test_batches_add_up() -> None:
    probabilities, labels = predictions(100, 3, honest=True)
    whole, parts = counted(probabilities, labels), Confidences.none()
    for rows in (slice(0, 30), slice(30, 100)):
        parts.add(probabilities[rows], labels[rows])
    assert (parts.number == whole.number).all()
    assert parts.brier == pytest.approx(whole.brier)


def test_risk_falls_with_coverage_where_the_sure_predictions_are_the_right_ones() -> None:
    confidences = counted(*predictions(20_000, 3, honest=True))
    coverage, risk = confidences.risk_coverage()
    assert coverage[-1] == 1
    assert (np.diff(coverage) > 0).all()
    assert risk[-1] == pytest.approx(1 - confidences.right.sum() / confidences.number.sum())
    assert risk[coverage <= 0.2].max() < risk[-1]
    assert 0 < confidences.aurc < risk[-1]


def test_nothing_counted_is_not_a_number() -> None:
    nothing = Confidences.none()
    assert np.isnan(nothing.brier) and np.isnan(nothing.reliability().ece) and np.isnan(nothing.aurc)
