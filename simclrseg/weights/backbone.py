"""Write what a pretraining has learned: when it is done, or of one that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import simclrseg
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.knobs.parsing import read_config_file
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, RGB, ModelMetadata
from simclrseg.models.stems import stored
from simclrseg.models.weights import portable, save_weights
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.runs.run import Run, source_commit

SEEN_FILE = "seen.txt"
"""The record of the images that a run trains on, which its weights will carry; see data/seen.py."""
BEFORE = "without_learning"
"""Key of a run's environment: scores of its network before the first step."""
_IN_METADATA = (
    *("method", "encoder", "bands", "full_scale", "reach", "stem", "teacher", "terms", "mean", "std"),
    *("image_size", "dataset", "include_test"),
)
"""Facts of a run that its weights bear under the same names."""


def save_backbone(
    folder: Path,
    state: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    epochs: int,
    metrics: Mapping[str, float],
    doubts: Sequence[str] = (),
) -> ModelMetadata:
    """Write the encoder, under the keys of torchvision or timm, and the network where the method keeps it.

    Both say what they are, in a run's folder.

    Args:
        state: of the pretraining's model, contiguous and on the CPU.
        facts: what the run keeps in its environment, so that this can be done at any time: what the metadata bear too;
            ``init``, what its first weights are called, None where they were random; ``encoder_prefix``, where the
            encoder stands in the state; ``decoder``, that is kept too, None where the rest is left behind; and
            ``BEFORE`` where it was scored then.
        epochs: that it was trained for.
    """
    seen = folder / SEEN_FILE
    metadata = ModelMetadata(
        task="backbone",
        in_channels=len(facts["bands"]),
        pretrained=facts["init"],
        seen=seen.read_text(encoding="utf-8") if seen.is_file() else "",
        metrics=dict(metrics),
        without_learning=facts.get(BEFORE, {}),
        doubts=tuple(doubts),
        epochs=epochs,
        version=simclrseg.__version__,
        commit=source_commit(),
        **{name: facts[name] for name in _IN_METADATA if name in facts},  # older runs say less
    )
    prefix, decoder = facts["encoder_prefix"], facts["decoder"]
    encoder = portable({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    save_weights(folder / BACKBONE_FILE, stored(encoder) if metadata.stem == "cifar" else encoder, metadata)
    if decoder is not None:
        whole = metadata.model_copy(update={"task": metadata.method, "decoder": decoder})
        save_weights(folder / MODEL_FILE, state, whole)
    return metadata


def save_unfinished(run: Run) -> Path:
    """Write what was trained as the last checkpoint of an interrupted pretraining has it."""
    state = Checkpoints(run.folder / "checkpoints").load_last()
    assert state is not None  # the caller has seen the checkpoint
    facts = run.environment if "encoder_prefix" in run.environment else _older_facts(run) | run.environment
    metrics = state.history[-1]["train"] if state.history else {}
    save_backbone(run.folder, state.model, facts, epochs=state.epoch, metrics=metrics)
    return run.folder / BACKBONE_FILE


def _older_facts(run: Run) -> dict[str, Any]:
    """Facts that runs of version 0.1.0 have in their ``config.yaml`` alone, or leave out."""
    tree = read_config_file(run.folder / "config.yaml", "pretrain")
    data, model = tree["data"], tree["model"]
    whole = model["method"] == "reconstruction"
    return {
        "method": model["method"],
        "encoder": model["backbone"],
        "encoder_prefix": "encoder." if whole else "backbone.",
        "decoder": "unet" if whole else None,
        "image_size": data["image_size"],
        "stem": "imagenet",
        "init": None,
        "bands": RGB,
        "full_scale": 255,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "dataset": "+".join(data["dataset"]),
        "include_test": data["include_test"],
    }
