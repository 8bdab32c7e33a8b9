"""Heads that pretraining puts on an encoder and leaves behind."""

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Two layers from pooled features to the space where views are contrasted (Chen et al. 2020, §4.2, eq. 4).

    Linear, batch norm, ReLU, linear, batch norm; both linear layers without bias, as the batch norms that follow
    would cancel it. The paper writes the head without its batch norms; its published code has both, and so have we.
    Its hidden layer is as wide as the features; ours is 512 by default, as in the source of our presets.

    Args:
        in_features: channels of the pooled features.
        hidden: width of the hidden layer.
        out: size D of the projections.
    """

    def __init__(self, in_features: int, hidden: int = 512, out: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, out, bias=False),
            nn.BatchNorm1d(out),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_features) -> (N, out), not normalised to unit length."""
        projections: Tensor = self.layers(features)
        return projections
