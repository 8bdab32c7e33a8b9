"""Encoders for other bands than their weights were trained on: the first layer, adapted by the bands' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def adapt_bands(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, bands: Sequence[str], wanted: Sequence[str]
) -> tuple[dict[str, Tensor], str]:
    """Give the first layer's kernels the bands of another network.

    A band that both have keeps its kernels, so that 12 bands become 3 by selecting red, green and blue. A band that is
    new gets the mean of those that both have, or of all where none is in common. As more or fewer bands are summed
    then, kernels are multiplied by the old number over the new one, as timm and segmentation-models-pytorch do; a
    network that goes from 3 bands to 12 and back is the one that it was.

    Args:
        state: the file's tensors, by the encoder's keys.
        own: the encoder's.
        bands: of the file's network.
        wanted: of the encoder.

    Returns:
        The state, and a line that says what was done; empty where nothing was.
    """
    if tuple(bands) == tuple(wanted):
        return dict(state), ""
    first = next((key for key in own if key in state and _take_bands(state[key], own[key], bands, wanted)), None)
    if first is None:
        return dict(state), ""
    shared = [band for band in wanted if band in bands]
    new = [band for band in wanted if band not in bands]
    kernels = state[first]
    mean = kernels[:, [bands.index(band) for band in shared or bands]].mean(dim=1)
    chosen = [mean if band in new else kernels[:, bands.index(band)] for band in wanted]
    adapted = torch.stack(chosen, dim=1) * (len(bands) / len(wanted))
    parts = [f"{', '.join(shared)} selected"] if len(shared) < len(bands) and shared else []
    if new:
        parts.append(f"{', '.join(new)} made from the mean of {', '.join(shared or bands)}")
    line = f"first layer adapted from {len(bands)} bands to {len(wanted)}" + (f" ({'; '.join(parts)})" if parts else "")
    return {**state, first: adapted}, line


def _take_bands(theirs: Tensor, ours: Tensor, bands: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a convolution's kernels (out, bands, height, width) differ in nothing but the bands."""
    if theirs.ndim != 4 or ours.ndim != 4 or (theirs.shape[1], ours.shape[1]) != (len(bands), len(wanted)):
        return False
    return theirs.shape[0] == ours.shape[0] and theirs.shape[2:] == ours.shape[2:]
