"""Losses of distillation: what is alike to a teacher shall be alike to a student, whose vectors may be others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def similarities(vectors: Tensor, anchors: Tensor, temperature: float) -> Tensor:
    """Cosines of vectors (..., n, D) with anchors (..., m, D), divided by τ: (..., n, m).

    Computed outside autocast, in float32 at least: 16 bits would leave two digits of what is divided.
    """
    wide = torch.promote_types(vectors.dtype, torch.float32)
    with torch.autocast(vectors.device.type, enabled=False):
        first, second = (F.normalize(rows.to(wide), dim=-1) for rows in (vectors, anchors))
        return first @ second.mT / temperature


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over rows of KL(softmax(teacher) ‖ softmax(student)), in nats; both logits (..., n, m)."""
    of_rows = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    return of_rows.mean()


def places(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """The vectors of a map (N, D, H, W) on a grid (h, w), brought to it bilinearly: (N, h·w, D)."""
    if tuple(features.shape[2:]) != grid:
        features = F.interpolate(features, size=grid, mode="bilinear")
    return features.flatten(2).mT
