"""The graph of an exported classifier. Shapes: N photos of H x W pixels, any of them; K classes.

    image        (N, H, W, bands)  uint8, or uint16 where the full scale is above 255
    probability  (N, K) float32 of each class
    label        (N,) int64, the likeliest class

Photos are to be brought to the training size first, as in training: the network averages over the picture whatever its
size, but knows its objects at that size. A vision transformer, and a network whose padding follows from the size, takes
that size only, and the graph brings photos to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simclrseg.exporters.deployed import Deployed
from simclrseg.exporters.tracing import pads_by_size
from simclrseg.metadata import ModelMetadata


class DeployClassifier(Deployed):
    """A network that classifies: normalised (N, bands, H, W) -> logits (N, K)."""

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
