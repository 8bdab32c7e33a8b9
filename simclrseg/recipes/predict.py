"""`simclrseg predict`: photos in, masks out, on ONNX Runtime; torch is never imported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simclrseg import runs
from simclrseg.config import PredictConfig
from simclrseg.errors import ImageError, UsageError
from simclrseg.files import make_folder, remove_empty
from simclrseg.images import read_image, write_png
from simclrseg.inference.files import plan_outputs
from simclrseg.inference.masks import predict_mask
from simclrseg.inference.session import open_model
from simclrseg.metadata import ONNX_FILE

log = logging.getLogger(__name__)


def predict(config: PredictConfig, *, on_file: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Write one mask a photo, 0 and 255 for two classes and class ids for more.

    A photo that cannot be read is reported and the rest goes on.

    Args:
        on_file: is told (files done, files in all).

    Returns:
        What the command prints: ``masks``, a list of {image, mask}, and ``failed``, a list of {image, reason}.
    """
    jobs = plan_outputs(config.input.inputs, config.console.output, overwrite=config.console.overwrite)
    path = find_model(Path(config.console.runs), config.input.model)
    model = open_model(path, device=config.hardware.device)
    log.info(model.describe())
    log.info(f"model {path}")
    if config.input.threshold is not None and model.metadata.threshold is None:
        raise UsageError(f"--threshold: {path} gives a probability a class and takes the likeliest; leave it out")
    masks, failed = [], []
    made: list[Path] = []
    try:
        for done, (source, target) in enumerate(jobs, start=1):
            try:
                image = read_image(source, max_pixels=int(config.input.max_pixels))
                made = make_folder(target.parent) + made
                write_png(target, predict_mask(model, image, threshold=config.input.threshold))
                masks.append({"image": str(source), "mask": str(target)})
            except ImageError as error:
                log.warning(str(error))
                failed.append({"image": str(source), "reason": str(error)})
            on_file(done, len(jobs))
    finally:
        remove_empty(made)
    return {"model": str(path), "masks": masks, "failed": failed}


def find_model(root: Path, name: str | None) -> Path:
    """The model file: a path, a run's name or folder, or the newest finished run's."""
    if name is None:
        run = runs.newest(
            root, "finetune", holding=ONNX_FILE, remedy="make one with `simclrseg finetune`, or pass --model"
        )
        return run.folder / ONNX_FILE
    if Path(name).suffix == ".onnx":
        if not Path(name).is_file():
            raise UsageError(f"--model {name}: there is no such file")
        return Path(name)
    run = runs.find(root, "finetune", name)
    if not run.holds(ONNX_FILE):
        raise UsageError(f"run {run.name!r} holds no {ONNX_FILE}: write it with `simclrseg export {run.name}`")
    return run.folder / ONNX_FILE
