"""What differs between methods of pretraining, around the one flow of ``pretrain``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.loader import Samples
from simclrseg.engine.history import Observer
from simclrseg.engine.task import Loader, Task
from simclrseg.methods.reconstruction import method as reconstruction
from simclrseg.methods.simclr import method as simclr


class Method(Protocol):
    """The functions that a method's module has."""

    @property
    def ENCODER(self) -> str:
        """Where the encoder stands in the state of the task's model."""
        ...

    @property
    def DECODER(self) -> str | None:
        """The decoder that is kept too, with its encoder as one network; None where the rest is left behind."""
        ...

    def make_task(
        self,
        config: PretrainConfig,
        backbone: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        full_scale: int,
    ) -> Task:
        """The network around ``backbone`` and its loss."""
        ...

    def held_out(self, config: PretrainConfig, photos: int) -> np.ndarray:
        """Places, among so many photos, of those that are not learned from."""
        ...

    def make_samples(self, config: PretrainConfig, dataset: Dataset, indices: Sequence[int]) -> Samples:
        """What batches are made of."""
        ...

    def make_validation(
        self,
        config: PretrainConfig,
        dataset: Dataset,
        learned: Sequence[int],
        held_out: Sequence[int],
        *,
        threads: int,
    ) -> Loader | None:
        """What the task is scored on; None for nothing."""
        ...

    def outlook(self, config: PretrainConfig) -> str:
        """What to compare the loss with."""
        ...

    def watchers(self, config: PretrainConfig, backbone: nn.Module, *, micro_batch: int) -> list[Observer]:
        """Observers that warn of what can go wrong."""
        ...

    def first_views(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        """(n, 2, S, S, 3) uint8: what the network sees of some samples by field, for ``augmentations.png``."""
        ...

    def draw_results(
        self,
        task: Task,
        config: PretrainConfig,
        dataset: Dataset,
        indices: Sequence[int],
        *,
        device: torch.device,
        batch_size: int,
        folder: Path,
    ) -> None:
        """The pictures that show what was learned; ``batch_size`` photos per forward pass."""
        ...

    def card_rows(self, config: PretrainConfig) -> dict[str, str]:
        """What the model card says of the method, by the name of the row."""
        ...


METHOD_PARTS: dict[str, Method] = {"simclr": simclr, "reconstruction": reconstruction}
"""By the names of METHODS."""
