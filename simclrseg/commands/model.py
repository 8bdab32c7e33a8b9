"""The model of `predict` and `serve`: found, opened and checked for what is asked of it. Never imports torch."""

from __future__ import annotations

import logging
from pathlib import Path

from simclrseg.config.predict import PredictConfig
from simclrseg.errors import UsageError
from simclrseg.images.bands import colour_bands, parsed_bands
from simclrseg.inference import OUTPUTS
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import Model, open_model
from simclrseg.runs.lookup import find_run, line_of_newer, newest_run
from simclrseg.runs.names import ONNX_FILE
from simclrseg.runs.run import runs_option
from simclrseg.system.hardware import cpu_cores
from simclrseg.system.identify import why_not_a_file
from simclrseg.weights.shipped import PETS, shipped_file

log = logging.getLogger(__name__)

GPU_BATCH = 8
"""Images computed together on a GPU; on a CPU, one a thread is faster."""


def find_model(root: Path, name: str | None) -> Path:
    """The model file: a path, a run's name or folder, the newest finished run's, or the one that comes with the tool.

    The latter by its name, and where there is no folder of runs at all: after a training that failed nobody is to get
    masks of cats.
    """
    is_bare = not root.exists() and not runs_option(root)
    if file := shipped_file(PETS.name if name is None and is_bare else name, root):
        return file
    if name is None:
        command = f"simclrseg finetune --dataset FOLDER{runs_option(root)}"
        run = newest_run(root, "finetune", holding=ONNX_FILE, remedy=f"make one with `{command}`, or pass --model")
        return run.folder / ONNX_FILE
    if Path(name).suffix == ".onnx":
        if reason := why_not_a_file(name):
            raise UsageError(f"--model {name}: {reason}", option="model", value=name)
        return Path(name)
    run = find_run(root, "finetune", name)
    if not run.holds(ONNX_FILE):
        raise UsageError(
            f"run {run.name!r} holds no {ONNX_FILE}",
            f"write it with `{run.command('export')}`",
            option="model",
            value=run.name,
        )
    if line := line_of_newer(run, "finetune", holding=ONNX_FILE):
        log.info(line)
    return run.folder / ONNX_FILE


def open_for(config: PredictConfig, *, at_once: int, once: bool = False) -> Model:
    """Find the model, open it on the device that is asked for, say which it is, and check it.

    Args:
        at_once: images that are worked on together, which share the cores.
        once: as ``open_model`` takes it.
    """
    path, device = find_model(Path(config.console.runs), config.input.model), config.hardware.device
    if device != "tensorrt":
        model = open_model(path, device, threads=max(1, cpu_cores() // at_once), once=once)
    else:
        from simclrseg.data.datasets.locate import user_cache

        shape = (GPU_BATCH, config.method.tile, config.method.tile) if config.method.tile else None
        model = open_model(path, device, largest=shape, cache=user_cache())
    log.info(model.describe())
    comes_along = f"{PETS.name}, which comes with simclrseg: it {PETS.does}"
    log.info(f"model {comes_along if path == PETS.file else path}")
    check_model(config, model)
    return model


def check_model(config: PredictConfig, model: Model) -> None:
    """Raise UsageError for what this model cannot do."""
    kinds = [] if model.classifies else config.console.outputs
    if config.input.threshold is not None and model.metadata.threshold is None:
        raise UsageError(
            f"--threshold: {model.path} gives a probability a class and takes the likeliest",
            "leave it out",
            option="threshold",
        )
    if model.classifies and (config.console.outputs != ["mask"] or config.method.tile):
        raise UsageError(
            f"{model.path} gives labels, not masks", "leave out --as and --tile", option="as", path=model.path
        )
    predictor = predictor_of(config, model)
    if predictor.overlaps_nothing:
        raise UsageError(
            f"--overlap {config.method.overlap:g} is of tiles, and {model.path} sees each photo whole",
            "leave it out" if model.classifies else "pass --tile too, or leave it out",
            option="overlap",
            value=config.method.overlap,
        )
    coloured = [kind for kind in kinds if OUTPUTS[kind].in_colour]
    if coloured and not colour_bands(model.metadata.bands):
        raise UsageError(
            f"--as {coloured[0]} shows red, green and blue, and {model.path} takes other pictures, with the bands "
            f"{', '.join(model.metadata.bands)}",
            option="as",
            value=coloured[0],
        )
    if predictor.other_shape is None:
        return
    (height, width), side, tile = predictor.other_shape, model.metadata.image_size, predictor.tile_side
    if tile is not None:
        asked = config.method.tile is not None
        other = "export it without --fixed-shape" if model.metadata.resize == "tile" else "leave out --tile"
        remedy = f"take --tile {height}" if height == width else other
        whose = f"--tile {tile}" if asked else f"tiles of {tile} pixels, as in training"
        raise UsageError(
            f"{whose}: {model.path} takes {height} x {width} pixels only", remedy, option="tile", value=tile
        )
    log.warning(
        f"{model.path} takes {height} x {width} pixels only, so photos are brought to that, though it was trained "
        f"at {side} x {side}: results may be worse"
    )


def predictor_of(config: PredictConfig, model: Model) -> Predictor:
    """What predicts as the options say; a classifier has no use for some of them."""
    return Predictor(
        model,
        tile=config.method.tile,
        overlap=config.method.overlap,
        flips=config.method.tta,
        threshold=config.input.threshold or model.metadata.threshold,
        max_pixels=int(config.input.max_pixels),
        keep_orientation=config.console.keep_orientation,
        bands=parsed_bands(config.input.bands) if config.input.bands else (),
    )
