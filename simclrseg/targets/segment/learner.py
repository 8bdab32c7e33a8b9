"""Networks of segmentation with their loss, as ``fit`` trains them and evaluation asks them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.data.datasets.dataset import Dataset, ImageRows
from simclrseg.engine.task import Batch, Logs
from simclrseg.errors import DataError, ImageError
from simclrseg.images.framing import Framing
from simclrseg.images.resizing import resize_mask
from simclrseg.inference.tiling import predict_tiles
from simclrseg.metadata import IGNORE, ModelMetadata
from simclrseg.metrics.counts import confusion_matrix, segmentation_metrics
from simclrseg.targets.learner import Learner, over_processes

log = logging.getLogger(__name__)


class Segmentation(Learner):
    """A segmentation network and its loss; pixels of id 255 count nowhere.

    Args:
        model: (N, bands, H, W) -> logits (N, 1, H, W) of the foreground, or (N, C, H, W).
        metadata: of the network; a pixel is foreground above its ``threshold``, which is None with a logit per class.
        loss: (logits, mask (N, H, W) uint8) -> scalar, a mean over images. None where only predictions are wanted.
    """

    def __init__(
        self, model: nn.Module, metadata: ModelMetadata, loss: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(model, metadata)
        self.threshold = metadata.threshold
        self.loss = loss

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """``image`` (N, S, S, bands) and ``mask`` (N, S, S) uint8 -> the loss."""
        return self.loss_of(self.logits(batch["image"]), batch["mask"]), {}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Micro averages over all pixels of all processes' batches, IoU first, and the mean loss."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        total = images = 0.0
        for batch in batches:
            if len(batch["image"]) == 0:  # a short batch may leave nothing for some processes
                continue
            logits = self.logits(batch["image"])
            prediction = self.decide(_probabilities(logits))
            matrix += confusion_matrix(prediction.cpu().numpy(), batch["mask"].cpu().numpy(), len(self.classes))
            total += self.loss_of(logits, batch["mask"]).item() * len(logits)
            images += len(logits)
        matrix, total, images = over_processes(matrix, total, images)
        return {**segmentation_metrics(matrix), "loss": total / images}

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, H, W, bands) -> float32, (N, H, W) of the foreground or (N, C, H, W)."""
        return _probabilities(self.logits(images))

    def decide(self, probabilities: Tensor) -> Tensor:
        """Class ids (N, H, W) uint8 from what ``probabilities`` gives."""
        if probabilities.ndim == 3:
            assert self.threshold is not None
            return (probabilities > self.threshold).to(torch.uint8)
        return probabilities.argmax(1).to(torch.uint8)

    def loss_of(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The loss of logits against masks (N, S, S) uint8."""
        if self.loss is None:
            raise TypeError("this task was made without a loss: it can predict, not learn")
        return self.loss(logits.float(), mask)


class TiledSegmentation(Segmentation):
    """The same, trained on crops of images at their own scale: it is validated on whole images, in blended tiles.

    Args:
        images: the dataset, of which batches to ``evaluate`` hold the numbers.
        strict: raise the ImageError of one that cannot be read, instead of leaving it out.
    """

    OVERLAP = 0.25
    """Of neighbouring tiles in validation; more, as in scoring, changes little and takes twice as long."""
    TOGETHER = 4  # tiles of a forward pass

    def __init__(
        self,
        model: nn.Module,
        metadata: ModelMetadata,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        images: Dataset,
        strict: bool = False,
    ) -> None:
        super().__init__(model, metadata, loss)
        self.images = images
        self.strict = strict
        framing = Framing.of(metadata)
        self._tiles = partial(
            predict_tiles,
            self._predict,
            tile=framing.size[0],
            overlap=self.OVERLAP,
            batch_size=self.TOGETHER,
            fill=framing.fill,
        )
        self._named: set[int] = set()

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Micro averages over the pixels of the images whose ``index`` (N,) batches hold, and their mean loss.

        The loss of an image is the mean over strips of blended tiles, by their pixels. DataError if none can be read.
        """
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        total = images = 0.0
        for index in (index for batch in batches for index in batch["index"].tolist()):
            try:
                image, shape = ImageRows(self.images, index), self.images.mask_shape(index)
                size = image.shape[0], image.shape[1]
            except ImageError as error:
                if self.strict:
                    raise
                if index not in self._named:
                    self._named.add(index)
                    log.warning("skipped %s", error)
                continue
            fine = None if shape == size else resize_mask(self.images.mask(index), size)
            losses, pixels = 0.0, 0
            for top, probability in self._tiles(image):
                end = top + probability.shape[-2]
                truth = self.images.mask_rows(index, top, end) if fine is None else fine[top:end]
                truth = truth.copy()  # that of a cache is read-only, which torch warns of
                found = torch.from_numpy(probability)[None]
                matrix += confusion_matrix(self.decide(found)[0].numpy(), truth, len(self.classes))
                counted = int((truth != IGNORE).sum())
                logits = found.logit(eps=1e-6) if found.ndim == 3 else found.clamp(min=1e-6).log()
                logits = logits[:, None] if found.ndim == 3 else logits
                losses += counted * self.loss_of(logits, torch.from_numpy(truth)[None]).item()
                pixels += counted
            total += losses / max(1, pixels)
            images += 1
        matrix, total, images = over_processes(matrix, total, images)
        if not images:  # which else would be perfect, for nothing is wrong
            raise DataError(f"no validation photo of {self.images.name} can be read", "restore them")
        return {**segmentation_metrics(matrix), "loss": total / images}

    def _predict(self, tiles: np.ndarray) -> np.ndarray:
        device = next(self.model.parameters()).device
        return self.probabilities(torch.from_numpy(np.ascontiguousarray(tiles)).to(device)).cpu().numpy()


def _probabilities(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits.sigmoid().squeeze(1) if logits.shape[1] == 1 else logits.softmax(1)
