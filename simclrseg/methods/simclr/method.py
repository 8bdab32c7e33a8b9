"""Pretraining by contrast: the functions of ``_methods.Method``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import TwoViews
from simclrseg.engine.history import Observer
from simclrseg.methods.simclr.task import SimCLR
from simclrseg.methods.views import strengths_of
from simclrseg.training.evaluators import CollapseWarning, knn_batches, lowest_rank

ENCODER = "backbone."
DECODER = None


def make_task(
    config: PretrainConfig, backbone: nn.Module, *, mean: Sequence[float], std: Sequence[float], full_scale: int
) -> SimCLR:
    return SimCLR(
        backbone,
        projection_hidden=config.model.projection_hidden,
        projection_dim=config.model.projection_dim,
        temperature=config.model.temperature,
        mean=mean,
        std=std,
        full_scale=full_scale,
    )


def held_out(config: PretrainConfig, photos: int) -> np.ndarray:
    """None: features are compared with labels, not with photos."""
    return np.empty(0, np.int64)


def make_samples(config: PretrainConfig, dataset: Dataset, indices: Sequence[int]) -> TwoViews:
    return TwoViews(
        dataset,
        indices,
        image_size=config.data.image_size,
        strengths=strengths_of(config.data),
        seed=config.run.seed,
        strict=config.data.strict,
    )


def make_validation(
    config: PretrainConfig, dataset: Dataset, learned: Sequence[int], held_out: Sequence[int], *, threads: int
) -> Loader | None:
    return knn_batches(dataset, learned, config, threads=threads)


def outlook(config: PretrainConfig) -> str:
    return f"chance level of the loss {math.log(2 * config.training.batch_size - 1):.2f}"


def watchers(config: PretrainConfig, backbone: nn.Module, *, micro_batch: int) -> list[Observer]:
    return [CollapseWarning(lowest_rank(backbone, micro_batch), warmup=config.training.warmup)]


def first_views(rows: dict[str, np.ndarray]) -> np.ndarray:
    return rows["image"]


def draw_results(*_: Any, **__: Any) -> None:
    """Nothing: embeddings are not looked at."""


def card_rows(config: PretrainConfig) -> dict[str, str]:
    return {
        "batch": f"{config.training.batch_size} photos, each contrasted with all others",
        "temperature": str(config.model.temperature),
    }
