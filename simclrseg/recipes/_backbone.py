"""Writing ``backbone.safetensors``: when a pretraining is done, or of one that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

import simclrseg
from simclrseg import runs
from simclrseg.config import PretrainConfig
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.knobs import parse_config_file
from simclrseg.metadata import BACKBONE_FILE, IMAGENET_MEAN, IMAGENET_STD, ModelMetadata
from simclrseg.models.stems import stored
from simclrseg.models.weights import save_weights, timm_prefix
from simclrseg.recipes._training import source_commit

ENCODER = "backbone."  # where the encoder stands in the state of a pretraining's model


def save_backbone(
    folder: Path,
    encoder: Mapping[str, Tensor],
    config: PretrainConfig,
    *,
    stem: str,
    init: str | None,
    epochs: int,
    metrics: Mapping[str, float],
) -> ModelMetadata:
    """Write the encoder, under the keys of torchvision or timm, with what it says of itself into a run's folder.

    Args:
        encoder: its state, contiguous and on the CPU.
        init: what its first weights are called; None where they were random.
        epochs: that it was trained for.
    """
    metadata = ModelMetadata(
        task="backbone",
        method=config.model.method,
        encoder=config.model.backbone,
        stem=stem,
        pretrained=init,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        image_size=config.data.image_size,
        dataset="+".join(config.data.dataset),
        include_test=config.data.include_test,
        metrics=dict(metrics),
        epochs=epochs,
        version=simclrseg.__version__,
        commit=source_commit(),
    )
    inner = timm_prefix(encoder)
    tensors = {key.removeprefix(inner): tensor for key, tensor in encoder.items()}
    save_weights(folder / BACKBONE_FILE, stored(tensors) if stem == "cifar" else tensors, metadata)
    return metadata


def save_unfinished(run: runs.Run) -> Path:
    """Write the encoder as the last checkpoint of an interrupted pretraining has it."""
    state = Checkpoints(run.folder / "checkpoints").load_last()
    assert state is not None  # the caller has seen the checkpoint
    config = parse_config_file(PretrainConfig, str(run.folder))
    encoder = {
        key.removeprefix(ENCODER): value.contiguous() for key, value in state.model.items() if key.startswith(ENCODER)
    }
    facts = run.environment
    save_backbone(
        run.folder,
        encoder,
        config,
        stem=facts.get("stem", "imagenet"),
        init=facts.get("init"),
        epochs=state.epoch,
        metrics=state.history[-1]["train"] if state.history else {},
    )
    return run.folder / BACKBONE_FILE
