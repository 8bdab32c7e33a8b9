"""Writing what a pretraining has learned: when it is done, or of one that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

import simclrseg
from simclrseg import runs
from simclrseg.config import PretrainConfig
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.knobs import parse_config_file
from simclrseg.metadata import BACKBONE_FILE, IMAGENET_MEAN, IMAGENET_STD, MODEL_FILE, ModelMetadata
from simclrseg.models.stems import stored
from simclrseg.models.weights import save_weights
from simclrseg.recipes._methods import METHOD_PARTS
from simclrseg.recipes._training import source_commit


def save_backbone(
    folder: Path,
    state: Mapping[str, Tensor],
    config: PretrainConfig,
    *,
    stem: str,
    init: str | None,
    epochs: int,
    metrics: Mapping[str, float],
) -> ModelMetadata:
    """Write the encoder with what it says of itself into a run's folder, and the network where the method keeps it.

    Args:
        state: of the pretraining's model, contiguous and on the CPU.
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
    method = METHOD_PARTS[config.model.method]
    encoder = {
        key.removeprefix(method.ENCODER): value for key, value in state.items() if key.startswith(method.ENCODER)
    }
    save_weights(folder / BACKBONE_FILE, stored(encoder) if stem == "cifar" else encoder, metadata)
    if method.DECODER is not None:
        whole = metadata.model_copy(update={"task": config.model.method, "decoder": method.DECODER})
        save_weights(folder / MODEL_FILE, state, whole)
    return metadata


def save_unfinished(run: runs.Run) -> Path:
    """Write what was learned as the last checkpoint of an interrupted pretraining has it."""
    state = Checkpoints(run.folder / "checkpoints").load_last()
    assert state is not None  # the caller has seen the checkpoint
    config = parse_config_file(PretrainConfig, str(run.folder))
    facts = run.environment
    save_backbone(
        run.folder,
        {key: value.contiguous() for key, value in state.model.items()},
        config,
        stem=facts.get("stem", "imagenet"),
        init=facts.get("init"),
        epochs=state.epoch,
        metrics=state.history[-1]["train"] if state.history else {},
    )
    return run.folder / BACKBONE_FILE
