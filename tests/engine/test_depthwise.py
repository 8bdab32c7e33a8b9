"""Gradients of depthwise convolutions in 16 bits are those of the same convolution in float64, up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.engine.depthwise import fast_depthwise
from simclrseg.engine.gradients import Passes

CPU = torch.device("cpu")
ROUNDING = 2**-6
"""Of a sum of bf16 products, relative to its largest element."""


def parts(channels: int, side: int, kernel: tuple[int, int], *, bias: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(2, channels, side, side), (channels, 1, *kernel)]
    shapes += [(channels,)] if bias else []
    drawn = [torch.randn(shape, generator=generator).bfloat16().float() for shape in shapes]  # bf16 has them exactly
    drawn[0] = drawn[0].contiguous(memory_format=torch.channels_last)
    return [tensor.requires_grad_() for tensor in drawn]


def gradients(tensors: list[Tensor], **how: Any) -> list[Tensor]:
    """The result and the gradients of all tensors, for a gradient of the result that bf16 has exactly."""
    image, weight, *bias = tensors
    result = F.conv2d(image, weight, *(bias or [None]), *how.values())
    upper = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(result.dtype)
    return [result, *torch.autograd.grad(result, tensors, upper)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((5, 5), (1, 1), (2, 2)),
        ((5, 5), (2, 2), (0, 0)),
        ((5, 5), (2, 2), (2, 2)),
        ((5, 5), [2, 2], 2),
        ((5, 5), (1, 2), (2, 1)),
        ((7, 7), (1, 1), (3, 3)),
        ((7, 7), 2, 3),
        ((3, 3), (2, 2), (1, 1)),
        ((3, 3), (1, 1), (1, 1)),
        ((4, 4), (2, 2), (1, 1)),
        ((5, 3), (1, 1), (2, 1)),
        ((2, 2), (2, 2), (0, 0)),
    ],
)
def test_gradients_are_those_of_float64(kernel: tuple[int, int], stride: Any, padding: Any, *, bias: bool) -> None:
    tensors = parts(6, 11, kernel, bias=bias)
    how = {"stride": stride, "padding": padding, "dilation": 1, "groups": 6}
    wanted = gradients([tensor.detach().double().requires_grad_() for tensor in tensors], **how)
    with torch.autocast("cpu", torch.bfloat16), fast_depthwise(CPU):
        found = gradients(tensors, **how)
    assert found[0].dtype == torch.bfloat16
    assert [tensor.dtype for tensor in found[1:]] == [torch.float32] * len(tensors)
    for ours, reference in zip(found, wanted, strict=True):
        assert ours.shape == reference.shape
        assert (ours.double() - reference).abs().max() <= ROUNDING * reference.abs().max()


@pytest.mark.parametrize(
    ("stride", "dilation", "padding", "channels"),
    [(1, 2, 2, 6), (1, 1, "same", 6), (2, 1, "valid", 6), (1, 1, 2, 6), (2, 1, 2, 11)],
    ids=["dilated", "same", "valid", "small", "without a batch"],
)
def test_what_is_not_ours_is_torchs_own(stride: int, dilation: int, padding: Any, channels: int) -> None:
    tensors = parts(channels, 11, (3, 3) if (stride, padding) == (1, 2) and dilation == 1 else (5, 5))
    if channels == 11:  # rows as many as channels
        tensors[0] = tensors[0].detach()[0].requires_grad_()
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": channels}
    with torch.autocast("cpu", torch.bfloat16):
        wanted = gradients(tensors, **how)
        with fast_depthwise(CPU):
            found = gradients(tensors, **how)
    assert all(torch.equal(ours, reference) for ours, reference in zip(found, wanted, strict=True))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_changes_in_float32_or_on_a_gpu(device: str) -> None:
    image, weight = parts(6, 11, (5, 5))
    with torch.autocast("cpu", torch.bfloat16, enabled=device == "cuda"), fast_depthwise(torch.device(device)):
        assert type(F.conv2d(image, weight, None, 2, 2, 1, 6).grad_fn).__name__ == "ConvolutionBackward0"


def test_a_step_of_a_training_takes_the_fast_gradients() -> None:
    network = nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False)
    image = torch.ones(2, 8, 12, 12, requires_grad=True)
    with Passes(CPU, "bf16", seed=0).forward(0, 0):
        result = network(image)
    assert type(result.grad_fn).__name__ == "_DepthwiseBackward"
    with Passes(CPU, "fp32", seed=0).forward(0, 0):
        result = network(image)
    assert type(result.grad_fn).__name__ == "ConvolutionBackward0"


def test_parts_that_are_frozen_get_no_gradient() -> None:
    network = nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
    network.weight.requires_grad_(False)
    with Passes(CPU, "bf16", seed=0).forward(0, 0):
        network(torch.ones(2, 8, 12, 12)).float().sum().backward()
    assert network.weight.grad is None
    assert network.bias is not None
    assert network.bias.grad is not None
