"""Weights of other tools as safetensors."""

from __future__ import annotations

import logging
from pathlib import Path

import safetensors.torch

import simclrseg
from simclrseg.errors import WeightsError
from simclrseg.hub.table import Published
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.foreign import tensor_dicts
from simclrseg.models.weights import load_backbone, read_checkpoint, save_weights
from simclrseg.system.content import read_json
from simclrseg.system.files import replacing

log = logging.getLogger(__name__)

_MOST_COPIES = 4
"""How often weights are written where several names share them, as in a model and its average."""
_SMALL = 1 << 26  # bytes that are written anyway
IMAGE_SIZE = 224  # what published encoders are trained at, pixels


def convert_published(
    entry: Published, original: Path, target: Path, *, settings: Path | None = None, origin: str = ""
) -> None:
    """Write the encoder of a published file with our metadata.

    Args:
        settings: a JSON file that says its mean and std; by default the entry's hold.
        origin: where the file came from.
    """
    mean, std = _mean_and_std(settings) if settings else (entry.mean, entry.std)
    metadata = ModelMetadata(
        task="backbone",
        method=entry.method,
        encoder=entry.encoder,
        in_channels=entry.in_channels,
        mean=mean,
        std=std,
        image_size=IMAGE_SIZE,
        dataset=entry.dataset,
        pretrained=origin or None,
        epochs=entry.epochs or 0,
        terms=entry.terms,
        version=simclrseg.__version__,
    )
    convert_encoder(original, target, metadata, minimum=1.0)


def convert_encoder(original: Path, target: Path, metadata: ModelMetadata, *, minimum: float = 0.9) -> None:
    """Write the encoder that a checkpoint of any tool holds as a backbone of ours."""
    backbone = build_backbone(metadata.encoder, in_channels=metadata.in_channels)
    log.info(f"converted: {load_backbone(backbone, original, minimum=minimum)}")
    save_weights(target, backbone.state_dict(), metadata)


def convert_pickle(original: Path, target: Path) -> None:
    """Write all tensors of a pickled checkpoint, named by the keys that lead to them, as safetensors."""
    checkpoint, _ = read_checkpoint(original)
    found = {
        f"{place}.{key}" if place else key: tensor
        for place, inside in tensor_dicts(checkpoint)
        for key, tensor in inside.items()
    }
    if not found:
        raise WeightsError(f"{original} holds no tensors", "choose another file", path=original)
    apart, there = sum(tensor.nbytes for tensor in found.values()), original.stat().st_size
    if apart > _MOST_COPIES * there + _SMALL:
        reason = (
            f"{original} holds {len(found):,} tensors that share memory, and would take {apart / 1e6:,.0f} MB apart"
        )
        raise WeightsError(reason, "choose another file, or write its weights alone", path=original)
    tensors = {key: tensor.contiguous().clone() for key, tensor in found.items()}
    with replacing(target) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
    log.info(f"converted: {len(tensors)} tensors")


def _mean_and_std(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For pixels in [0, 1], whatever range the settings mean."""
    try:
        settings = read_json(path)
        highest = float(max(settings.get("input_range") or [1]))
        return tuple(value / highest for value in settings["mean"]), tuple(value / highest for value in settings["std"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} does not say mean and std", "fetch it again with --force", path=path) from error
