"""Metrics with intervals: against scikit-learn on resampled photos, and what they promise for one image or none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from simclrseg.evaluation.graphs import ratio_charts
from simclrseg.evaluation.results import Report
from simclrseg.metadata import ModelMetadata
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.estimates import (
    class_rows,
    differences,
    differences_over_seeds,
    draws,
    over_images,
    over_seeds,
    over_split,
    spread,
)
from simclrseg.scores.intervals import Interval, resamples
from simclrseg.scores.pixels import Pixels
from simclrseg.scores.results import Estimate
from simclrseg.targets.classify import scores as classification
from simclrseg.targets.segment import scores as segmentation

MODEL = ModelMetadata(
    task="segmentation", encoder="cnn", image_size=32, classes=("background", "figure"), threshold=0.5
)


def labels(n: int = 60, classes: int = 7, seed: int = 0) -> classification.ClassificationScores:
    """Photos of which about half are right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    probabilities = ((rng.dirichlet(np.ones(classes), n) + 0.5 * np.eye(classes)[truth]) / 1.5).astype(np.float32)
    sure = Confidences.of_images(probabilities, truth)
    keys = tuple(map(str, range(n)))
    return classification.ClassificationScores(MODEL, keys, tuple(range(n)), (), sure, truth, probabilities)


