"""A small network, what a file says of it, and files that say something else."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import torch
from torch import nn

from simclrseg.metadata import ONNX_PREFIX, ModelMetadata


def described(classes: int = 2, encoder: str = "resnet18") -> ModelMetadata:
    return ModelMetadata(
        task="segmentation",
        encoder=encoder,
        decoder="unet",
        image_size=64,
        classes=tuple(f"class {number}" for number in range(classes)),
        threshold=0.4 if classes == 2 else None,
    )


def small(outputs: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, outputs, 3, padding=1)
    )


def with_props(source: Path, target: Path, **changed) -> Path:
    """A copy of an ONNX file with other metadata."""
    model = onnx.load(source)
    props = {entry.key: entry.value for entry in model.metadata_props}
    props |= {ONNX_PREFIX + key: json.dumps(value) for key, value in changed.items()}
    onnx.helper.set_model_props(model, props)
    onnx.save(model, target)
    return target
