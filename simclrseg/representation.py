"""What embeddings tell of themselves, without a network being trained on them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

VIEWS = 256
"""Most views of a batch that are looked at: enough for a figure, and cheap beside a step."""
QUERY_EVERY = 5
"""Of the photos that k-NN is tried on, every fifth asks and the others answer."""
NEIGHBOURS = 20
_WORKSPACE = 64 << 20  # bytes of similarities that k-NN holds at once


@torch.no_grad()
def alignment(z1: Tensor, z2: Tensor) -> Tensor:
    """How far apart the views of a photo are (Wang & Isola 2020, L_align with α = 2); 0 is best, 2 is chance.

    Args:
        z1, z2: (N, D) embeddings of the two views; they are normalised here.

    Returns:
        The mean squared distance on the unit sphere, a scalar in [0, 4].
    """
    return (_normalized(z1) - _normalized(z2)).square().sum(1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """How evenly photos are spread (Wang & Isola 2020, L_uniform with t = 2): log of the mean of exp(-2 |zi - zj|²).

    Args:
        z: (N, D) embeddings of different photos, N at least 2; they are normalised here.

    Returns:
        A scalar up to 0, where all are one point; near -4 where they are spread evenly in many dimensions.
    """
    z = _normalized(z)
    exponents = 4 * _products(z, z) - 4  # -2 |zi - zj|² of unit vectors
    exponents.fill_diagonal_(-math.inf)  # the mean is over pairs
    return exponents.flatten().logsumexp(0) - math.log(len(z) * (len(z) - 1))


@torch.no_grad()
def effective_rank(x: Tensor) -> Tensor:
    """How many dimensions are in use: exp of the entropy of the singular values (Roy & Vetterli 2007, def. 1).

    They are divided by their sum. Nothing is centred, so that features which are all the same have effective rank 1.
    Computed on the CPU in float64: the eigenvalues are squares, and those of float32 end at a thousandth of the
    largest singular value.

    Args:
        x: (N, D).

    Returns:
        A scalar in [1, min(N, D)]; 0 for zeros, nan where a value is not finite.
    """
    x = x.detach().cpu().double()
    if not x.isfinite().all():
        return torch.tensor(math.nan)
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    values = values[values > 1e-7 * values.max()]  # below are the rounding errors of the squares
    if not len(values):
        return torch.tensor(0.0)
    share = values / values.sum()
    rank: Tensor = torch.special.entr(share).sum().exp().float()
    return rank


@torch.no_grad()
def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = 0.07,
) -> float:
    """Accuracy of a weighted k-NN classifier (Wu et al. 2018, §3.4): neighbours vote with exp(cosine / τ).

    Args:
        bank: (M, D) features with labels (M,) int64 from 0.
        queries: (N, D) features with labels (N,).
        neighbours: k; at most M are asked.
        temperature: τ.

    Returns:
        The share of queries whose class got the most votes.
    """
    bank, queries = _normalized(bank), _normalized(queries)
    classes = int(bank_labels.max()) + 1
    hits = 0
    rows = max(1, _WORKSPACE // (len(bank) * bank.element_size()))
    for start in range(0, len(queries), rows):
        block, truth = queries[start : start + rows], query_labels[start : start + rows]
        similarity, nearest = _products(block, bank).topk(min(neighbours, len(bank)), dim=1)  # (rows, k)
        votes = block.new_zeros(len(block), classes)
        votes.scatter_add_(1, bank_labels[nearest], ((similarity - 1) / temperature).exp())
        hits += int((votes.argmax(1) == truth).sum())
    return hits / len(queries)


def knn_among(features: Tensor, labels: Tensor) -> float:
    """Accuracy under weighted k-NN where every fifth photo asks the others.

    Args:
        features: (N, D), with labels (N,) int64 from 0.
    """
    asks = torch.arange(len(features), device=features.device) % QUERY_EVERY == 0
    return knn_accuracy(features[~asks], labels[~asks], features[asks], labels[asks])


def _products(a: Tensor, b: Tensor) -> Tensor:
    """All inner products of rows, (len(a), len(b)), in their own format: half of one would hide small differences."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def _normalized(z: Tensor) -> Tensor:
    """Unit vectors, in float32 at least."""
    return F.normalize(z.detach().to(torch.promote_types(z.dtype, torch.float32)), dim=1)
