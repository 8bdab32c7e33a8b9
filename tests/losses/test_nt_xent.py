"""NT-Xent against its definition, spelled out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simclrseg.errors import UsageError
from simclrseg.losses import nt_xent as module
from simclrseg.losses.nt_xent import chance_level, contrastive_top1, nt_xent


def definition(z1: torch.Tensor, z2: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 1 of Chen et al. 2020 in float64, one anchor after the other."""
    z = F.normalize(torch.cat([z1, z2]).double())
    n = len(z1)
    losses = []
    for i in range(2 * n):
        similarities = z @ z[i] / temperature  # (2N,)
        others = torch.arange(2 * n) != i
        losses.append(torch.logsumexp(similarities[others], 0) - similarities[(i + n) % (2 * n)])
    return torch.stack(losses).mean()


def views(n: int = 10, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(n, size, generator=generator)
    z2 = z1 + 1.5 * torch.randn(n, size, generator=generator)  # no view is found without doubt
    return z1.requires_grad_(), z2.requires_grad_()


@pytest.mark.parametrize("temperature", [0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("n", "rows"), [(10, 1), (10, 7), (10, 256), (120, 100)])
def test_nt_xent_equals_its_definition(temperature: float, n: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._MAX_ROWS, "cpu", rows)  # several strips, also a short last one
    z1, z2 = views(n)
    loss = nt_xent(z1, z2, temperature)
    expected = definition(z1, z2, temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    gradient = torch.cat(torch.autograd.grad(loss, (z1, z2)))
    expected_gradient = torch.cat(torch.autograd.grad(expected, (z1, z2)))
    assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm()


def test_nt_xent_gradient_passes_gradcheck() -> None:
    z1, z2 = (z.detach().double().requires_grad_() for z in views(4, 5))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.3), (z1, z2))


def test_nt_xent_of_equal_embeddings_is_the_chance_level() -> None:
    z = torch.ones(32, 8)
    assert nt_xent(z, z, 0.1).item() == pytest.approx(chance_level(32), rel=1e-5)
    assert chance_level(32) == math.log(63)


def test_nt_xent_needs_no_gradient_to_be_computed() -> None:
    z1, z2 = views()
    with torch.no_grad():
        without = nt_xent(z1, z2, 0.1)
    assert without == nt_xent(z1, z2, 0.1)
    assert not without.requires_grad


def test_nt_xent_is_the_same_inside_autocast() -> None:
    z1, z2 = views(64, 32)
    outside = nt_xent(z1, z2, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent(z1, z2, 0.1)
        gradient = torch.autograd.grad(inside, z1)[0]
    assert torch.equal(inside, outside)
    assert torch.equal(gradient, torch.autograd.grad(outside, z1)[0])


def test_half_precision_embeddings_are_compared_in_float32() -> None:
    z1, z2 = views(64, 32)
    half = nt_xent(z1.bfloat16(), z2.bfloat16(), 0.1)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(nt_xent(z1, z2, 0.1).item(), rel=0.02)


class Watched(TorchDispatchMode):
    """Bytes of the largest tensor that comes out of an operation, and the shapes of products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.products: list[tuple[int, int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
        self.bytes = max([self.bytes, *(tensor.numel() * tensor.element_size() for tensor in tensors)])
        if function is torch.ops.aten.mm.default:
            self.products.append(tuple(output.shape))
        return output


@pytest.mark.parametrize("temperature", [0.1, 0.01], ids=["float32", "float64"])
@pytest.mark.parametrize("function", [nt_xent, lambda z1, z2, _: contrastive_top1(z1, z2)], ids=["loss", "top1"])
def test_no_tensor_is_larger_than_8_mb(
    function: Callable[..., torch.Tensor], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._MAX_ROWS, "cpu", 10**6)  # the bytes alone bind, with 1100 photos as with 11,000
    z1, z2 = views(1100, 4)
    with Watched() as watched:
        function(z1, z2, temperature)
    assert 0.9 < watched.bytes / 2**23 <= 1  # the whole matrix has 19 MB, in float64 39


@pytest.mark.parametrize(("device", "n", "workspace"), [("cpu", 5000, 2**23), ("cuda", 20_000, 2**28)])
def test_strips_fill_the_workspace_of_their_device_and_cover_every_row_once(
    device: str, n: int, workspace: int
) -> None:
    if device == "cuda" and not torch.cuda.is_available() and torch.__version__ < "2.9":
        pytest.skip("older versions of torch ask the driver even for tensors without values")
    with FakeTensorMode(), Watched() as watched:
        nt_xent(torch.empty(n, 4, device=device), torch.empty(n, 4, device=device), 0.1)
    strips = [(2 * n - columns, 2 * n - columns + rows) for rows, columns in watched.products]
    assert strips[0] == (0, workspace // (4 * 2 * n))
    assert [row for strip in strips for row in range(*strip)] == list(range(2 * n))


@pytest.mark.parametrize("temperature", [0.0, -1.0, 0.001])
def test_a_temperature_that_overflows_is_refused(temperature: float) -> None:
    with pytest.raises(UsageError, match="temperature"):
        nt_xent(*views(), temperature)


@pytest.mark.parametrize("rows", [3, 256])
def test_top1_counts_the_anchors_nearest_to_their_positive(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._MAX_ROWS, "cpu", rows)
    z1, z2 = views(20)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    hits = 0
    for i in range(40):
        others = [k for k in range(40) if k != i]
        hits += max(others, key=lambda k: (z[i] @ z[k]).item()) == (i + 20) % 40
    assert 0 < hits < 40
    assert contrastive_top1(z1, z2).item() == pytest.approx(hits / 40)


def test_top1_of_a_collapsed_encoder_is_not_perfect() -> None:
    z = torch.ones(16, 4)
    assert contrastive_top1(z, z) <= 2 / 32
