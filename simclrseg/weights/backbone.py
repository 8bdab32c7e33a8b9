"""Writing what a pretraining has learned: when it is done, or of one that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import simclrseg
from simclrseg import runs
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.knobs.files import config_of_run
from simclrseg.metadata import BACKBONE_FILE, IMAGENET_MEAN, IMAGENET_STD, MODEL_FILE, RGB, ModelMetadata
from simclrseg.methods.base import METHOD_PARTS
from simclrseg.models.stems import stored
from simclrseg.models.weights import portable, save_weights
from simclrseg.runs import source_commit

SEEN_FILE = "seen.txt"
"""The record of the photos that a run learns from, which its weights will carry; see data/seen.py."""


def save_backbone(
    folder: Path,
    state: Mapping[str, Tensor],
    config: PretrainConfig,
    *,
    epochs: int,
    metrics: Mapping[str, float],
    facts: Mapping[str, Any],
) -> ModelMetadata:
    """Write the encoder, under the keys of torchvision or timm, and the network where the method keeps it.

    Both say what they are, in a run's folder.

    Args:
        state: of the pretraining's model, contiguous and on the CPU.
        epochs: that it was trained for.
        facts: the run's, as ``backbone_facts`` has them.
    """
    stem = facts.get("stem", "imagenet")
    bands = tuple(facts.get("bands", RGB))
    seen = folder / SEEN_FILE
    metadata = ModelMetadata(
        task="backbone",
        method=config.model.method,
        encoder=config.model.backbone,
        in_channels=len(bands),
        bands=bands,
        full_scale=facts.get("full_scale", 255),
        stem=stem,
        pretrained=facts.get("init"),
        mean=facts.get("mean", IMAGENET_MEAN),
        std=facts.get("std", IMAGENET_STD),
        image_size=config.data.image_size,
        dataset="+".join(config.data.dataset),
        include_test=config.data.include_test,
        seen=seen.read_text() if seen.is_file() else "",
        metrics=dict(metrics),
        epochs=epochs,
        version=simclrseg.__version__,
        commit=source_commit(),
    )
    method = METHOD_PARTS[config.model.method]
    encoder = {
        key.removeprefix(method.ENCODER): value for key, value in state.items() if key.startswith(method.ENCODER)
    }
    encoder = portable(encoder)
    save_weights(folder / BACKBONE_FILE, stored(encoder) if stem == "cifar" else encoder, metadata)
    if method.DECODER is not None:
        whole = metadata.model_copy(update={"task": config.model.method, "decoder": method.DECODER})
        save_weights(folder / MODEL_FILE, state, whole)
    return metadata


def backbone_facts(
    dataset: Dataset, *, mean: Sequence[float], std: Sequence[float], stem: str, init: str | None
) -> dict[str, Any]:
    """What a run keeps in its environment, so that weights can be written of it at any time.

    Args:
        init: what its first weights are called; None where they were random.
    """
    return {
        "stem": stem,
        "init": init,
        "bands": dataset.bands,
        "full_scale": dataset.full_scale,
        "mean": mean,
        "std": std,
    }


def save_unfinished(run: runs.Run) -> Path:
    """Write what was learned as the last checkpoint of an interrupted pretraining has it."""
    state = Checkpoints(run.folder / "checkpoints").load_last()
    assert state is not None  # the caller has seen the checkpoint
    config = config_of_run(PretrainConfig, run.folder)
    save_backbone(
        run.folder,
        state.model,
        config,
        epochs=state.epoch,
        metrics=state.history[-1]["train"] if state.history else {},
        facts=run.environment,
    )
    return run.folder / BACKBONE_FILE
