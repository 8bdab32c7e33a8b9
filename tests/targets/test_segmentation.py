"""Segmentation as a task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from simclrseg.engine.task import Batch
from simclrseg.losses.segmentation import bce, ce
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import confusion_matrix, segmentation_metrics
from simclrseg.targets.segment.learner import Segmentation

HALF = (0.5, 0.5, 0.5)


def described(classes: int, threshold: float | None = 0.5) -> ModelMetadata:
    names = tuple(f"class {number}" for number in range(classes))
    common = {"task": "segmentation", "encoder": "cnn", "image_size": 6, "mean": HALF, "std": HALF}
    return ModelMetadata(**common, classes=names, threshold=threshold)


def task(classes: int = 2, *, threshold: float | None = 0.5) -> Segmentation:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 1 if classes == 2 else classes, 3, padding=1)
    return Segmentation(model, described(classes, threshold), bce if classes == 2 else ce)


def batches(classes: int = 2) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for size in (4, 4, 1):
        image = torch.randint(0, 256, (size, 6, 6, 3), generator=generator, dtype=torch.uint8)
        mask = torch.randint(0, classes, (size, 6, 6), generator=generator, dtype=torch.uint8)
        mask[:, 0] = 255
        made.append({"image": image, "mask": mask})
    return made


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_micro_averages_over_all_batches_and_the_mean_loss(classes: int) -> None:
    segmentation, data = task(classes), batches(classes)
    whole = {name: torch.cat([batch[name] for batch in data]) for name in ("image", "mask")}
    with torch.no_grad():
        scores = segmentation.evaluate(iter(data))
        prediction = segmentation.decide(segmentation.probabilities(whole["image"]))
        loss, _ = segmentation.training_loss(whole)
    matrix = confusion_matrix(prediction.numpy(), whole["mask"].numpy(), classes)
    expected = segmentation_metrics(matrix)
    assert {name: scores[name] for name in expected} == expected
    assert next(iter(scores)) == ("iou" if classes == 2 else "miou")
    assert scores["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert matrix.sum() == 9 * 5 * 6  # nothing of the ignored row


def test_one_logit_is_the_probability_of_the_foreground() -> None:
    segmentation, images = task(threshold=0.6), batches()[0]["image"]
    probabilities = segmentation.probabilities(images)
    assert probabilities.shape == (4, 6, 6)
    torch.testing.assert_close(probabilities, segmentation.logits(images)[:, 0].sigmoid())
    mask = segmentation.decide(probabilities)
    assert mask.dtype == torch.uint8
    assert np.array_equal(mask.numpy(), (probabilities > 0.6).numpy())
    assert not segmentation.decide(torch.full((1, 6, 6), 0.6, dtype=torch.float64)).any()


def test_a_logit_a_class_gives_probabilities_that_add_up_to_one() -> None:
    segmentation, images = task(4, threshold=None), batches()[0]["image"]
    probabilities = segmentation.probabilities(images)
    assert probabilities.shape == (4, 4, 6, 6)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4, 6, 6))
    assert torch.equal(segmentation.decide(probabilities), probabilities.argmax(1).to(torch.uint8))


def test_two_classes_may_have_two_logits() -> None:
    segmentation = Segmentation(nn.Conv2d(3, 2, 1), described(2, None), ce)
    with torch.no_grad():
        assert next(iter(segmentation.evaluate(batches()))) == "iou"


def test_a_task_without_a_loss_predicts_and_does_not_learn() -> None:
    segmentation = Segmentation(nn.Conv2d(3, 1, 1), described(2))
    assert segmentation.probabilities(batches()[0]["image"]).shape == (4, 6, 6)
    with pytest.raises(TypeError, match="without a loss"):
        segmentation.training_loss(batches()[0])