def masks(n: int = 12, *, better: float = 0.0, empty: float = 1.0) -> segmentation.SegmentationScores:
    """Images of 20 x 20 with a foreground that differs much, whose first is empty."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(n):
        mask = (np.arange(20) < rng.integers(4, 18) * (number > 0)) * np.ones((20, 1), np.uint8)
        probability = np.where(rng.random((20, 20)) < 0.2 - better, 1 - mask, mask) * (number > 0)
        images.append(Pixels.of(probability.astype(np.float32), mask.astype(np.uint8), 0.5, 2))
    return counted(Pixels.stack(images, 2), empty)


def counted(pixels: Pixels, empty: float = 1.0) -> segmentation.SegmentationScores:
    keys, indices = tuple(map(str, range(len(pixels)))), tuple(range(len(pixels)))
    return segmentation.SegmentationScores(MODEL, keys, indices, (), Confidences.none(), {"original": pixels}, empty)


def test_metrics_of_photos_equal_scikit_learns_and_so_do_those_of_a_resample():
    scores = labels()
    weights = draws(scores)
    assert weights is not None
    for some in (np.ones((1, 60)), weights[:1]):
        photos = np.repeat(np.arange(60), some[0].astype(int))
        truth, predicted = scores.labels[photos], scores.predicted[photos]
        expected = {
            "accuracy": sklearn_metrics.accuracy_score(truth, predicted),
            "macro_f1": sklearn_metrics.f1_score(truth, predicted, average="macro"),
            "top5": sklearn_metrics.top_k_accuracy_score(truth, scores.probabilities[photos], k=5, labels=range(7)),
        }
        assert {name: values[0] for name, values in scores.resampled(some).items()} == pytest.approx(expected, abs=1e-6)


def test_metrics_over_the_split_are_those_of_the_run():
    scores = labels()
    assert {name: found.value for name, found in over_split(scores, None).items()} == pytest.approx(scores.headline)


def test_every_class_has_its_metrics_and_their_ends():
    scores = labels()
    rows = class_rows(scores, draws(scores), [f"c{k}" for k in range(7)])
    expected = sklearn_metrics.precision_score(scores.labels, scores.predicted, average=None)
    assert [row["precision"] for row in rows] == pytest.approx(expected.tolist(), abs=1e-6)
    assert all(row["f1_low"] <= row["f1"] <= row["f1_high"] for row in rows)
    assert list(rows[0])[:2] == ["class", "iou"]


def test_one_image_has_no_interval():
    scores = masks(1)
    assert draws(scores) is None
    assert all(found.interval is None for found in over_split(scores, None).values())
    assert all(found.interval is None for found in over_images(scores.by_image(), None).values())
    assert np.isnan(class_rows(scores, None, ["a", "b"])[0]["iou_low"])


def test_the_mean_over_images_is_another_number_than_the_one_over_the_split():
    scores = masks()
    weights = draws(scores)
    mean, micro = over_images(scores.by_image(), weights)["iou"], over_split(scores, weights)["iou"]
    assert mean.value == pytest.approx(scores.by_image()["iou"].mean()) and abs(mean.value - micro.value) > 1e-3
    assert mean.interval is not None and mean.interval.low < mean.value < mean.interval.high


def test_images_that_are_wholly_ignored_widen_no_interval():
    images = [
        Pixels.of(np.full((4, 4), 0.9, np.float32), np.where(np.eye(4) > 0, 1, 0).astype(np.uint8), 0.5, 2),
        *[Pixels.of(np.zeros((4, 4), np.float32), np.full((4, 4), 255, np.uint8), 0.5, 2)] * 2,
    ]
    scores = counted(Pixels.stack(images, 2))
    found = over_split(scores, draws(scores))["iou"]
    assert found.value == 0.25 and found.interval == Interval(0.25, 0.25)


def test_empty_masks_are_counted_and_weigh_what_was_asked_for():
    values = {empty: over_images(masks(empty=empty).by_image(), None)["iou"].value for empty in (0.0, 1.0, np.nan)}
    assert masks().notes(None, None)["empty_masks"] == 1
    assert values[1.0] - values[0.0] == pytest.approx(1 / 12)
    assert values[0.0] == pytest.approx(values[np.nan] * 11 / 12)


def test_the_difference_of_two_models_is_paired_and_that_to_itself_is_nothing():
    first, second = masks(), masks(better=0.1)
    weights = draws(first)
    found = differences(first, second, weights)["iou"]
    assert found.value == pytest.approx(over_split(second, None)["iou"].value - over_split(first, None)["iou"].value)
    assert found.interval is not None and found.interval.low > 0
    width = found.interval.high - found.interval.low
    alone = over_split(first, weights)["iou"].interval
    assert alone is not None and width < alone.high - alone.low
    nothing = differences(first, first, weights)["iou"]
    assert (nothing.value, nothing.interval) == (0, Interval(0, 0))
    with pytest.raises(ValueError, match="same images"):
        differences(first, masks(11), weights)


def test_the_best_threshold_has_the_highest_iou():
    rng = np.random.default_rng(0)
    mask = (rng.random((30, 30)) < 0.4).astype(np.uint8)
    probability = (0.3 * rng.random((30, 30)) + 0.25 * mask).astype(np.float32)  # 0.5 is far too high
    pixels = Pixels.of(probability, mask, 0.5, 2)
    scores = counted(pixels)
    threshold = segmentation.best_threshold(scores)
    ious = [sklearn_metrics.jaccard_score(mask.ravel(), probability.ravel() > t) for t in scores.sweep()["threshold"]]
    assert scores.sweep()["iou"] == pytest.approx(ious, abs=1e-12)
    assert 0.2 < threshold < 0.35
    assert scores.at_threshold(threshold, np.ones((1, 1)))["iou"][0] == pytest.approx(max(ious))


def test_equally_good_thresholds_give_the_middle():
    mask = np.eye(8, dtype=np.uint8)
    pixels = Pixels.of(mask.astype(np.float32), mask, 0.5, 2)
    assert segmentation.best_threshold(counted(pixels)) == 0.5


@pytest.mark.parametrize("empty", [0.0, 1.0, np.nan])
def test_masks_without_a_foreground_have_no_best_threshold(empty):
    pixels = Pixels.of(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.uint8), 0.5, 2)
    scores = counted(pixels, empty)
    assert segmentation.best_threshold(scores) is None


def model(name: str, iou: float, ratio: float | None, pretrained: str = "none", **facts: Any) -> Any:
    found = Estimate(iou, Interval(iou - 0.01, iou + 0.01))
    known = {"data_ratio": ratio, "pretrained": pretrained, "encoder": "resnet18", **facts}
    scores = SimpleNamespace(without_learning={"iou": 0.3, "recall": 1.0})
    return SimpleNamespace(name=name, metrics={"iou": found, "bce": found}, deciding="iou", origin=known, scores=scores)


def reported(*models: Any) -> Report:
    better = {"iou": Estimate(0.1, Interval(-0.02, 0.2))}
    others = {one.name: better for one in models[1:]}
    return Report(Path("report"), models, models[0].name, others)


def test_the_table_is_sorted_and_the_best_is_bold():
    report = reported(
        model("a|b", 0.5, 0.2), model("c", 0.7, 0.2, "pets", pretraining_seconds=7500.0, finetuning_seconds=200.0)
    )
    (first, second, free), best = report.table
    assert (first["name"], first["IoU"]) == ("c", "0.7000 [0.6900, 0.7100]")
    assert first["IoU over a|b"] == "+0.1000 [-0.0200, +0.2000] (may be chance)"
    assert (first["pretraining"], first["fine-tuning"]) == ("2 h 05 min", "3 min 20 s")
    assert (second["IoU"], second["IoU over a|b"], second["pretraining"]) == ("0.5000 [0.4900, 0.5100]", "-", "-")
    assert {name: text for name, text in free.items() if text != "-"} == {"name": "(without learning)", "IoU": "0.3000"}
    assert "BCE" not in first and best == {(0, "IoU")}
    lines = report.markdown().splitlines()
    assert lines[1] == "| " + " | ".join(["---"] * len(first)) + " |"
    assert lines[2].startswith("| c | pets | 0.2 | **0.7000 [0.6900, 0.7100]** |")
    assert lines[3].startswith("| a\\|b | none | 0.2 | 0.5000 [0.4900, 0.5100] |")
    rows = report.rows()
    assert (rows[0]["iou"], rows[0]["iou_low"], rows[0]["iou_difference_high"]) == (0.7, 0.69, 0.2)
    assert rows[1]["iou_difference"] is None


def test_a_line_a_pretraining_goes_over_the_data_ratios():
    report = reported(model("a", 0.5, 0.5), model("b", 0.4, 0.2), model("c", 0.6, 0.2, "pets"), model("d", 0.7, None))
    (chart,) = ratio_charts(report)
    lines = {line.label: line.bars for line in chart.lines}
    assert list(lines) == ["none", "pets"]
    assert lines["none"] == [pytest.approx((0.2, 0.4, 0.39, 0.41)), pytest.approx((0.5, 0.5, 0.49, 0.51))]
    assert lines["pets"] == [pytest.approx((0.2, 0.6, 0.59, 0.61))]
    assert ratio_charts(reported(model("a", 0.5, 0.2), model("b", 0.4, 0.2, "pets"))) == []


def test_an_image_without_a_value_is_neither_bad_nor_good():
    assert sorted(row for part in masks(empty=1.0).bad_and_good() for row in part) == list(range(12))
    bad, good = masks(empty=float("nan")).bad_and_good()
    assert sorted([*bad, *good]) == list(range(1, 12)) and len(bad) == 6  # the first has nothing to find


def test_wrong_photos_are_bad_and_right_ones_good():
    scores = labels()
    bad, good = scores.bad_and_good()
    right = scores.predicted == scores.labels
    assert not right[bad].any() and right[good].all() and len(bad) + len(good) == 60
    sure = scores.probabilities.max(1)
    assert (np.diff(sure[bad]) <= 0).all() and (np.diff(sure[good]) >= 0).all()


def test_classes_that_are_the_likeliest_have_no_threshold():
    assert labels().sweep() == {} and segmentation.best_threshold(labels()) is None
    mask = np.eye(3, dtype=np.uint8)
    three = Pixels.of(np.eye(3, dtype=np.float32)[:, mask], mask, None, 3)
    assert counted(three).sweep() == {}


class Counted:
    """A training as far as estimates need it: whether each of N images came out right."""

    def __init__(self, right: np.ndarray) -> None:
        self.right, self.keys = right, tuple(map(str, range(len(right))))

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": weights @ self.right / weights.sum(1)}


def trainings(values: list[float], images: int = 50) -> list[Any]:
    """Trainings whose images are all alike, so that there is no error over images."""
    return [Counted(np.full(images, value)) for value in values]


def test_the_interval_over_seeds_is_students():
    found = over_seeds(trainings([0.70, 0.72, 0.77]), draws(trainings([0])[0]))["accuracy"]
    expected = stats.t.interval(0.95, 2, loc=0.73, scale=stats.sem([0.70, 0.72, 0.77]))
    assert (found.value, found.interval.low, found.interval.high) == pytest.approx((0.73, *expected), abs=1e-4)
    assert spread(trainings([0.70, 0.72, 0.77]))["accuracy"] == pytest.approx(np.std([0.70, 0.72, 0.77], ddof=1))


@pytest.mark.parametrize("paired", [True, False])
def test_the_difference_over_seeds_is_that_of_scipys_test(paired):
    first, second = [0.70, 0.72, 0.77], [0.73, 0.74, 0.81]
    weights = draws(trainings([0])[0])
    found = differences_over_seeds(trainings(first), trainings(second), weights, paired=paired)["accuracy"]
    test = stats.ttest_rel(second, first) if paired else stats.ttest_ind(second, first, equal_var=False)
    ends = test.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high), abs=1e-3)


def test_a_single_seed_is_taken_to_vary_as_those_of_the_other_do():
    several, single = [0.70, 0.72, 0.77], [0.74]
    weights = draws(trainings([0])[0])
    test = stats.ttest_ind([*single], several, equal_var=True)  # of one value and three, Student's (1908)
    ends = test.confidence_interval(0.95)
    for first, second, low, high in ((several, single, ends.low, ends.high), (single, several, -ends.high, -ends.low)):
        found = differences_over_seeds(trainings(first), trainings(second), weights, paired=False)["accuracy"]
        assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=1e-3)


def test_one_seed_each_has_the_interval_over_images_alone():
    first, second = masks(), masks(better=0.1)
    weights = draws(first)
    assert differences_over_seeds([first], [second], weights, paired=True) == differences(first, second, weights)
    assert over_seeds([first], weights) == over_split(first, weights)
    assert np.isnan(spread([first])["iou"])


def test_the_interval_over_images_and_seeds_covers_the_truth_as_often_as_it_says():
    """Images and seeds are drawn from a known population, whose mean lies in about 95 % of the intervals."""
    rng = np.random.default_rng(0)
    weights = resamples(40, number=200)
    held = 0
    for _ in range(300):
        hard = rng.normal(0, 0.2, 40)
        seeds = [Counted(0.6 + hard + rng.normal(0, 0.03) + rng.normal(0, 0.05, 40)) for _ in range(3)]
        ends = over_seeds(seeds, weights)["accuracy"].interval  # type: ignore[arg-type]
        held += ends.low <= 0.6 <= ends.high
    assert 0.92 <= held / 300 <= 0.995
