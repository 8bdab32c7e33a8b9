"""Networks as exported files hold them: images as they are stored go in, and are normalised inside the graph.

Shapes: N images of H x W pixels, any of them; C classes.

    image        (N, H, W, bands)  uint8, or uint16 where the full scale is above 255

Segmentation gives

    probability  (N, H, W) float32 of the foreground, or (N, C, H, W) of each class
    mask         (N, H, W) uint8: 1 where the probability exceeds the threshold, else 0; or the likeliest class

and classification

    probability  (N, C) float32 of each class
    label        (N,) int64, the likeliest class
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simclrseg.exporters.tracing import pads_by_size
from simclrseg.metadata import ModelMetadata
from simclrseg.models.vit import holds_vit

INPUT = "image"
STRIDE = 32  # encoders halve the picture five times


class Deployed(nn.Module):
    """A network with its preprocessing; a subclass adds the postprocessing.

    Args:
        model: normalised (N, bands, H, W) -> logits.
        metadata: gives mean, std and the size of training, which is the only one that a vision transformer takes.
    """

    OUTPUTS: ClassVar[tuple[str, str]]
    """Names of what ``forward`` gives: a probability and ids."""
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__()
        self.model = model
        self.side = metadata.image_size if holds_vit(model) else None
        self.register_buffer("mean", metadata.full_scale * torch.tensor(metadata.mean).view(1, -1, 1, 1))
        self.register_buffer("std", metadata.full_scale * torch.tensor(metadata.std).view(1, -1, 1, 1))

    def normalized(self, image: Tensor) -> Tensor:
        """(N, H, W, bands) uint8 or uint16 -> (N, bands, H, W) float32."""
        normalized: Tensor = (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        return normalized

    @classmethod
    def described(cls, metadata: ModelMetadata, shape: list[Any]) -> list[dict[str, Any]]:
        """Name, type and shape of the outputs for pictures of a shape (N, H, W)."""
        raise NotImplementedError


class Deploy(Deployed):
    """A network that segments: normalised (N, bands, H, W), H and W multiples of 32 -> logits (N, 1 or C, H, W).

    A convolutional network sees the picture padded to multiples of 32, a vision transformer the picture brought to the
    size that it was trained at; its logits are brought back. Where the metadata have no threshold, each class has its
    own probability.
    """

    OUTPUTS = ("probability", "mask")

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__(model, metadata)
        self.threshold = metadata.threshold

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, bands) uint8 or uint16 -> probability and mask."""
        x = self.normalized(image)
        if self.side is None:
            height, width = x.shape[2:]
            # written so, and not as -height % 32, because torch.export can bound this
            below = (height + STRIDE - 1) // STRIDE * STRIDE - height
            right = (width + STRIDE - 1) // STRIDE * STRIDE - width
            logits = self.model(F.pad(x, (0, right, 0, below)))[:, :, :height, :width]
        else:
            logits = self.model(F.interpolate(x, size=(self.side, self.side), mode="bilinear"))
            logits = F.interpolate(logits, size=x.shape[2:], mode="bilinear")
        if self.threshold is not None:
            probability = torch.sigmoid(logits[:, 0])
            return probability, (probability > self.threshold).to(torch.uint8)
        return torch.softmax(logits, dim=1), logits.argmax(dim=1).to(torch.uint8)

    @classmethod
    def described(cls, metadata: ModelMetadata, shape: list[Any]) -> list[dict[str, Any]]:
        classes = [] if metadata.threshold is not None else [len(metadata.classes)]
        return [
            {"name": cls.OUTPUTS[0], "type": "float32", "shape": [shape[0], *classes, *shape[1:]]},
            {"name": cls.OUTPUTS[1], "type": "uint8", "shape": shape},
        ]


class DeployClassifier(Deployed):
    """A network that classifies: normalised (N, bands, H, W) -> logits (N, C).

    Images are to be brought to the training size first, as in training: the network averages over the picture whatever
    its size, but knows its objects at that size. A vision transformer, and a network whose padding follows from the
    size, takes that size only, and the graph brings images to it.
    """

    OUTPUTS = ("probability", "label")

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__(model, metadata)
        if pads_by_size(model):
            self.side = metadata.image_size

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, bands) uint8 or uint16 -> probability and label."""
        x = self.normalized(image)
        if self.side is not None:
            x = F.interpolate(x, size=(self.side, self.side), mode="bilinear")
        logits = self.model(x)
        return torch.softmax(logits, dim=1), logits.argmax(dim=1)

    @classmethod
    def described(cls, metadata: ModelMetadata, shape: list[Any]) -> list[dict[str, Any]]:
        return [
            {"name": cls.OUTPUTS[0], "type": "float32", "shape": [shape[0], len(metadata.classes)]},
            {"name": cls.OUTPUTS[1], "type": "int64", "shape": shape[:1]},
        ]


GRAPHS: dict[str, type[Deployed]] = {"segmentation": Deploy, "classification": DeployClassifier}
"""By the task in the metadata."""


def portable(model: nn.Module, metadata: ModelMetadata) -> Deployed:
    """A float32 copy on the CPU, in evaluation mode; the original may go on training."""
    return GRAPHS[metadata.task](copy.deepcopy(model), metadata).cpu().float().eval()


def pixel_type(metadata: ModelMetadata) -> type[np.uint8 | np.uint16]:
    """Type of stored pixels: 16 bits where the full scale does not fit into 8."""
    return np.uint8 if metadata.full_scale <= 255 else np.uint16
