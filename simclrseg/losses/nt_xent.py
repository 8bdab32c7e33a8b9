"""NT-Xent, the contrastive loss of SimCLR, in memory that grows with N and not with N²."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from simclrseg.errors import UsageError
from simclrseg.system import distributed

MIN_TEMPERATURE = 0.002
# Below this, exp(±1/temperature) and its sums come near the ends of float32's range.
_MIN_FLOAT32_TEMPERATURE = 0.02
_WORKSPACE = {"cpu": 8 << 20, "cuda": 256 << 20}  # bytes of one block; the CPU's stays near its caches
_MAX_ROWS = {"cpu": 256, "cuda": 2048}  # more rows: fewer launches, but less of the symmetry is used


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Normalized temperature-scaled cross entropy (Chen et al. 2020, eq. 1), the mean over the 2N anchors.

    Computed outside autocast in float32, in float64 for such embeddings and for τ < 0.02. The similarity matrix is
    visited in strips of its upper triangle and never held as a whole.

    Several processes contrast their samples with those of all. Each has the mean over its own anchors, of which there
    are as many everywhere, and the gradient at its own embeddings of the sum of all these losses.

    Args:
        z1, z2: (N, D) embeddings of the two views; row i of one is the positive of row i of the other.
        temperature: τ, at least 0.002.

    Returns:
        The loss, a scalar. It can be differentiated once.
    """
    if temperature < MIN_TEMPERATURE:
        raise UsageError(
            f"temperature {temperature:g}: exp(1/temperature) overflows",
            f"take {MIN_TEMPERATURE:g} or more",
            option="temperature",
            value=temperature,
        )
    with torch.autocast(z1.device.type, enabled=False):
        z = _normalized(z1, z2, torch.float32 if temperature >= _MIN_FLOAT32_TEMPERATURE else torch.float64)  # (2N, D)
        loss: Tensor = _NTXent.apply(z, temperature)
        return loss.to(torch.promote_types(z1.dtype, torch.float32))


@torch.no_grad()
def contrastive_top1(z1: Tensor, z2: Tensor) -> Tensor:
    """Share of the 2N anchors whose most similar other embedding is their positive, a scalar in [0, 1]."""
    with torch.autocast(z1.device.type, enabled=False):
        z = _normalized(z1, z2, torch.float32)
        everyone = distributed.gather(z)  # (2N, D)
        own, positive = _places(z)
        hits = z.new_zeros(())
        for start, stop in _strips(z, len(everyone)):
            similarity = z[start:stop] @ everyone.T  # (rows, 2N)
            similarity.scatter_(1, own[start:stop, None], -math.inf)  # an anchor is not its own neighbour
            hits += (similarity.argmax(1) == positive[start:stop]).sum()
        return hits / len(z)


def chance_level(n: int) -> float:
    """The loss of an encoder that knows nothing: ln(2N - 1), every other embedding equally likely."""
    return math.log(2 * n - 1)


