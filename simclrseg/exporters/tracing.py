"""A network in a form that PyTorch's exporters trace in seconds, and in which padding is a constant."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from timm.layers import padding
from timm.layers.cond_conv2d import CondConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import nn

from simclrseg.models.vit import fix_size

_SAME = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame, CondConv2d, AvgPool2dSame, MaxPool2dSame)


@contextlib.contextmanager
def traceable(network: nn.Module, image_size: int) -> Iterator[nn.Module]:
    """A twin that gives the same answers and shares the weights, to be traced while the context lasts.

    The network itself stays as it is, for the file to be compared with.

    Args:
        image_size: side that a vision transformer was trained at.
    """
    weights = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, weights)
    fix_size(twin, image_size)
    for module in twin.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False  # torch decomposes what is done in place, anew at each place
    original = padding.get_same_padding
    padding.get_same_padding = _same_padding  # type: ignore[assignment]
    try:
        yield twin
    finally:
        padding.get_same_padding = original


def pads_by_size(model: nn.Module) -> bool:
    """Tell whether a network has TensorFlow's "same" padding, which follows from a map's size."""
    return any(isinstance(module, _SAME) for module in model.modules())


def _same_padding(side: int, kernel_size: int, stride: int, dilation: int) -> int:
    """Compute timm's padding in whole numbers.

    timm rounds a quotient of floats up, which stays an expression of a symbolic size: tracing an EfficientNet took
    eleven minutes. This is a constant where the size is a multiple of the stride, as in networks that segment.
    """
    if torch.is_tensor(side):  # as the tracer has it; from it the graph would compute the padding
        side = int(side)
    return max((-(-side // stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - side, 0)
