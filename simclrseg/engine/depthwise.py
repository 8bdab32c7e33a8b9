"""Gradients of depthwise convolutions on a CPU, where oneDNN has no fast kernel for them.

Networks for small machines (EfficientNet, MobileNet, ConvNeXt) are full of them. Two cases take its reference code,
which in 16 bits is 10 to 200 times slower than what stands here: the gradient of a kernel of 5x5 or more, and that of
the image where the stride is not 1 (``tests/benchmarks/depthwise.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FAST = 3
"""Side of the largest kernel whose gradient oneDNN has fast code for."""


@contextmanager
def fast_depthwise(device: torch.device) -> Iterator[None]:
    """Inside, 16-bit forward passes on a CPU record depthwise convolutions with fast gradients; others are as ever."""
    if device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        yield
        return
    with _Mode():
        yield


class _Call(NamedTuple):
    """Arguments of F.conv2d."""

    image: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


class _Mode(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d and not kwargs and (result := _convolve(_Call(*args))) is not None:
            return result
        return func(*args, **kwargs)


def _convolve(call: _Call) -> Tensor | None:
    """The convolution if oneDNN would be slow in its gradient, else None."""
    image, weight, bias, *geometry, groups = call
    depthwise = image.ndim == 4 and groups == image.shape[1] == len(weight)
    if not depthwise or not torch.is_grad_enabled() or isinstance(call.padding, str):
        return None
    stride, padding, dilation = (tuple(pair) if isinstance(pair, Sequence) else (pair, pair) for pair in geometry)
    if dilation != (1, 1) or (stride == (1, 1) and not _is_large(weight)):
        return None
    dtype = torch.get_autocast_dtype("cpu")
    result: Tensor = _Depthwise.apply(
        image.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), stride, padding
    )
    return result


def _is_large(weight: Tensor) -> bool:
    side = weight.shape[-1]
    return weight.shape[-2] == side > _FAST and side % 2 == 1


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of images (N, C, H, W) with kernels (C, 1, K, K)."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(image, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (image, weight) = gradients, ctx.saved_tensors
        of_image = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            dtype = image.dtype if ctx.stride == (1, 1) else torch.float32  # 16 bits with a stride are the slow case
            of_image = _backward(
                gradient.to(dtype), image.to(dtype), weight.to(dtype), ctx.stride, ctx.padding, of_image=True
            ).to(image.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(gradient, image, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_image, of_weight, of_bias, None, None


def _of_weight(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """That of a large kernel from its 3x3 parts, each of which is the kernel of a shifted image."""
    if not _is_large(weight):
        return _backward(gradient, image, weight, stride, padding, of_image=False)
    padded = F.pad(image, (padding[1], padding[1], padding[0], padding[0]))
    rows, columns = ((length - 1) * step + _FAST for length, step in zip(gradient.shape[2:], stride, strict=True))
    part = weight.new_empty(len(weight), 1, _FAST, _FAST)  # only its shape is asked for
    result = torch.empty_like(weight)
    for top, left in product(range(0, weight.shape[-1] - 2, 2), repeat=2):
        shifted = padded[:, :, top : top + rows, left : left + columns].contiguous(memory_format=torch.channels_last)
        found = _backward(gradient, shifted, part, stride, (0, 0), of_image=False)
        result[:, :, top : top + _FAST, left : left + _FAST] = found
    return result


def _backward(
    gradient: Tensor,
    image: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    *,
    of_image: bool,
) -> Tensor:
    """The gradient of the image, or of the weight, as torch has it."""
    wanted = (of_image, not of_image, False)
    found = torch.ops.aten.convolution_backward(
        gradient, image, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), wanted
    )
    result: Tensor = found[0] if of_image else found[1]
    return result
