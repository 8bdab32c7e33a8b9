"""The contrast of places: the same place of an image in two views, told from other places of it and of others."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from simclrseg.system import distributed

WORKSPACE = 32 << 20  # bytes of one block of similarities


class PlaceContrast(NamedTuple):
    """What a contrast of places comes to, each a scalar; the loss alone has a gradient.

    Attributes:
        top1: share of the anchors that are more similar to their positive than to any negative.
        top1_chance, chance: what ``top1`` and the loss are of a network that knows nothing.
    """

    loss: Tensor
    top1: Tensor
    top1_chance: Tensor
    chance: Tensor


def place_contrast(
    z: Tensor, where: Tensor, matched: Tensor, temperature: float, *, apart: float, negatives: int
) -> PlaceContrast:
    """InfoNCE of places of images (the dense loss of Wang et al. 2021, whose positives here are known by geometry).

    Each place in a view is an anchor. Its positive is the same place in the other view; its negatives, in the other
    view too, are the places of the same image that are not near, and places of other images: all, or as many as are
    drawn for a step, alike for all anchors. The loss is the mean over the anchors of matched images, 0 where there are
    none. Computed outside autocast, in float32 at least; the similarities are visited in blocks and computed again for
    the gradient, so that memory grows with N and not with N².

    Of several processes, each has its own anchors, contrasted with the places of all; the mean of what they come to is
    that of the whole.

    Args:
        z: (N, 2, P, D) embeddings of P places in two views.
        where: (N, P, 2) where the places lie in their image, as fractions of its diagonal.
        matched: (N,) 1 where the places of both views are the same; other images are no negatives either.
        temperature: τ.
        apart: distance, as a fraction of the diagonal, from which on a place of the same image is a negative.
        negatives: most places of all images that negatives of other images are taken from.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=3)
        matched = matched.to(z.dtype)
        n, _, places, _ = z.shape
        everyone, known = distributed.gather(z), distributed.gather(matched)
        drawn = torch.randperm(len(everyone) * places)[:negatives].to(z.device)
        images = drawn // places  # (M,)
        keys = everyone.transpose(1, 2).flatten(0, 1)[drawn]  # (M, 2, D)
        own = distributed.rank() * n + torch.arange(n, device=z.device)
        strange = (own[:, None] != images) & (known[images] > 0)  # (N, M)
        rows = max(1, WORKSPACE // (places * (places + len(drawn)) * z.element_size()))
        sums = z.new_zeros(len(PlaceContrast._fields))
        for block in range(0, n, rows):
            some = slice(block, block + rows)
            sums = sums + checkpoint(
                _sums,
                z[some],
                where[some],
                matched[some],
                keys,
                strange[some],
                temperature,
                apart,
                use_reentrant=False,
                preserve_rng_state=False,
            )
        anchors = 2 * places * known.sum().clamp(min=1) / distributed.world_size()
        loss, *others = (sums / anchors).unbind()
        return PlaceContrast(loss, *(value.detach() for value in others))


def _sums(
    z: Tensor, where: Tensor, matched: Tensor, keys: Tensor, strange: Tensor, temperature: float, apart: float
) -> Tensor:
    """The fields of ``PlaceContrast``, summed over the anchors of some images, (4,)."""
    distance = (where[:, :, None] - where[:, None]).square().sum(3).sqrt()  # (n, P, P)
    near, known = distance < apart, ~strange[:, None]
    count = ((~near).sum(2) + strange.sum(1)[:, None]).to(z.dtype)  # (n, P) negatives
    found = []
    for view in range(2):
        anchors, others = z[:, view], z[:, 1 - view]  # (n, P, D)
        positive = (anchors * others).sum(2)
        own = (anchors @ others.transpose(1, 2)).masked_fill(near, -math.inf)
        foreign = (anchors @ keys[:, 1 - view].T).masked_fill(known, -math.inf)  # (n, P, M)
        similarities = torch.cat([positive[:, :, None], own, foreign], 2)
        logits = similarities / temperature
        loss = logits.logsumexp(2) - logits[:, :, 0]
        hit = positive > similarities[:, :, 1:].amax(2)
        found.append(torch.stack([loss, hit.to(loss), 1 / (1 + count), count.log1p()]))
    sums: Tensor = (sum(found) * matched[:, None]).sum((1, 2))
    return sums
