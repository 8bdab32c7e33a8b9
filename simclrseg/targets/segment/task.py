"""Segmentation: a class for every pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.engine.task import Batch, Logs
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import confusion_matrix, segmentation_metrics
from simclrseg.models.normalize import Normalize
from simclrseg.system import distributed
from simclrseg.targets.learner import Learner


class Segmentation(Learner):
    """A segmentation network and its loss; pixels of id 255 count nowhere.

    Args:
        model: (N, bands, H, W) -> logits (N, 1, H, W) of the foreground, or (N, C, H, W).
        loss: (logits, mask (N, H, W) uint8) -> scalar, a mean over photos. None where only predictions are wanted.
        classes: names by id; with one logit there are two, background and foreground.
        mean, std: of each channel, for pixels in [0, 1].
        full_scale: the stored value that is 1.
        threshold: probability above which a pixel is foreground; unused with a logit per class.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor] | None,
        *,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        full_scale: int = 255,
        threshold: float | None = 0.5,
    ) -> None:
        self.model = model
        self.loss = loss
        self.classes = tuple(classes)
        self.threshold = threshold
        self.normalize = Normalize(mean, std, full_scale)

    @classmethod
    def of(
        cls, model: nn.Module, metadata: ModelMetadata, loss: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> Self:
        """The network that ``metadata`` describe, with a loss where it is to learn."""
        return cls(
            model,
            loss,
            classes=metadata.classes,
            mean=metadata.mean,
            std=metadata.std,
            full_scale=metadata.full_scale,
            threshold=metadata.threshold,
        )

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """``image`` (N, S, S, bands) and ``mask`` (N, S, S) uint8 -> the loss."""
        return self._loss(self.logits(batch["image"]), batch["mask"]), {}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Micro averages over all pixels of all processes' batches, IoU first, and the mean loss."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        total, photos = 0.0, 0
        for batch in batches:
            if len(batch["image"]) == 0:  # a short batch may leave nothing for some processes
                continue
            logits = self.logits(batch["image"])
            prediction = self.decide(_probabilities(logits))
            matrix += confusion_matrix(prediction.cpu().numpy(), batch["mask"].cpu().numpy(), len(self.classes))
            total += self._loss(logits, batch["mask"]).item() * len(logits)
            photos += len(logits)
        matrix = distributed.total(torch.from_numpy(matrix)).numpy()
        total, photos = distributed.total(torch.tensor([total, photos], dtype=torch.float64)).tolist()
        return {**segmentation_metrics(matrix), "loss": total / photos}

    def logits(self, images: Tensor) -> Tensor:
        """(N, H, W, bands) -> (N, 1 or C, H, W)."""
        logits: Tensor = self.model(self.normalize(images))
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, H, W, bands) -> float32, (N, H, W) of the foreground or (N, C, H, W)."""
        return _probabilities(self.logits(images))

    def decide(self, probabilities: Tensor) -> Tensor:
        """Class ids (N, H, W) uint8 from what ``probabilities`` gives."""
        if probabilities.ndim == 3:
            assert self.threshold is not None
            return (probabilities > self.threshold).to(torch.uint8)
        return probabilities.argmax(1).to(torch.uint8)

    def _loss(self, logits: Tensor, mask: Tensor) -> Tensor:
        if self.loss is None:
            raise TypeError("this task was made without a loss: it can predict, not learn")
        return self.loss(logits.float(), mask)


def _probabilities(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits.sigmoid().squeeze(1) if logits.shape[1] == 1 else logits.softmax(1)
