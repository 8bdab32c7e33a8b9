"""`simclrseg export`: a run as one file for other runtimes, which says the same as the network."""

from __future__ import annotations

import inspect
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simclrseg.config import CONFIGS
from simclrseg.config.export import ExportConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.engine.runtime import describe
from simclrseg.errors import DataError, RunError, UsageError, WeightsError
from simclrseg.evaluation.export_images import CheckImages, images_of_folder, images_of_run
from simclrseg.evaluation.opened import target_of, target_of_model
from simclrseg.evaluation.scored import model_run
from simclrseg.exporters import EXPORTERS, FORMATS, PRECISIONS
from simclrseg.exporters.verification import Agreement
from simclrseg.inference.predictor import SMALLEST_TILE
from simclrseg.knobs.parsing import config_of_run, stored_values
from simclrseg.metadata import LARGEST_SIDE, ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone, read_metadata
from simclrseg.runs.lookup import find_run
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.runs.run import Run
from simclrseg.system.files import make_folder, remove_empty
from simclrseg.system.hardware import explained_shortage
from simclrseg.system.identify import why_no_model
from simclrseg.weights.companion import following
from simclrseg.weights.publish import PUBLISHED, card_beside, check_push, file_to_publish, for_others, publish

log = logging.getLogger(__name__)

# knob -> the argument of an exporter that it decides; not every format has every one
OPTIONS = {
    "precision": "precision",
    "opset": "opset",
    "fixed_shape": "fixed_shape",
    "tolerance": "tolerance",
    "calibrate": "images",
}


@dataclass(frozen=True)
class ExportResult:
    """The exported run, its file, what the check found, and the next command.

    Attributes:
        check: None where there is nothing to compare, as of weights alone.
        card, commit: of what is published; None of what is not.
    """

    run: Path
    file: Path
    megabytes: float
    check: Agreement | None
    next: str
    card: Path | None
    commit: str | None

    def facts(self) -> dict[str, Any]:
        """The JSON form, without what there is none of."""
        facts = {**vars(self), "check": self.check and self.check.facts()}
        return {name: value for name, value in facts.items() if value is not None}


def export(config: ExportConfig) -> ExportResult:
    """Write a run's model in another format and check it against torch, on images where they are at hand.

    Raises:
        GateError: if the file disagrees with the network; there is no file then.
        SimclrsegError: for what a user can mend; nothing is written then.
    """
    exporter = EXPORTERS[config.model.format]
    arguments = inspect.signature(exporter).parameters
    check_options(config)
    hub = config.hub
    token = check_push(hub.push, hub.token, format=config.model.format) if hub.push is not None else None
    run = exported_run(config, backbones=FORMATS[config.model.format].backbones)
    path = output_of(config, run)
    log.info(describe(torch.device("cpu"), "fp32"))
    log.info(f"run {run.folder}")
    model, metadata = load_model(run)
    published = config.model.format == PUBLISHED
    if published:
        recipe, metadata = for_others(config_of_run(CONFIGS[run.kind], run.folder), metadata)
    options = {argument: knobs(config)[knob] for knob, argument in OPTIONS.items() if argument in arguments}
    if "images" in arguments:
        found = images_for(config, run, metadata)
        options |= {"images": found.check, "truths": found.masks}
        options |= {"calibration": found.calibration} if "calibration" in arguments else {}
    made = make_folder(path.parent)
    try:
        with explained_shortage("in the export", "free some memory"):
            agreement = exporter(model, path, metadata, **options)
    finally:
        remove_empty(made)
    if agreement is not None:
        log.info(str(agreement))
    size = round(path.stat().st_size / 1e6, 1)
    then = next_command(config.model.format, path, metadata, config.model.fixed_shape)
    card = commit = None
    if published:
        card, commit = publish(
            run,
            path,
            metadata,
            recipe,
            repository=hub.push,
            token=token,
            licence=hub.licence,
            private=hub.private,
        )
        then = f"simclrseg pull hf:{hub.push}" if commit else then
    return ExportResult(run.folder, path, size, agreement, then, card, commit)


def next_command(
    format: str, path: Path, metadata: ModelMetadata, fixed_shape: tuple[int, int, int] | None = None
) -> str:
    """The next command for the file; an image's mask goes to a file, its label to the terminal."""
    command, file = FORMATS[format].next, shlex.quote(str(path))
    if "{predict}" in command and (tiles := _other_tiles(metadata, fixed_shape)) is not None:
        command = f"{command} --tile {tiles}" if tiles else "simclrseg export --inspect {file}"
    predict = target_of_model(metadata).next(metadata) if "{predict}" in command else ""  # an encoder has no task
    return command.format(file=file, predict=predict, finetune=following(file, metadata.dataset))


def _other_tiles(metadata: ModelMetadata, fixed_shape: tuple[int, int, int] | None) -> int | None:
    """The tiles that have to be named to predict by a file of this shape; 0 for no way, None for no need."""
    if fixed_shape is None or metadata.resize != "tile" or fixed_shape[1:] == (metadata.image_size,) * 2:
        return None
    _, height, width = fixed_shape
    return height if height == width and SMALLEST_TILE <= height <= LARGEST_SIDE else 0


def knobs(config: ExportConfig) -> dict[str, Any]:
    """Options of the file, by the names in OPTIONS and others."""
    return {**config.model.model_dump(), **config.check.model_dump()}


