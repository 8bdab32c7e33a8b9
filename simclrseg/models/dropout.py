"""Dropout between a segmentation network's decoder and its head, whichever decoder it is."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn


def add_dropout(model: nn.Module, rate: float) -> None:
    """Drop channels of what ``model.segmentation_head`` gets (Tompson et al. 2015, §3.3), in training mode only.

    Whole channels, because a pixel alone can be guessed from its neighbours. Kept switched on, it samples from the
    network's own uncertainty (Gal & Ghahramani 2016). Keys of the state stay as they are.

    Args:
        model: a network of segmentation-models-pytorch.
        rate: share of the channels, in [0, 1).
    """
    if rate:
        model.dropout = nn.Dropout2d(rate).train(model.training)
        model.segmentation_head.register_forward_pre_hook(partial(_drop, model.dropout))  # type: ignore[union-attr]


def _drop(dropout: nn.Module, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return dropout(inputs[0]), *inputs[1:]
