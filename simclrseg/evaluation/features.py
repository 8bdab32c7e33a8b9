"""Features of images, for probes and for plots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.data.datasets.base import Dataset
from simclrseg.images.framing import Framing
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.normalize import Normalize
from simclrseg.models.weights import load_backbone
from simclrseg.scores.reading import read_images
from simclrseg.training.machine import Machine
from simclrseg.weights.find import tell_loaded

log = logging.getLogger(__name__)

SLOW = 30  # seconds, from which on it is said how long it takes


def untrained(metadata: ModelMetadata, *, seed: int) -> nn.Module:
    """The encoder that a model file describes, with the random weights that training by this seed begins with."""
    torch.manual_seed(seed)
    return build_backbone(metadata.encoder, in_channels=metadata.in_channels, stem=metadata.stem)


def with_weights(metadata: ModelMetadata, file: Path, label: str, *, adapt: Sequence[str] = ()) -> nn.Module:
    """The same with the weights of a file."""
    backbone = untrained(metadata, seed=0)
    tell_loaded(label, load_backbone(backbone, file, bands=metadata.bands, adapt=adapt))
    return backbone


@dataclass(frozen=True)
class Reader:
    """Reads images in batches of the size that a network takes, and what encoders make of them."""

    metadata: ModelMetadata
    machine: Machine
    batch_size: int

    def read(
        self, dataset: Dataset, indices: Sequence[int], skipped: list[str]
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray, list[tuple[int, int]]]]:
        """Indices, images (N, S, S, bands) and what of these is no padding, (height, width) each.

        Images that cannot be read are named in ``skipped``.
        """
        framing, workers = Framing.of(self.metadata), self.machine.workers
        return read_images(dataset, indices, framing, batch_size=self.batch_size, workers=workers, skipped=skipped)

    @cached_property
    def _normalize(self) -> Normalize:
        return Normalize(self.metadata.mean, self.metadata.std, self.metadata.full_scale)

    def pooled(self, backbone: nn.Module, images: Tensor) -> Tensor:
        """(N, S, S, bands) as stored -> (N, D)."""
        return pooled_features(backbone, self._normalize(images.to(self.machine.device)))

    def features(self, backbone: nn.Module, dataset: Dataset, indices: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
        """Pooled features (N, D) float32, on the CPU, of the images that can be read, and their indices."""
        backbone = backbone.to(self.machine.device).eval()

        @torch.inference_mode()
        def ask(images: np.ndarray, inners: Sequence[tuple[int, int]]) -> tuple[Tensor]:
            return (self.pooled(backbone, torch.from_numpy(images)),)

        (features,), kept = self.ask(ask, dataset, indices)
        return features, kept

    def ask(
        self,
        answer: Callable[[np.ndarray, Sequence[tuple[int, int]]], tuple[Tensor, ...]],
        dataset: Dataset,
        indices: Sequence[int],
    ) -> tuple[list[Tensor], tuple[int, ...]]:
        """What is answered of the images that can be read, (N, ...) float32 each, on the CPU, and their indices.

        Each answer is held once, in memory that is taken when its shape is known.

        Args:
            answer: images (n, S, S, bands) and what of each is no padding, (height, width) -> tensors of n rows.
        """
        found: list[Tensor] = []
        kept: list[int] = []
        skipped: list[str] = []
        started, told = time.monotonic(), False
        for read, images, inners in self.read(dataset, indices, skipped):
            answers = answer(images, inners)
            found = found or [torch.empty(len(indices), *one.shape[1:]) for one in answers]
            for rows, one in zip(found, answers, strict=True):
                rows[len(kept) : len(kept) + len(read)] = one.float().cpu()
            kept += read
            spent = time.monotonic() - started
            left = spent / len(kept) * (len(indices) - len(kept))
            if not told and spent > 2 and left > SLOW:
                told = True
                log.info(f"features of {len(indices):,} photos: about {left / 60:.1f} minutes")
        if skipped:
            log.warning(f"{dataset.name}: {len(skipped)} photos could not be read; the first: {skipped[0]}")
        return [rows[: len(kept)] for rows in found], tuple(kept)
