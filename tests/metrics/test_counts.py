"""Metrics against sets of pixels counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion

from simclrseg.errors import DataError
from simclrseg.metrics.counts import (
    class_metrics,
    classification_metrics,
    confusion_matrix,
    pixel_accuracy,
    segmentation_metrics,
    without_learning,
)


def pixels(classes: int, shape: tuple[int, ...] = (3, 8, 9)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    prediction = rng.integers(0, classes, shape, dtype=np.uint8)
    mask = rng.integers(0, classes, shape, dtype=np.uint8)
    mask[rng.random(shape) < 0.2] = 255
    return prediction, mask


def test_confusion_counts_pairs_of_true_and_predicted_class() -> None:
    prediction, mask = pixels(4)
    matrix = confusion_matrix(prediction, mask, 4)
    for true in range(4):
        for predicted in range(4):
            assert matrix[true, predicted] == np.sum((mask == true) & (prediction == predicted))
    assert matrix.sum() == np.sum(mask != 255)


@pytest.mark.parametrize(("classes", "type_"), [(2, np.uint8), (22, np.uint8), (254, np.uint8), (22, np.int64)])
def test_confusion_equals_scikit_learns(classes: int, type_: type) -> None:
    prediction, mask = (array.astype(type_) for array in pixels(classes))
    counted = mask != 255
    expected = sklearn_confusion(mask[counted], prediction[counted], labels=range(classes))
    assert (confusion_matrix(prediction, mask, classes) == expected).all()


def test_more_pixels_than_float32_counts_one_by_one_are_counted_exactly() -> None:
    mask = np.zeros((2**12, 2**12 + 1), np.uint8)
    mask[-1, -2:] = 1, 255
    prediction = np.ones_like(mask)
    assert confusion_matrix(prediction, mask, 2).tolist() == [[0, mask.size - 2], [0, 1]]


def test_metrics_of_a_class_follow_their_formulas() -> None:
    prediction, mask = pixels(4)
    metrics = class_metrics(confusion_matrix(prediction, mask, 4))
    counted = mask != 255
    for k in range(4):
        tp = np.sum((prediction == k) & (mask == k))
        fp = np.sum((prediction == k) & (mask != k) & counted)
        fn = np.sum((prediction != k) & (mask == k))
        assert metrics["iou"][k] == tp / (tp + fp + fn)
        assert metrics["f1"][k] == 2 * tp / (2 * tp + fp + fn)
        assert metrics["precision"][k] == tp / (tp + fp)
        assert metrics["recall"][k] == tp / (tp + fn)


def test_metrics_of_the_foreground_follow_their_formulas() -> None:
    counts = segmentation_metrics(np.array([[50, 10], [5, 35]]))  # tn fp / fn tp
    assert counts == {
        "iou": 35 / 50,
        "f1": 70 / 85,
        "dice": 70 / 85,
        "precision": 35 / 45,
        "recall": 35 / 40,
        "accuracy": 85 / 100,
    }
    assert next(iter(counts)) == "iou"


def test_counts_of_parts_add_up_to_the_micro_average_of_the_whole() -> None:
    prediction, mask = pixels(2)
    parts = sum(confusion_matrix(p, m, 2) for p, m in zip(prediction, mask, strict=True))
    whole = segmentation_metrics(confusion_matrix(prediction, mask, 2))
    assert segmentation_metrics(parts) == whole
    mean_of_ious = np.mean(
        [segmentation_metrics(confusion_matrix(p, m, 2))["iou"] for p, m in zip(prediction, mask, strict=True)]
    )
    assert mean_of_ious != pytest.approx(whole["iou"], abs=1e-6)


def test_nothing_to_find_and_nothing_found_is_perfect_and_a_false_find_is_not() -> None:
    assert segmentation_metrics(np.array([[9, 0], [0, 0]]))["iou"] == 1.0
    false_find = segmentation_metrics(np.array([[8, 1], [0, 0]]))
    assert (false_find["iou"], false_find["precision"], false_find["recall"]) == (0.0, 0.0, 0.0)


def test_mean_iou_is_over_the_classes_that_occur() -> None:
    matrix = np.zeros((4, 4), np.int64)
    matrix[0, 0], matrix[0, 1], matrix[1, 1] = 6, 2, 2  # classes 2 and 3 do not occur
    iou = class_metrics(matrix)["iou"]
    assert iou[:2].tolist() == [6 / 8, 2 / 4]
    assert np.isnan(iou[2:]).all()
    counts = segmentation_metrics(matrix)
    assert list(counts) == ["miou", "f1", "precision", "recall", "accuracy"]
    assert counts["miou"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert counts["accuracy"] == pixel_accuracy(matrix) == 8 / 10


def test_a_mask_with_a_class_id_that_the_model_lacks_is_named() -> None:
    with pytest.raises(DataError, match="class id 7"):
        confusion_matrix(np.zeros((2, 2), np.uint8), np.array([[0, 1], [7, 255]], np.uint8), 2)


def test_two_classes_get_the_foregrounds_metrics_and_more_get_the_mean() -> None:
    assert segmentation_metrics(np.eye(2, dtype=np.int64))["iou"] == 1.0
    assert segmentation_metrics(np.eye(3, dtype=np.int64))["miou"] == 1.0


def test_a_mask_that_is_wholly_ignored_counts_nothing() -> None:
    matrix = confusion_matrix(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), 2)
    assert matrix.sum() == 0
    assert segmentation_metrics(matrix)["accuracy"] == 0.0


@pytest.mark.parametrize("metrics", [segmentation_metrics, classification_metrics])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_without_learning_is_the_best_of_every_class_said_everywhere(classes: int, metrics) -> None:
    prediction, mask = pixels(classes)
    mask[mask == 2] = 1  # one class is frequent, another missing
    everywhere = [metrics(confusion_matrix(np.full_like(mask, k), mask, classes)) for k in range(classes)]
    expected = {name: max(found[name] for found in everywhere) for name in everywhere[0]}
    assert without_learning(confusion_matrix(prediction, mask, classes), metrics) == pytest.approx(expected)


def test_without_learning_the_foreground_has_its_share_of_the_pixels_and_accuracy_that_of_the_larger_class() -> None:
    found = without_learning(np.array([[50, 20], [5, 25]]), segmentation_metrics)
    assert (found["iou"], found["recall"], found["accuracy"]) == (0.3, 1.0, 0.7)
    assert without_learning(np.array([[8, 1], [0, 0]]), segmentation_metrics)["iou"] == 1.0  # nothing to find
