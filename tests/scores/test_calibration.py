"""Calibration against its definitions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from simclrseg.scores.confidences import Confidences


def predictions(number: int, classes: int, *, honest: bool) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that were drawn from them or from a flatter distribution."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(classes, 0.5), number)
    drawn = probabilities if honest else (probabilities + 1 / classes) / 2
    labels = (drawn.cumsum(1) < rng.random((number, 1))).sum(1).clip(0, classes - 1)
    return probabilities, labels


def test_honest_probabilities_are_calibrated_and_boastful_ones_are_not() -> None:
    assert Confidences.of_images(*predictions(50_000, 4, honest=True)).ece < 0.01
    assert Confidences.of_images(*predictions(50_000, 4, honest=False)).ece > 0.1


def test_the_error_is_its_definition() -> None:
    probabilities, labels = predictions(500, 3, honest=False)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert Confidences.of_images(probabilities, labels).ece == pytest.approx(expected, abs=1e-9)


def test_brier_is_scikit_learns() -> None:
    probabilities, labels = predictions(400, 2, honest=True)
    theirs = brier_score_loss(labels, probabilities[:, 1], scale_by_half=True)
    assert Confidences.of_images(probabilities, labels).brier == pytest.approx(2 * theirs, abs=1e-9)


def as_pixels(probabilities: np.ndarray, labels: np.ndarray) -> Confidences:
    """The same predictions as the pixels of an image one pixel high."""
    return Confidences.of_pixels(probabilities.T[:, None], labels[None].astype(np.uint8))


def test_images_add_up() -> None:
    probabilities, labels = predictions(100, 3, honest=True)
    whole, parts = as_pixels(probabilities, labels), Confidences.none()
    for rows in (slice(0, 30), slice(30, 100)):
        parts += as_pixels(probabilities[rows], labels[rows])
    assert (parts.number == whole.number).all() and (parts.levels == whole.levels).all()
    assert parts.brier == pytest.approx(whole.brier) and parts.aurc == pytest.approx(whole.aurc)
    assert parts.ece == pytest.approx(whole.ece)


@pytest.mark.parametrize("together", [1, 7, 33])
def test_predictions_that_are_worked_on_in_parts_are_counted_as_all_at_once(monkeypatch, together: int) -> None:
    probabilities, labels = predictions(100, 3, honest=False)
    whole = as_pixels(probabilities, labels), Confidences.of_images(probabilities, labels)
    monkeypatch.setattr("simclrseg.scores.confidences._TOGETHER", together)  # of which none divides 100 but 1
    parts = as_pixels(probabilities, labels), Confidences.of_images(probabilities, labels)
    for one, other in zip(parts, whole, strict=True):
        assert (one.number == other.number).all() and (one.levels == other.levels).all()
        assert one.ece == pytest.approx(other.ece) and one.brier == pytest.approx(other.brier)


def test_the_foreground_alone_says_as_much_as_both_classes_and_ignored_pixels_nothing() -> None:
    probabilities, labels = predictions(100, 2, honest=False)
    both = as_pixels(probabilities[:90], labels[:90])
    labels[90:] = 255
    alone = Confidences.of_pixels(probabilities[None, :, 1], labels[None].astype(np.uint8))
    assert (alone.number == both.number).all() and (alone.right == both.right).all()
    assert (alone.ece, alone.brier) == (pytest.approx(both.ece), pytest.approx(both.brier))


def sure_predictions(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of two classes, most of them above 0.999, and the surer the more often right."""
    rng = np.random.default_rng(0)
    doubt = np.exp(rng.uniform(np.log(1e-6), np.log(0.5), number))
    wrong = rng.random(number) < 0.3 * np.sqrt(doubt)
    return np.stack([1 - doubt, doubt], axis=1).astype(np.float32), wrong.astype(np.int64)


def test_the_area_under_risk_and_coverage_is_its_definition_where_most_predictions_are_sure() -> None:
    probabilities, labels = sure_predictions(4_000)
    top = probabilities.max(1)
    assert np.mean(top > 0.999) > 0.5
    wrong = (probabilities.argmax(1) != labels)[np.argsort(-top, kind="stable")]
    expected = np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))
    assert Confidences.of_images(probabilities, labels).aurc == pytest.approx(expected, abs=1e-5)
    assert as_pixels(probabilities, labels).aurc == pytest.approx(expected, rel=0.01)


def test_predictions_of_one_confidence_count_as_in_random_order() -> None:
    probabilities, labels = np.array([[0.75, 0.25]] * 6), np.array([0, 0, 0, 1, 1, 0])
    labels_in_order = np.random.default_rng(0).permuted(np.tile(labels, (20_000, 1)), axis=1)
    expected = (labels_in_order.cumsum(1) / np.arange(1, 7)).mean()
    assert Confidences.of_images(probabilities, labels).aurc == pytest.approx(expected, abs=0.005)


def test_risk_falls_with_coverage_where_the_sure_predictions_are_the_right_ones() -> None:
    confidences = Confidences.of_images(*predictions(20_000, 3, honest=True))
    coverage, risk = confidences.risk_coverage()
    assert coverage[-1] == 1
    assert (np.diff(coverage) > 0).all()
    assert risk[-1] == pytest.approx(1 - confidences.right.sum() / confidences.number.sum())
    assert risk[coverage <= 0.2].max() < risk[-1]
    assert 0 < confidences.aurc < risk[-1]


def test_nothing_counted_is_not_a_number() -> None:
    nothing = Confidences.none()
    assert np.isnan(nothing.brier) and np.isnan(nothing.ece) and np.isnan(nothing.aurc)
