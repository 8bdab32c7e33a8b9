"""Heads that pretraining puts on an encoder and leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from simclrseg.metrics.representation import VIEWS
from simclrseg.models.backbones import pooled_features


class ProjectionHead(nn.Module):
    """Layers from pooled features to the space where views are compared (Chen et al. 2020, §4.2, eq. 4).

    Each hidden layer is linear, batch norm and ReLU, the last linear and batch norm; the linear layers have no bias, as
    the batch norms that follow would cancel it. The paper writes the head without its batch norms; its published code
    has them, in a head of one layer too, and so have we. Its hidden layer is as wide as the features; ours is 512 by
    default, as in the source of our presets.

    Args:
        hidden: widths of the hidden layers; none leaves one linear layer.
        out: size D of the projections.
        last_norm: whether the last layer has its batch norm; losses that ask for variance need it to have none.
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int] = (512,), out: int = 128, *, last_norm: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise([in_features, *hidden, out]):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[: -1 if last_norm else -2])

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_features) -> (N, out), not normalised to unit length."""
        projections: Tensor = self.layers(features)
        return projections


class ProjectedEncoder(nn.Module):
    """An encoder, global average pooling and a head that pretraining leaves behind: (N, C, H, W) -> (N, D).

    Args:
        projection_head: (N, feature_size(backbone)) -> (N, D).
    """

    features: Tensor  # (n, F) what the head got in the last forward pass, of at most VIEWS views

    def __init__(self, backbone: nn.Module, projection_head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = projection_head

    def forward(self, images: Tensor) -> Tensor:
        features = pooled_features(self.backbone, images)
        self.features = features.detach()[:VIEWS]
        projections: Tensor = self.projection_head(features)
        return projections
