"""Dropout: between a segmentation network's decoder and its head, and kept on to see what a network is unsure of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd


def add_dropout(model: nn.Module, rate: float) -> None:
    """Drop channels of what ``model.segmentation_head`` gets (Tompson et al. 2015, §3.3), in training mode only.

    Whole channels, because a pixel alone can be guessed from its neighbours. Kept switched on, it samples from the
    network's own uncertainty (Gal & Ghahramani 2016). Keys of the state stay as they are.

    Args:
        rate: share of the channels, in [0, 1).
    """
    if rate:
        model.dropout = nn.Dropout2d(rate).train(model.training)
        model.get_submodule("segmentation_head").register_forward_pre_hook(partial(_drop, model.dropout))


def dropout_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that drop something in training."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0]


@contextmanager
def sampling(model: nn.Module) -> Iterator[None]:
    """Keep dropout on, in a network that is otherwise in evaluation mode: each forward pass is another draw.

    Of the network's parts (its children), those without dropout remember their last answer, for the same input has the
    same one: an encoder before the first dropout runs once for all draws of a batch.
    """
    layers = dropout_layers(model)
    fixed = [part for part in model.children() if not dropout_layers(part)]
    for layer in layers:
        layer.train()
    for part in fixed:
        part.forward = _remembering(part.forward)
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()
        for part in fixed:
            del part.forward


def _remembering(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A function that answers at once when it is asked for the very same tensors again."""
    last: list[Any] = []  # arguments and answer

    def answer(*inputs: Any) -> Any:
        if not last or len(last[0]) != len(inputs) or any(a is not b for a, b in zip(last[0], inputs, strict=True)):
            last[:] = inputs, forward(*inputs)
        return last[1]

    return answer


def _drop(dropout: nn.Module, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return dropout(inputs[0]), *inputs[1:]
