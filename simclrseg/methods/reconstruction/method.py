"""Pretraining by painting back what was cut: the functions of ``_methods.Method``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simclrseg.charts import plots
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.augment import PAIR_STRENGTHS, Strengths
from simclrseg.data.cutout import Cutout
from simclrseg.data.datasets.base import Dataset, colour_bands
from simclrseg.data.loader import InTurn, Loader
from simclrseg.data.randomness import permutation
from simclrseg.data.samples import CutViews
from simclrseg.engine.history import Observer
from simclrseg.engine.task import Task
from simclrseg.methods.reconstruction.task import Reconstruction
from simclrseg.methods.views import some_rows, strengths_of
from simclrseg.models import SEGMENTERS
from simclrseg.training.evaluators import knn_batches

ENCODER = "encoder."
DECODER = "unet"
RESULTS = "reconstructions.png"
EXAMPLES = 8
MOST_HELD_OUT = 500  # photos: enough for a figure, and cheap beside an epoch
VALIDATION_BATCH = 16


def make_task(
    config: PretrainConfig, backbone: nn.Module, *, mean: Sequence[float], std: Sequence[float], full_scale: int
) -> Reconstruction:
    network = SEGMENTERS[DECODER](backbone, config.model.backbone, len(mean))
    cut_only = config.model.loss_pixels == "cut"
    return Reconstruction(network, cut_only=cut_only, mean=mean, std=std, full_scale=full_scale)


def held_out(config: PretrainConfig, photos: int) -> np.ndarray:
    """A share of them, the same for every seed; none where they would not be scored."""
    share = config.data.held_out if config.run.knn_every else 0.0
    return permutation(0, 0, photos)[: min(MOST_HELD_OUT, int(photos * share))]


def make_samples(config: PretrainConfig, dataset: Dataset, indices: Sequence[int]) -> CutViews:
    return _samples(config, dataset, indices, strengths_of(config.data), seed=config.run.seed)


def make_validation(
    config: PretrainConfig, dataset: Dataset, learned: Sequence[int], held_out: Sequence[int], *, threads: int
) -> InTurn | None:
    """Held-out photos as they are, cut in the same way each time; then those of k-NN, where there are labels."""
    if config.run.knn_every == 0:
        return None
    loaders = [knn_batches(dataset, learned, config, threads=threads)]
    if len(held_out):
        bare = _samples(config, dataset, held_out, PAIR_STRENGTHS["none"], seed=0)
        loaders.insert(0, Loader(bare, batch_size=VALIDATION_BATCH, shuffle=False, drop_last=False, threads=threads))
    present = [loader for loader in loaders if loader is not None]
    return InTurn(*present) if present else None


def outlook(config: PretrainConfig) -> str:
    return "mean_fill is the loss of painting nothing but the mean"


def watchers(config: PretrainConfig, backbone: nn.Module, *, micro_batch: int) -> list[Observer]:
    return []


def first_views(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Cut, here to black, and whole."""
    return np.stack([np.where(rows["cut"], np.uint8(0), rows["image"]), rows["image"]], axis=1)


def draw_results(
    task: Task,
    config: PretrainConfig,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    device: torch.device,
    batch_size: int,
    folder: Path,
) -> None:
    """``reconstructions.png``: a photo a row, cut, painted and as it was."""
    assert isinstance(task, Reconstruction)  # it was made here
    rows = some_rows(_samples(config, dataset, indices, PAIR_STRENGTHS["none"], seed=0), EXAMPLES)
    task.model.to(device).eval()
    painted = []
    for start in range(0, len(rows["image"]), batch_size):
        part = slice(start, start + batch_size)
        images, cut = (torch.from_numpy(rows[name][part]).to(device) for name in ("image", "cut"))
        with torch.inference_mode():
            painted.append([pixels.cpu().numpy() for pixels in task.paint(images, cut)])
    columns = [np.concatenate(pixels) for pixels in zip(*painted, strict=True)]
    pictures = np.stack([*columns, rows["image"]], axis=1)  # (n, 3, S, S, bands), to be shown on one scale
    tiles = plots.viewable(pictures, colour_bands(dataset.bands))
    plots.write_grid(list(tiles), folder / RESULTS, headings=("cut", "painted", "original"))


def card_rows(config: PretrainConfig) -> dict[str, str]:
    share, longest = config.data.cut_share, config.data.cut_side
    return {
        "batch": f"{config.training.batch_size} photos",
        "cut": f"{share:.0%} of the pixels, in rectangles of 2 to {longest} px; the loss is over "
        + ("those alone" if config.model.loss_pixels == "cut" else "all pixels"),
    }


def _samples(
    config: PretrainConfig, dataset: Dataset, indices: Sequence[int], strengths: Strengths, **more: Any
) -> CutViews:
    return CutViews(
        dataset,
        indices,
        image_size=config.data.image_size,
        strengths=strengths,
        cutout=Cutout(share=config.data.cut_share, longest=config.data.cut_side),
        strict=config.data.strict,
        **more,
    )
