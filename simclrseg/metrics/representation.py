"""Metrics of embeddings, for which no network has to be trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

VIEWS = 256  # most of a batch that are looked at: enough for a figure, and cheap beside a step
QUERY_EVERY = 5  # of so many images of k-NN one asks, and the others answer
WORKSPACE = 64 << 20  # bytes of similarities that are held at once


@torch.no_grad()
def alignment(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared distance of an image's views on the unit sphere (Wang & Isola 2020, L_align with α = 2).

    Args:
        z1, z2: (N, D) embeddings of the two views; they are normalised here.

    Returns:
        A scalar in [0, 4]; 0 is best, 2 is chance.
    """
    return (_normalized(z1) - _normalized(z2)).square().sum(1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Uniformity of images (Wang & Isola 2020, L_uniform with t = 2): log of the mean of exp(-2 |zi - zj|²).

    Args:
        z: (N, D) embeddings of different images; they are normalised here.

    Returns:
        A scalar up to 0, where all are one point or there is no pair; near -4 where they are spread evenly in many
        dimensions.
    """
    z = _normalized(z)
    exponents = 4 * _products(z, z) - 4  # -2 |zi - zj|² of unit vectors
    if len(z) < 2:
        return exponents.new_zeros(())
    exponents.fill_diagonal_(-math.inf)  # the mean is over pairs
    return exponents.flatten().logsumexp(0) - math.log(len(z) * (len(z) - 1))


@torch.no_grad()
def effective_rank(x: Tensor) -> Tensor:
    """Number of dimensions in use: exp of the entropy of the singular values (Roy & Vetterli 2007, def. 1).

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
def nearest(bank: Tensor, queries: Tensor, count: int) -> Tensor:
    """Places (N, count) int64 in the bank (M, D) of the features nearest to each query (N, D) by cosine, in order."""
    bank, queries = _normalized(bank), _normalized(queries)
    blocks = queries.split(rows_at_once(bank))
    return torch.cat([_products(block, bank).topk(count, dim=1).indices for block in blocks])


@torch.no_grad()
def knn_predictions(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, *, neighbours: int = 20, temperature: float = 0.07
) -> Tensor:
    """Classes by a weighted k-NN classifier (Wu et al. 2018, §3.4): neighbours vote with exp(cosine / τ).

    Args:
        bank: (M, D) features with labels (M,) int64 from 0.
        queries: (N, D) features.
        neighbours: k; at most M are asked.
        temperature: τ.

    Returns:
        (N,) int64, the class with the most votes.
    """
    bank, queries = _normalized(bank), _normalized(queries)
    classes = int(bank_labels.max()) + 1
    found = []
    for block in queries.split(rows_at_once(bank)):
        similarity, nearest = _products(block, bank).topk(min(neighbours, len(bank)), dim=1)  # (rows, k)
        votes = block.new_zeros(len(block), classes)
        votes.scatter_add_(1, bank_labels[nearest], ((similarity - 1) / temperature).exp())
        found.append(votes.argmax(1))
    return torch.cat(found)


def knn_among(features: Tensor, labels: Tensor) -> float:
    """Accuracy of features (N, D), with labels (N,) int64 from 0, under weighted k-NN: every fifth asks the others."""
    asks = torch.arange(len(features), device=features.device) % QUERY_EVERY == 0
    found = knn_predictions(features[~asks], labels[~asks], features[asks])
    return int((found == labels[asks]).sum()) / len(found)


def linear_layer(
    features: Tensor, labels: Tensor, classes: int, *, decay: float, start: Tensor | None = None
) -> Tensor:
    """Multinomial logistic regression by L-BFGS: the minimum of cross entropy + decay / 2 · |W|², without the bias.

    Args:
        features: (N, D), of about unit variance.
        labels: (N,) int64 below ``classes``.
        start: weights to begin with, as they are returned; zeros by default.

    Returns:
        (D + 1, classes) weights, the bias in the last row.
    """
    weights = features.new_zeros(features.shape[1] + 1, classes) if start is None else start.clone()
    weights.requires_grad_()
    search = torch.optim.LBFGS(
        [weights], max_iter=500, history_size=20, tolerance_grad=1e-6, tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        search.zero_grad()
        logits = features @ weights[:-1] + weights[-1]
        loss = F.cross_entropy(logits, labels) + decay / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    return weights.detach()


def linear_predictions(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    queries: Tensor,
    *,
    decays: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
) -> tuple[Tensor, float]:
    """Classes by a linear probe: a logistic regression on frozen features (as Chen et al. 2020, §B.8).

    The weight decay is the one with the highest accuracy on the validation features; with it the regression is done
    again on both parts together. Features are standardised first.

    Args:
        train, validation: features (M, D) and their labels (M,) int64 from 0.
        queries: (N, D) features.

    Returns:
        (N,) int64 classes, and the decay.
    """
    classes = int(max(train[1].max(), validation[1].max())) + 1
    mean, std = train[0].mean(0), train[0].std(0, correction=0).clamp(min=1e-6)
    first, second, asked = ((x - mean) / std for x in (train[0], validation[0], queries))
    best, chosen, weights = -1.0, decays[0], None
    for decay in decays:  # from the strongest, each begins where the last one ended
        weights = linear_layer(first, train[1], classes, decay=decay, start=weights)
        accuracy = float(((second @ weights[:-1] + weights[-1]).argmax(1) == validation[1]).double().mean())
        if accuracy > best:
            best, chosen = accuracy, decay
    both = torch.cat([train[1], validation[1]])
    weights = linear_layer(torch.cat([first, second]), both, classes, decay=chosen, start=weights)
    return (asked @ weights[:-1] + weights[-1]).argmax(1), chosen


def rows_at_once(bank: Tensor) -> int:
    """Queries whose similarities to a bank (M, D) are held at once."""
    return max(1, WORKSPACE // (max(1, len(bank)) * bank.element_size()))


def _products(a: Tensor, b: Tensor) -> Tensor:
    """All inner products of rows, (len(a), len(b)), in their own format: half of one would hide small differences."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def _normalized(z: Tensor) -> Tensor:
    """Unit vectors, in float32 at least."""
    return F.normalize(z.detach().to(torch.promote_types(z.dtype, torch.float32)), dim=1)
