"""From pixels as they are stored to what a network takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Normalize:
    """(x / full_scale - mean) / std by channel, from uint8 or uint16 with channels last to float32 in torch's order.

    The memory keeps its order, which is torch's channels_last: nothing is moved. On a CPU whole rows are computed at
    once, several times faster than channel by channel.

    Args:
        mean, std: of each channel, for pixels in [0, 1].
        full_scale: the stored value that is 1: 255 for 8-bit photos, 10,000 for Sentinel-2's reflectances.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], full_scale: int = 255) -> None:
        self._scale = 1 / (full_scale * torch.tensor(std))
        self._shift = -torch.tensor(mean) / torch.tensor(std)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8 or uint16 -> (N, C, H, W) float32."""
        if self._scale.device != images.device:
            self._scale, self._shift = self._scale.to(images.device), self._shift.to(images.device)
        width = images.shape[2]
        rows = images.flatten(2).float()  # (N, H, W·C)
        rows.mul_(self._scale.repeat(width)).add_(self._shift.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)
