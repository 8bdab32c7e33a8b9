"""Features of photos, for probes and for plots."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from simclrseg.data.datasets.base import Dataset
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.normalize import Normalize
from simclrseg.models.weights import load_backbone
from simclrseg.scores.reading import read_photos
from simclrseg.training.machine import Machine
from simclrseg.weights.find import tell_loaded

log = logging.getLogger(__name__)

SLOW = 30  # seconds, from which on it is said how long it takes


def untrained(metadata: ModelMetadata, *, seed: int) -> nn.Module:
    """The encoder that a model file describes, with the random weights that training by this seed begins with."""
    torch.manual_seed(seed)
    return build_backbone(metadata.encoder, in_channels=metadata.in_channels, stem=metadata.stem)


def with_weights(metadata: ModelMetadata, file: Path, label: str, *, adapt: Sequence[str] = ()) -> nn.Module:
    """The same with the weights of a file.

    Raises:
        WeightsError: if the file cannot be read or too little of it matches.
    """
    backbone = untrained(metadata, seed=0)
    tell_loaded(label, load_backbone(backbone, file, bands=metadata.bands, adapt=adapt))
    return backbone


def features_of(
    backbone: nn.Module,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    metadata: ModelMetadata,
    machine: Machine,
    batch_size: int,
) -> tuple[Tensor, tuple[int, ...]]:
    """Pooled features (N, D) float32, on the CPU, of the photos that can be read, and their indices.

    Args:
        metadata: of the network, for its size and its normalization of photos.

    Raises:
        DataError: if no photo can be read.
    """
    backbone = backbone.to(machine.device).eval()
    normalize = Normalize(metadata.mean, metadata.std, metadata.full_scale)
    features, kept, skipped = [], [], []  # type: ignore[var-annotated]
    started, told = time.monotonic(), False
    with torch.inference_mode():
        for read, photos in read_photos(
            dataset,
            indices,
            image_size=metadata.image_size,
            batch_size=batch_size,
            workers=machine.workers,
            skipped=skipped,
        ):
            batch = normalize(torch.from_numpy(photos).to(machine.device))
            features.append(pooled_features(backbone, batch).float().cpu())
            kept += read
            spent = time.monotonic() - started
            left = spent / len(kept) * (len(indices) - len(kept))
            if not told and spent > 2 and left > SLOW:
                told = True
                log.info(f"features of {len(indices):,} photos: about {left / 60:.1f} minutes")
    if skipped:
        log.warning(f"{dataset.name}: {len(skipped)} photos could not be read; the first: {skipped[0]}")
    return torch.cat(features).clone(), tuple(kept)
