"""The first layer of every exported network: photos as they are stored, normalised inside the graph."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from simclrseg.metadata import ModelMetadata
from simclrseg.models.vit import holds_vit


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