class _NTXent(torch.autograd.Function):
    """Loss and gradient together, from unit vectors z (2N, D).

    Let E_ij = exp(z_i·z_j / τ), but 0 for i = j and for positives, and n its row sums: the negatives. Then anchor i
    loses softplus(x_i) with x_i = ln n_i - z_i·z_pos(i) / τ, and the gradient at z_i, times 2Nτ, is
    Σ_j E_ij (1/r_i + 1/r_j) z_j - (σ(x_i) + σ(x_pos(i))) z_pos(i), with r_i = n_i + exp(z_i·z_pos(i) / τ). Positives
    are kept apart because ln r - z·z/τ cancels to nothing in float32 once an encoder tells views apart.

    E is symmetric and |z_i·z_j| <= 1: no running maximum is needed, and strips of the upper triangle serve rows and
    columns at once. E is computed twice, for n and for the gradient: cheaper than keeping it.

    Of several processes each has the rows of its own anchors z (2n, D), in rectangular blocks against all 2N. As E is
    symmetric they give the whole gradient at z once 1/r of all anchors is known: what the anchors of others do to z
    needs no second exchange of embeddings.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float) -> Tensor:
        everyone = z if distributed.world_size() == 1 else distributed.gather(z)  # (2N, D)
        negatives = _negatives(z, everyone, temperature)
        positives = (z * _partners(z)).sum(1) / temperature  # z_i·z_pos(i) / τ
        margins = negatives.log() - positives  # x
        if ctx.needs_input_grad[0]:
            pull = margins.sigmoid()
            gradient = _partners(z) * -(pull + _partners(pull))[:, None]
            _push(gradient, z, everyone, temperature, 1 / (negatives + positives.exp()))
            ctx.save_for_backward(gradient.div_(len(z) * temperature))
        return F.softplus(margins).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None


def _negatives(z: Tensor, everyone: Tensor, temperature: float) -> Tensor:
    """The row sums n of E, (2n,)."""
    if everyone is not z:
        rows = _strips(z, len(everyone))
        return torch.cat([_all_exponentials(z, everyone, temperature, *each).sum(1) for each in rows])
    negatives = z.new_zeros(len(z))
    for start, stop in _strips(z):
        block = _exponentials(z, temperature, start, stop)
        negatives[start:stop] += block.sum(1)
        negatives[stop:] += block[:, stop - start :].sum(0)
    return negatives


def _push(gradient: Tensor, z: Tensor, everyone: Tensor, temperature: float, weights: Tensor) -> None:
    """Add Σ_j E_ij (1/r_i + 1/r_j) z_j to the gradient, given the weights 1/r, (2n,)."""
    if everyone is not z:
        all_weights = distributed.gather(weights)
        for start, stop in _strips(z, len(everyone)):
            block = _all_exponentials(z, everyone, temperature, start, stop)
            block.mul_(weights[start:stop, None] + all_weights)
            gradient[start:stop].addmm_(block, everyone)
        return
    for start, stop in _strips(z):
        block = _exponentials(z, temperature, start, stop)
        block.mul_(weights[start:stop, None] + weights[start:])
        gradient[start:stop].addmm_(block, z[start:])
        gradient[stop:].addmm_(block[:, stop - start :].T, z[start:stop])


def _exponentials(z: Tensor, temperature: float, start: int, stop: int) -> Tensor:
    """Rows start to stop of E from column start on, (stop - start, 2N - start)."""
    block = ((z[start:stop] / temperature) @ z[start:].T).exp_()
    n = len(z) // 2
    for offset in (0, n, -n):  # neither an anchor nor its positive is a negative
        block.diagonal(offset).zero_()
    return block


def _all_exponentials(z: Tensor, everyone: Tensor, temperature: float, start: int, stop: int) -> Tensor:
    """Rows of E that belong to this process's anchors start to stop, all columns: (stop - start, 2N)."""
    block = ((z[start:stop] / temperature) @ everyone.T).exp_()
    for places in _places(z):
        block.scatter_(1, places[start:stop, None], 0.0)
    return block


def _places(z: Tensor) -> tuple[Tensor, Tensor]:
    """Places of this process's anchors and of their positives among those of all, each (2n,)."""
    first = distributed.rank() * len(z)
    own = torch.arange(first, first + len(z), device=z.device)
    return own, _partners(own)


def _partners(rows: Tensor) -> Tensor:
    """For each of 2N rows the row of its positive."""
    return rows.roll(len(rows) // 2, 0)


def _strips(z: Tensor, columns: int | None = None) -> list[tuple[int, int]]:
    """Row ranges so narrow that a strip (rows, columns), by default (rows, 2N), stays inside the workspace."""
    device = z.device.type if z.device.type in _WORKSPACE else "cpu"
    rows = _WORKSPACE[device] // ((columns or len(z)) * z.element_size())
    rows = max(1, min(rows, _MAX_ROWS[device]))
    return [(start, min(start + rows, len(z))) for start in range(0, len(z), rows)]


def _normalized(z1: Tensor, z2: Tensor, dtype: torch.dtype) -> Tensor:
    """Unit vectors of both views, (2N, D), in this dtype or a wider one."""
    z = torch.cat([z1, z2])
    return F.normalize(z.to(torch.promote_types(z.dtype, dtype)), dim=1)
