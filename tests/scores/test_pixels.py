"""Counts of one image against scikit-learn, segmentation-models-pytorch, our own losses and spelled-out definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from sklearn import metrics as sklearn_metrics

from simclrseg.inference.tiling import to_mask
from simclrseg.losses.segmentation import ce, dice, focal
from simclrseg.metrics.counts import confusion_matrix
from simclrseg.scores.pixels import THRESHOLDS, Pixels


def blobs(classes: int, height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """A mask (H, W) of large smooth regions."""
    rng = np.random.default_rng(seed)
    fields = [cv2.resize(rng.random((6, 8)).astype(np.float32), (width, height)) for _ in range(classes)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def image(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are mostly right, and the mask, some of whose pixels are ignored."""
    mask = blobs(classes, seed=seed)
    rng = np.random.default_rng(seed + 100)
    logits = rng.normal(0, 1, (classes, *mask.shape)) + 1.5 * (mask == np.arange(classes)[:, None, None])
    p = np.exp(logits) / np.exp(logits).sum(0)
    mask[rng.random(mask.shape) < 0.1] = 255
    probability = p[1] if classes == 2 else p
    return probability.astype(np.float32), mask


def decided(probability: np.ndarray, mask: np.ndarray, threshold: float | None = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of the pixels that count."""
    return mask[mask != 255], to_mask(probability, threshold)[mask != 255]


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_metrics_of_two_classes_equal_scikit_learns(threshold):
    probability, mask = image(2)
    ours = Pixels.of(probability, mask, threshold, 2).metrics()
    truth, prediction = decided(probability, mask, threshold)
    expected = {
        "iou": sklearn_metrics.jaccard_score(truth, prediction),
        "f1": sklearn_metrics.f1_score(truth, prediction),
        "precision": sklearn_metrics.precision_score(truth, prediction),
        "recall": sklearn_metrics.recall_score(truth, prediction),
        "accuracy": sklearn_metrics.accuracy_score(truth, prediction),
        "bce": sklearn_metrics.log_loss(truth, probability[mask != 255].astype(np.float64)),
    }
    assert {name: ours[name][0] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert ours["dice"] == ours["f1"]


def test_metrics_of_many_classes_equal_scikit_learns():
    probability, mask = image(5)
    ours = Pixels.of(probability, mask, None, 5).metrics()
    truth, prediction = decided(probability, mask)
    given = probability[:, mask != 255].T.astype(np.float64)
    expected = {
        "miou": sklearn_metrics.jaccard_score(truth, prediction, average="macro"),
        "f1": sklearn_metrics.f1_score(truth, prediction, average="macro"),
        "precision": sklearn_metrics.precision_score(truth, prediction, average="macro"),
        "recall": sklearn_metrics.recall_score(truth, prediction, average="macro"),
        "accuracy": sklearn_metrics.accuracy_score(truth, prediction),
        "ce": sklearn_metrics.log_loss(truth, given / given.sum(1, keepdims=True), labels=range(5)),
    }
    assert {name: ours[name][0] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_micro_and_image_averages_equal_those_of_segmentation_models_pytorch():
    images = [image(2, seed) for seed in range(6)]
    for _, mask in images:
        mask[mask == 255] = 0  # its binary mode ignores nothing
    pixels = Pixels.stack([Pixels.of(probability, mask, 0.5, 2) for probability, mask in images], 2)
    tp, fp, fn, tn = smp.metrics.get_stats(
        torch.from_numpy(np.stack([probability for probability, _ in images]))[:, None],
        torch.from_numpy(np.stack([mask for _, mask in images]))[:, None].long(),
        mode="binary",
        threshold=0.5,
    )
    for name, function in {
        "iou": smp.metrics.iou_score,
        "f1": smp.metrics.f1_score,
        "precision": smp.metrics.precision,
        "recall": smp.metrics.recall,
        "accuracy": smp.metrics.accuracy,
    }.items():
        micro, by_image = (function(tp, fp, fn, tn, reduction=f"micro{of}").item() for of in ("", "-imagewise"))
        assert pixels.total().metrics()[name][0] == pytest.approx(micro, abs=1e-6)
        assert pixels.metrics()[name].mean() == pytest.approx(by_image, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_losses_of_an_image_are_those_of_training(classes):
    probability, mask = image(classes)
    ours = Pixels.of(probability, mask, 0.5, classes).metrics()
    p = np.stack([1 - probability, probability]) if classes == 2 else probability
    logits = torch.from_numpy(np.log(p.astype(np.float64)))[None]
    target = torch.from_numpy(mask)[None]
    expected = {"bce" if classes == 2 else "ce": ce(logits, target), "focal_loss": focal(logits, target)}
    if classes > 2:
        expected["dice_loss"] = dice(logits, target)
    else:  # one logit, of the foreground
        expected["dice_loss"] = dice(logits[:, 1:] - logits[:, :1], target)
    for name, loss in expected.items():
        assert ours[name][0] == pytest.approx(loss.item(), abs=1e-6)


def test_a_class_that_is_found_and_not_there_is_none_of_those_of_the_dice_loss():
    probability, mask = image(4)
    mask[mask == 3] = 0
    assert (to_mask(probability, None)[mask != 255] == 3).any()
    expected = dice(torch.from_numpy(np.log(probability.astype(np.float64)))[None], torch.from_numpy(mask)[None])
    assert Pixels.of(probability, mask, None, 4).metrics()["dice_loss"][0] == pytest.approx(expected.item(), abs=1e-6)


def test_the_dice_loss_is_that_of_segmentation_models_pytorch():
    probability, mask = image(2)
    mask[mask == 255] = 0
    loss = smp.losses.DiceLoss(mode="binary", from_logits=False)
    expected = loss(torch.from_numpy(probability)[None, None], torch.from_numpy(mask)[None, None].long()).item()
    assert Pixels.of(probability, mask, 0.5, 2).metrics()["dice_loss"][0] == pytest.approx(expected, abs=1e-6)


def original_boundary_iou(
    truth: np.ndarray, prediction: np.ndarray, ratio: float = 0.02, counted: np.ndarray | int = 1
) -> float:
    """As the paper's authors compute it: 3x3 erosions, one a pixel, of masks with a border of zeros."""
    height, width = truth.shape
    dilation = max(1, round(ratio * np.sqrt(height**2 + width**2)))

    def boundary(mask: np.ndarray) -> np.ndarray:
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=dilation)
        return mask - eroded[1 : height + 1, 1 : width + 1]

    first, second = boundary(truth) * counted, boundary(prediction) * counted
    return float(((first * second) > 0).sum() / ((first + second) > 0).sum())


