"""Features of images, for probes and for plots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.images.framing import Framing
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.normalize import Normalize
from simclrseg.models.weights import load_backbone
from simclrseg.scores.reading import Frames, read_frames
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

    def read(self, dataset: Dataset, indices: Sequence[int], skipped: list[str]) -> Iterator[Frames]:
        """All that a network is to see of images; those that cannot be read are named in ``skipped``."""
        framing, workers = Framing.of(self.metadata), self.machine.workers
        return read_frames(dataset, indices, framing, batch_size=self.batch_size, workers=workers, skipped=skipped)

    @cached_property
    def _normalize(self) -> Normalize:
        return Normalize(self.metadata.mean, self.metadata.std, self.metadata.full_scale)

    def pooled(self, backbone: nn.Module, images: Tensor, held: Tensor | None = None) -> Tensor:
        """(N, S, S, bands) as stored -> (N, D), of the pixels that are ``held`` (N, S, S), by default of all."""
        device = self.machine.device
        held = None if held is None else held.to(device)
        return pooled_features(backbone, self._normalize(images.to(device)), held)

    def features(self, backbone: nn.Module, dataset: Dataset, indices: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
        """Pooled features (N, D) float32, on the CPU, of the images that can be read, and their indices."""
        backbone = backbone.to(self.machine.device).eval()

        @torch.inference_mode()
        def ask(frames: Frames) -> tuple[Tensor]:
            return (self.pooled(backbone, torch.from_numpy(frames.images), torch.from_numpy(frames.held)),)

        (features,), kept = self.ask(ask, dataset, indices)
        return features, kept

    def ask(
        self,
        answer: Callable[[Frames], tuple[Tensor, ...]],
        dataset: Dataset,
        indices: Sequence[int],
    ) -> tuple[list[Tensor], tuple[int, ...]]:
        """What is answered of the images that can be read, (N, ...) float32 each, on the CPU, and their indices.

        Of an image in several frames it is the mean of their answers, each weighted by what it holds of the image. Each
        answer is held once, in memory that is taken when its shape is known.

        Args:
            answer: n frames -> tensors of n rows.
        """
        found: list[Tensor] = []
        kept: list[int] = []
        skipped: list[str] = []
        started, told = time.monotonic(), False
        for frames in self.read(dataset, indices, skipped):
            answers = answer(frames)
            found = found or [torch.zeros(len(indices), *one.shape[1:]) for one in answers]
            places = []
            for frame in frames.each:
                if not kept or kept[-1] != frame.index:
                    kept.append(frame.index)
                places.append(len(kept) - 1)
            shares = torch.from_numpy(frames.shares).float()
            for rows, one in zip(found, answers, strict=True):
                weights = shares.view(-1, *[1] * (one.ndim - 1))
                rows.index_add_(0, torch.tensor(places), one.float().cpu() * weights)
            spent = time.monotonic() - started
            left = spent / len(kept) * (len(indices) - len(kept))
            if not told and spent > 2 and left > SLOW:
                told = True
                log.info(f"features of {len(indices):,} photos: about {left / 60:.1f} minutes")
        if skipped:
            log.warning(f"{dataset.name}: {len(skipped)} photos could not be read; the first: {skipped[0]}")
        return [rows[: len(kept)] for rows in found], tuple(kept)
