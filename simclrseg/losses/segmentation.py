"""Losses of segmentation. Each is a mean over images, so micro-batches and processes add up to it exactly.

To add one: a function ``(logits, mask, weights=None) -> scalar`` in a file of this folder, and its entry in
``losses/__init__.py``. A number that users may set, as in ``focal:3``, is one more argument with a default.

Shapes and words that all of them share:
    logits: (N, 1, H, W) of the foreground, or (N, C, H, W).
    mask: (N, H, W) uint8 class ids; 255 is ignored, and an image without any other pixel costs nothing.
    weights: (C,) float of each class, or two with one logit, scaled so that the average pixel weighs 1; None for all 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from simclrseg.metadata import IGNORE

_EPS = 1e-7

Loss = Callable[[Tensor, Tensor], Tensor]
WeightedLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def total(losses: Sequence[WeightedLoss], class_weights: Sequence[float] | None = None) -> Loss:
    """The sum of some losses as one, with a weight for each class."""
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    def loss(logits: Tensor, mask: Tensor) -> Tensor:
        here = None if weights is None else weights.to(logits.device)
        return torch.stack([part(logits, mask, here) for part in losses]).sum()

    return loss


def bce(logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross entropy: the mean over images of the mean over the pixels that are not ignored; one logit."""
    return _mean(pixel_losses(logits, mask), mask, weights)


def ce(logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy over classes: the mean over images of the mean over the pixels that are not ignored."""
    return _mean(pixel_losses(logits, mask), mask, weights)


def focal(logits: Tensor, mask: Tensor, weights: Tensor | None = None, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 4): cross entropy in which pixels that are right count less.

    Of several classes it takes the softmax, which is what decides later; segmentation-models-pytorch's class takes a
    sigmoid for each.

    Args:
        gamma: how much less; 0 is cross entropy, and the paper found 2 best.
    """
    losses = pixel_losses(logits, mask)
    losses = losses.clamp(min=torch.finfo(losses.dtype).tiny)  # at 0, a power below 1 has no derivative
    return _mean((-torch.expm1(-losses)) ** gamma * losses, mask, weights)


def dice(logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """1 - 2|p·t| / (|p| + |t|) of each class that an image holds, and the mean of these over images.

    Equal to segmentation-models-pytorch's on each image alone, but that the mean is over the classes that occur rather
    than over all: a sum with cross entropy then weighs both alike, whatever the number of classes.
    """
    hit, predicted, true = _overlap(logits, mask)
    return _mean_of_classes(1 - 2 * hit / (predicted + true).clamp(min=_EPS), true, weights)


def jaccard(logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """1 - |p·t| / (|p| + |t| - |p·t|) of each class that an image holds; otherwise as ``dice``."""
    hit, predicted, true = _overlap(logits, mask)
    return _mean_of_classes(1 - hit / (predicted + true - hit).clamp(min=_EPS), true, weights)


def pixel_losses(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of each pixel, (N, H, W), with one logit or one a class; those of ignored pixels mean nothing."""
    if logits.shape[1] == 1:
        target = (mask == 1).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), target, reduction="none")
    return F.cross_entropy(logits, mask.long(), ignore_index=IGNORE, reduction="none")


def _mean(losses: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over images of the mean over counted pixels of losses (N, H, W).

    Weights are not divided by their sum over an image: in one that holds a single class they would cancel.
    """
    counted = mask != IGNORE  # (N, H, W)
    pixels = counted.sum((1, 2)).clamp(min=1)  # an image without a counted pixel adds 0, not 0/0
    if weights is not None:
        losses = losses * weights[mask.long().clamp(max=len(weights) - 1)]  # of ignored pixels any will do
    return ((losses * counted).sum((1, 2)) / pixels).mean()


def _overlap(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the counted pixels of p·t, p and t, (N, C) each; of the foreground alone where there is one logit."""
    mask = mask.unsqueeze(1)  # (N, 1, H, W)
    if logits.shape[1] == 1:
        probability, truth = logits.sigmoid(), mask == 1
    else:
        ids = torch.arange(logits.shape[1], device=mask.device, dtype=mask.dtype).view(-1, 1, 1)
        probability, truth = logits.softmax(1), mask == ids  # (N, C, H, W)
    hit = (probability * truth).sum((2, 3))
    predicted = (probability * (mask != IGNORE)).sum((2, 3))
    return hit, predicted, truth.sum((2, 3)).to(hit.dtype)


def _mean_of_classes(losses: Tensor, true: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over images of the weighted mean over the classes that occur in them; losses and true (N, C)."""
    occurs = (true > 0).to(losses.dtype)
    if weights is not None and losses.shape[1] > 1:  # of one class there is nothing to weigh
        occurs = occurs * weights
    return ((losses * occurs).sum(1) / occurs.sum(1).clamp(min=_EPS)).mean()
