"""Losses of segmentation. Each is a mean over photos, so micro-batches and processes add up to it exactly.

To add one: a function ``(logits, mask) -> scalar`` in a file of this folder and its line in LOSSES.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from simclrseg.metadata import IGNORE


def bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross entropy: the mean over photos of the mean over the pixels that are not ignored.

    Args:
        logits: (N, 1, H, W).
        mask: (N, H, W) uint8; 1 foreground, 0 background, 255 ignored.
    """
    target = (mask == 1).to(logits.dtype)
    return _mean(F.binary_cross_entropy_with_logits(logits.squeeze(1), target, reduction="none"), mask)


def ce(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy over classes: the mean over photos of the mean over the pixels that are not ignored.

    Args:
        logits: (N, C, H, W).
        mask: (N, H, W) uint8 class ids below C; 255 ignored.
    """
    return _mean(F.cross_entropy(logits, mask.long(), ignore_index=IGNORE, reduction="none"), mask)


def _mean(losses: Tensor, mask: Tensor) -> Tensor:
    counted = mask != IGNORE  # (N, H, W)
    pixels = counted.sum((1, 2)).clamp(min=1)  # a photo without a counted pixel adds 0, not 0/0
    return ((losses * counted).sum((1, 2)) / pixels).mean()
