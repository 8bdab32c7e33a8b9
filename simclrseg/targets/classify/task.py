"""Classification: a class for every photo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.engine.task import Batch, Logs
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import TOP, classification_metrics, confusion_matrix, in_top
from simclrseg.models.normalize import Normalize
from simclrseg.system import distributed
from simclrseg.targets.learner import Learner


class Classification(Learner):
    """A classification network, trained by cross entropy.

    Args:
        model: (N, 3, H, W) -> logits (N, K).
        classes: their K names, by id.
        mean, std: of each channel, for pixels in [0, 1].
        full_scale: the stored value that is 1.
        label_smoothing: share ε of the target that is spread over all classes (Szegedy et al. 2016, §7), in [0, 1).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        full_scale: int = 255,
        label_smoothing: float = 0.0,
    ) -> None:
        self.model = model
        self.classes = tuple(classes)
        self.label_smoothing = label_smoothing
        self.normalize = Normalize(mean, std, full_scale)

    @classmethod
    def of(cls, model: nn.Module, metadata: ModelMetadata, *, label_smoothing: float = 0.0) -> Self:
        """The network that ``metadata`` describe."""
        return cls(
            model,
            classes=metadata.classes,
            mean=metadata.mean,
            std=metadata.std,
            full_scale=metadata.full_scale,
            label_smoothing=label_smoothing,
        )

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """``image`` (N, S, S, 3) uint8 and ``label`` (N,) int64 -> the smoothed loss, and the accuracy beside it."""
        logits, labels = self.logits(batch["image"]).float(), batch["label"]
        losses = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="none")
        return losses.mean(), {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``classification_metrics`` over all processes' batches, accuracy first, and the mean loss, not smoothed."""
        classes = len(self.classes)
        matrix = np.zeros((classes, classes), np.int64)
        total, hits = 0.0, 0
        for batch in batches:
            if len(batch["image"]) == 0:  # a short batch may leave nothing for some processes
                continue
            logits = self.logits(batch["image"]).float()
            scores, labels = logits.cpu().numpy(), batch["label"].cpu().numpy()
            matrix += confusion_matrix(scores.argmax(1), labels, classes)
            hits += int(in_top(scores, labels).sum())
            total += F.cross_entropy(logits, batch["label"], reduction="sum").item()
        matrix = distributed.total(torch.from_numpy(matrix)).numpy()
        total, hits = distributed.total(torch.tensor([total, hits], dtype=torch.float64)).tolist()
        photos = int(matrix.sum())
        top = hits / photos if classes > TOP else None
        return {**classification_metrics(matrix, top=top), "loss": total / photos}

    def logits(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, K)."""
        logits: Tensor = self.model(self.normalize(images))
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, K) float32."""
        return self.logits(images).float().softmax(1)