@pytest.mark.parametrize("shape", [(60, 80), (200, 150), (20, 20)])
def test_boundary_iou_is_the_original(shape):
    truth = blobs(2, *shape)
    prediction = np.roll(truth, (2, 3), (0, 1))
    pixels = Pixels.of(prediction.astype(np.float32), truth, 0.5, 2)
    expected = original_boundary_iou(truth, prediction)
    assert 0 < expected < 1
    assert pixels.metrics()["boundary_iou"][0] == pytest.approx(expected, abs=1e-12)
    background = original_boundary_iou(1 - truth, 1 - prediction)
    assert pixels.by_class()["boundary_iou"][0] == pytest.approx([background, expected], abs=1e-12)


def test_ignored_pixels_count_nowhere():
    probability, mask = image(2)
    other = np.where(mask == 255, 1 - probability, probability)
    one, two = Pixels.of(probability, mask, 0.5, 2), Pixels.of(other, mask, 0.5, 2)
    assert one.confusion.sum() == (mask != 255).sum()
    for name in ("confusion", "overlap", "losses", "probability"):
        assert (getattr(one, name) == getattr(two, name)).all()


def test_boundaries_are_compared_among_the_counted_pixels():
    truth = blobs(2, 60, 80)
    prediction, hidden = np.roll(truth, (2, 3), (0, 1)), np.zeros(truth.shape, bool)
    hidden[10:40, 20:60] = True
    truth[hidden] = 255
    found = Pixels.of(prediction.astype(np.float32), truth, 0.5, 2).metrics()["boundary_iou"][0]
    expected = original_boundary_iou((truth == 1).astype(np.uint8), prediction, counted=~hidden)
    everywhere = original_boundary_iou((truth == 1).astype(np.uint8), prediction)
    assert found == pytest.approx(expected, abs=1e-12) and found != pytest.approx(everywhere, abs=1e-3)


def test_every_threshold_gives_the_confusion_of_deciding_there():
    probability, mask = image(2)
    at = Pixels.of(probability, mask, 0.5, 2).at_thresholds()[0]
    for place in (0, 29, 49, 98):
        prediction = (probability > THRESHOLDS[place]).astype(np.uint8)
        assert (at[place] == confusion_matrix(prediction, mask, 2)).all()


def test_pixels_that_are_counted_in_parts_give_every_threshold_the_same(monkeypatch):
    whole = Pixels.of(*image(2), 0.5, 2)
    monkeypatch.setattr("simclrseg.scores.pixels._TOGETHER", 1000)  # which does not divide the pixels that count
    np.testing.assert_array_equal(Pixels.of(*image(2), 0.5, 2).probability, whole.probability)


@pytest.mark.parametrize("empty", [0.0, 1.0, float("nan")])
def test_an_image_without_foreground_counts_what_was_asked_for(empty):
    nothing = np.zeros((8, 8), np.uint8)
    found_none = Pixels.of(np.full((8, 8), 0.1, np.float32), nothing, 0.5, 2).metrics(empty=empty)
    for name in ("iou", "f1", "precision", "recall", "boundary_iou"):
        assert found_none[name][0] == pytest.approx(empty, nan_ok=True)
    assert found_none["accuracy"] == 1 and found_none["dice_loss"] == 0
    found_some = Pixels.of(np.full((8, 8), 0.9, np.float32), nothing, 0.5, 2).metrics(empty=empty)
    assert found_some["iou"] == found_some["boundary_iou"] == 0


def test_sums_of_resamples_are_sums_of_images():
    pixels = Pixels.stack([Pixels.of(*image(3, seed), None, 3) for seed in range(4)], 3)
    twice = pixels.summed(np.array([[2.0, 0, 1, 0]]))
    for name in ("confusion", "boundary", "overlap", "losses"):
        parts = getattr(pixels, name)
        assert getattr(twice, name)[0] == pytest.approx(2 * parts[0] + parts[2])


def test_a_certain_mistake_costs_a_finite_loss():
    loss = Pixels.of(np.zeros((4, 4), np.float32), np.ones((4, 4), np.uint8), 0.5, 2).metrics()["bce"][0]
    assert loss == pytest.approx(-np.log(1e-7))