def check_options(config: ExportConfig) -> None:
    """Refuse an option that the format has no use for."""
    for knob, argument in OPTIONS.items():
        fitting = [name for name in EXPORTERS if argument in inspect.signature(EXPORTERS[name]).parameters]
        if knob in (*config.model.changed(), *config.check.changed()) and config.model.format not in fitting:
            raise UsageError(
                f"--{knob.replace('_', '-')} is not for --format {config.model.format}: it goes with "
                f"{' and '.join(fitting)}",
                option=knob,
                value=knobs(config)[knob],
            )


def exported_run(config: ExportConfig, *, backbones: bool) -> Run:
    """The run to export: a fine-tuned one, or where ``backbones`` allows it one of pretraining that holds weights."""
    root, name = Path(config.console.runs), config.model.run
    try:
        return model_run(root, name)
    except RunError:
        if name is None or not backbones:
            raise
        try:
            run = find_run(root, "pretrain", name)
        except RunError:
            run = None
        if run is None:
            raise
    if not run.holds(BACKBONE_FILE):
        raise RunError(
            f"run {run.name!r} holds no {BACKBONE_FILE}",
            f"finish it with `{run.command('pretrain --resume')}`",
        )
    return run


def output_of(config: ExportConfig, run: Run) -> Path:
    """The file to write; UsageError if it has another suffix, exists, is the run's own, or would lie in no folder."""
    format, suffix = config.model.format, FORMATS[config.model.format].suffix
    path = Path(config.console.output) if config.console.output else run.folder / default_name(config)
    if format == PUBLISHED and not config.console.output:
        path = file_to_publish(run)
    if path.suffix != suffix:
        raise UsageError(
            f"-o {path}: the name of a file of --format {format} ends in {suffix}", option="output", path=path
        )
    if reason := why_no_model(path.absolute()):
        raise UsageError(f"-o {path}: {reason}", "choose another", option="output", path=path)
    if path.is_dir():
        raise UsageError(f"-o {path} is a folder", "name a file", option="output", path=path)
    if any(path.exists() and path.samefile(run.folder / own) for own in (MODEL_FILE, BACKBONE_FILE) if run.holds(own)):
        raise UsageError(f"{path} is the run's own", "pass -o FILE for a copy", option="output", path=path)
    for file in (path, card_beside(run, path)) if format == PUBLISHED else (path,):
        if file.exists() and not config.console.overwrite:
            remedy = "pass --overwrite to replace it, or -o for another file"
            raise UsageError(f"{file} exists", remedy, option="overwrite", path=file)
    if config.console.output and not path.parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {path.parent}", option="output", path=path)
    return path


def default_name(config: ExportConfig) -> str:
    """``model.onnx``, ``model.int8.onnx``, ``model.1x512x512.onnx``: `predict` takes the first where none is named."""
    model = config.model
    parts = ["model"]
    parts += [] if PRECISIONS[model.precision].exact else [model.precision]
    parts += ["x".join(map(str, model.fixed_shape))] if model.fixed_shape else []
    return ".".join(parts) + FORMATS[model.format].suffix


def load_model(run: Run) -> tuple[nn.Module, ModelMetadata]:
    """The network of a fine-tuned run, or the encoder of a pretraining run, and its metadata."""
    if run.kind != "pretrain":  # which leaves a whole network too, by reconstruction
        learner, own = target_of(run).load(run.folder / MODEL_FILE)
        data = own.data or stored_values(config_of_run(FinetuneConfig, run.folder))["data"]
        return learner.model, own.model_copy(update={"data": data})
    file = run.folder / BACKBONE_FILE
    metadata = read_metadata(file)
    if metadata is None:
        raise WeightsError(
            f"{file} holds no metadata of simclrseg", "`simclrseg pretrain` makes one that does", path=file
        )
    backbone = build_backbone(metadata.encoder, in_channels=metadata.in_channels)
    load_backbone(backbone, file, minimum=1.0)
    return backbone, metadata


def images_for(config: ExportConfig, run: Run, metadata: ModelMetadata) -> CheckImages:
    """Images to check on, and to calibrate on where the precision asks for it.

    Raises:
        DataError: if the precision cannot do without, and there are none; or they are not what the model takes.
    """
    precision, shape = PRECISIONS[config.model.precision], config.model.fixed_shape
    size = shape[1:] if shape else (metadata.image_size, metadata.image_size)
    if shape and size != (metadata.image_size, metadata.image_size):
        tiles = _other_tiles(metadata, shape)
        worse = "its masks may be worse" if tiles is None else f"predict needs --tile {tiles}" if tiles else ""
        log.warning(
            f"the network was trained at {metadata.image_size} x {metadata.image_size} pixels: evaluate cannot score a "
            f"file that takes {size[0]} x {size[1]} only, and {worse or 'predict has no such tiles'}"
        )
    if config.check.calibrate is not None:
        found = images_of_folder(config.check.calibrate, metadata, size, calibrated=precision.calibrated)
    else:
        needed_by = None if precision.exact else f"--precision {config.model.precision}"
        found = images_of_run(run, metadata, size, calibrated=precision.calibrated, needed_by=needed_by)
    for image in (*found.check, *found.calibration):
        if image.shape[2] != metadata.in_channels:
            raise DataError(
                f"the photos have {image.shape[2]} bands, the model takes {metadata.in_channels}",
                "pass --calibrate FOLDER with photos like those it was trained on",
            )
    return found
