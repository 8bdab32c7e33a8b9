"""Weights as one safetensors file, for PyTorch everywhere; it is what runs keep, read back before it gets its name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from simclrseg.errors import GateError
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import portable, read_weights, save_weights
from simclrseg.system.files import replacing


def export_weights(model: nn.Module, path: Path, metadata: ModelMetadata) -> None:
    """Write a network's or an encoder's weights, if they come back from the file as they are."""
    state = portable(model.state_dict())
    with replacing(path) as temporary:
        save_weights(temporary, state, metadata)
        stored, described = read_weights(temporary)
        same = stored.keys() == state.keys() and all(torch.equal(stored[key], state[key].cpu()) for key in state)
        del stored  # they are the file itself, mapped into the memory, and Windows would not move it
        if not same or described != metadata:
            raise GateError(
                f"{path}: the weights do not come back from the file as they were written", "try again", path=path
            )
