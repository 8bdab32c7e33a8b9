"""Classification: the loss and the scores of an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simclrseg.data.datasets.shapes import Shapes
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import classification_metrics, confusion_matrix, in_top
from simclrseg.targets.classify.knobs import Knobs
from simclrseg.targets.classify.target import Classification, ClassificationTarget
from simclrseg.targets.knobs import LabelledData

NAMES = ("a", "b", "c", "d", "e", "f", "g")
METADATA = ModelMetadata(
    task="classification", encoder="cnn", image_size=8, classes=NAMES, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)


class Shown(nn.Module):
    """Logits that are written in the first pixels of the first row, times ten."""

    def forward(self, images: Tensor) -> Tensor:
        return 10 * images[:, 0, 0, : len(NAMES)]


def task(**options: float) -> Classification:
    return Classification(Shown(), METADATA, **options)


def batches(count: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (5, 8, 8, 3), generator=generator, dtype=torch.uint8),
            "label": torch.randint(0, len(NAMES), (5,), generator=generator),
        }
        for _ in range(count)
    ]


def test_the_loss_is_cross_entropy_with_a_share_of_the_label_spread_over_all_classes():
    batch, share = batches(1)[0], 0.2
    loss, logs = task(label_smoothing=share).training_loss(batch)
    logits = 10 * batch["image"][:, 0, : len(NAMES), 0].double() / 255
    target = torch.full_like(logits, share / len(NAMES))
    target[torch.arange(5), batch["label"]] += 1 - share
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert logs["accuracy"] == (logits.argmax(1) == batch["label"]).double().mean()


def test_the_share_is_the_one_that_was_asked_for():
    shapes, batch = Shapes(40), batches(1)[0]
    target = ClassificationTarget(LabelledData(dataset="shapes"), shapes, Knobs(label_smoothing=0.2))
    learner = target.make_learner(Shown(), METADATA, pairs=shapes, threads=1)
    (loss, _), (plain, _) = (one.training_loss(batch) for one in (learner, task()))
    assert loss == task(label_smoothing=0.2).training_loss(batch)[0] != plain


def test_scores_are_those_of_all_batches_together_and_accuracy_is_first():
    everything = batches()
    scores = task(label_smoothing=0.3).evaluate(everything)
    logits = 10 * torch.cat([batch["image"][:, 0, : len(NAMES), 0] for batch in everything]).double() / 255
    labels = torch.cat([batch["label"] for batch in everything])
    assert list(scores) == ["accuracy", "macro_f1", "top5", "loss"]
    assert scores["accuracy"] == (logits.argmax(1) == labels).double().mean()
    assert scores["top5"] == (logits.topk(5).indices == labels[:, None]).any(1).double().mean()
    assert scores["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)


def test_macro_f1_is_the_mean_of_precision_and_recall_over_classes_that_occur():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 60), rng.integers(0, 4, 60)  # of 6 classes
    scores = []
    for name in range(4):
        right = ((labels == name) & (predicted == name)).sum()
        precision, recall = right / (predicted == name).sum(), right / (labels == name).sum()
        scores.append(2 * precision * recall / (precision + recall))
    metrics = classification_metrics(confusion_matrix(predicted, labels, 6))
    assert metrics["macro_f1"] == pytest.approx(np.mean(scores))
    assert metrics["accuracy"] == (labels == predicted).mean() and "top5" not in metrics


def test_of_equal_scores_the_first_is_the_hit_so_that_top_1_is_accuracy():
    scores = np.array([[0.2, 0.2, 0.2], [0.1, 0.5, 0.5]])
    assert in_top(scores, np.array([0, 1]), k=1).tolist() == [True, True]
    assert in_top(scores, np.array([2, 2]), k=1).tolist() == [False, False]
    assert in_top(scores, np.array([2, 2]), k=2).tolist() == [False, True]
