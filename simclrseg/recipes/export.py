"""`simclrseg export`: a fine-tuned run as one ONNX file that says the same as the network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from simclrseg.config import ExportConfig
from simclrseg.engine.runtime import describe
from simclrseg.errors import SimclrsegError, UsageError
from simclrseg.exporters import EXPORTERS
from simclrseg.metadata import MODEL_FILE, ONNX_FILE
from simclrseg.recipes._labelled import readable_photos
from simclrseg.recipes._tasks import dataset_of, task_of
from simclrseg.recipes._training import spread
from simclrseg.recipes.evaluate import model_run

log = logging.getLogger(__name__)

PHOTOS = 6


def export(config: ExportConfig) -> dict[str, Any]:
    """Export a run's model and check it against torch, on photos of its test split where they are at hand.

    Returns:
        What the command prints: the run, the file and the next command.

    Raises:
        GateError: if the file disagrees with the network; it is removed.
    """
    log.info(describe(torch.device("cpu"), "fp32"))
    run = model_run(Path(config.console.runs), config.model.run)
    path = Path(config.console.output) if config.console.output else run.folder / ONNX_FILE
    if path.suffix != ".onnx":
        raise UsageError(f"-o {path}: the name of an ONNX file ends in .onnx")
    if path.exists() and not config.console.overwrite:
        raise UsageError(f"{path} exists: pass --overwrite to replace it, or -o for another file")
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {path.parent}")
    model, metadata = task_of(run).load_model(run.folder / MODEL_FILE)
    try:
        _, dataset, split = dataset_of(run)
        photos = readable_photos(dataset, spread(split.test, PHOTOS))
    except SimclrsegError as error:
        log.warning(f"the check runs on generated images, the run's own photos are not at hand: {error}")
        photos = []
    EXPORTERS[config.model.format](model, path, metadata, opset=config.model.opset, photos=photos)
    return {
        "run": str(run.folder),
        "onnx": str(path),
        "next": f"simclrseg predict photo.jpg -o mask.png --model {path}",
    }
