"""What an exported classification network computes. Shapes: N photos of H x W pixels, any of them; K classes.

    image        (N, H, W, bands)  uint8, or uint16 where the full scale is above 255
    probability  (N, K) float32 of each class
    label        (N,) int64, the likeliest class

Photos are to be brought to the training size first, as in training: the network averages over the picture whatever its
size, but knows its objects at that size. A vision transformer takes that size only, and the graph brings photos to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simclrseg.metadata import ModelMetadata
from simclrseg.models.vit import holds_vit


class DeployClassifier(nn.Module):
    """A network with its pre- and postprocessing.

    Args:
        model: normalised (N, bands, H, W) -> logits (N, K).
        metadata: gives mean and std.
    """

    OUTPUTS = ("probability", "label")
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", metadata.full_scale * torch.tensor(metadata.mean).view(1, -1, 1, 1))
        self.register_buffer("std", metadata.full_scale * torch.tensor(metadata.std).view(1, -1, 1, 1))
        self.side = metadata.image_size if holds_vit(model) else None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, bands) uint8 or uint16 -> probability and label."""
        x = (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        if self.side is not None:
            x = F.interpolate(x, size=(self.side, self.side), mode="bilinear")
        logits = self.model(x)
        return torch.softmax(logits, dim=1), logits.argmax(dim=1)

    @classmethod
    def described(cls, metadata: ModelMetadata, shape: list[Any]) -> list[dict[str, Any]]:
        """Name, type and shape of the outputs for pictures of a shape (N, H, W)."""
        return [
            {"name": cls.OUTPUTS[0], "type": "float32", "shape": [shape[0], len(metadata.classes)]},
            {"name": cls.OUTPUTS[1], "type": "int64", "shape": shape[:1]},
        ]
