"""Fine-tuned runs and exported files opened again: target, predictions, and the images that they were trained with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.split_file import SPLIT_FILE, stored_split
from simclrseg.errors import DataError, ModelFileError, SimclrsegError
from simclrseg.inference.session import Model, open_model
from simclrseg.inference.signature import NoMetadata
from simclrseg.inference.tiling import Predict
from simclrseg.knobs.parsing import config_of_run, parse_config
from simclrseg.metadata import RGB, ModelMetadata, numbered_bands, voc_colours
from simclrseg.runs.run import Run
from simclrseg.targets import TARGETS
from simclrseg.targets.base import Target, elsewhere, target_class
from simclrseg.targets.knobs import LabelledData

log = logging.getLogger(__name__)

TargetClass = type[Target[Any, Any]]


def target_of(run: Run) -> TargetClass:
    """The target of a run."""
    return target_class(config_of_run(FinetuneConfig, run.folder).target)


def target_of_model(metadata: ModelMetadata) -> TargetClass:
    """The target of a model file; ModelFileError if it is no fine-tuned model."""
    targets = {target.TASK: target for target in map(target_class, TARGETS.values())}
    if metadata.task not in targets:
        raise ModelFileError(f"the model is for {metadata.task!r}, not for {' or '.join(targets)}: fine-tune it first")
    return targets[metadata.task]


def images_of(run: Run, metadata: ModelMetadata) -> Target[Any, Any]:
    """A run's images for its model, split as its record says, whose test images and masks have not changed since."""
    config = config_of_run(FinetuneConfig, run.folder)
    kind = target_class(config.target)
    dataset, record = kind.open_dataset(config.data, metadata, settled=True), run.folder / SPLIT_FILE
    target = kind(config.data, dataset, split=stored_split(dataset, record) if record.is_file() else None)
    stored = run.environment.get("test_hash")
    if stored and target.hash_of(target.split.test) != stored:
        raise DataError(
            f"the test photos of {config.data.dataset} are not those that run {run.name!r} was trained with: they "
            "changed on the disk",
            "restore them, or fine-tune again",
        )
    return target


def images_of_file(path: Path, metadata: ModelMetadata, other: str | None) -> Target[Any, Any]:
    """The images and the split that an exported file was trained with, checked too, or those of another dataset."""
    kind = target_of_model(metadata)
    if other is not None:
        metadata = as_found_from_here(metadata, path.parent)
        return kind.open(elsewhere(metadata.data, other), for_training=False, model=metadata)
    if not metadata.data:
        raise DataError(f"{path} does not say which photos it was trained on", "name some with --dataset", path=path)
    try:
        begun_in = Run(path.parent).begun_in  # where it lies in its run's folder
        data = parse_config(LabelledData, metadata.data, source="metadata", of_a_run=True, begun_in=begun_in)
        target = kind.open(data, model=metadata)
    except SimclrsegError as error:
        raise DataError(f"the photos of {path} are not at hand ({error})", "name some with --dataset") from error
    if metadata.test_hash and target.hash_of(target.split.test) != metadata.test_hash:
        raise DataError(
            f"the test photos of {data.dataset} are not those that {path} was trained with",
            "restore them, or name others with --dataset",
        )
    return target


def as_found_from_here(metadata: ModelMetadata, folder: Path) -> ModelMetadata:
    """The same of a model in a folder, whose own photos may be named as they were from where its run was begun."""
    if not isinstance(name := metadata.data.get("dataset"), str):
        return metadata
    tree, begun_in = {"dataset": name}, Run(folder).begun_in
    own = parse_config(LabelledData, tree, source="metadata", of_a_run=True, begun_in=begun_in)
    return metadata.model_copy(update={"data": {**metadata.data, "dataset": own.name}})


def open_exported(
    path: Path, device: str, *, classes: Sequence[str] = (), size: int | None = None
) -> tuple[Predict, ModelMetadata]:
    """Open an exported ONNX file for scoring: its predictions and its metadata.

    Args:
        classes, size: what a file without metadata is of: class names by id, and side of the training pictures.
    """

    def described(session: onnxruntime.InferenceSession) -> ModelMetadata:
        """Metadata from what the user says and the graph shows."""
        assert size
        image = session.get_inputs()[0]
        bands = image.shape[-1] if isinstance(image.shape[-1], int) else len(RGB)
        outputs = {output.name: output.shape for output in session.get_outputs()}
        labels = "label" in outputs
        return ModelMetadata(
            task=target_class(TARGETS["classify" if labels else "segment"]).TASK,
            encoder="unknown",
            in_channels=bands,
            bands=RGB if bands == len(RGB) else numbered_bands(bands),
            full_scale=255 if image.type == "tensor(uint8)" else 65535,
            image_size=size,
            classes=tuple(classes),
            colours=() if labels else voc_colours(len(classes)),
            threshold=0.5 if len(outputs["probability"]) == 3 else None,
        )

    try:
        model = open_model(path, device, describe=described if classes and size else None)
    except NoMetadata as error:
        raise ModelFileError(
            f"{path} does not say what it is of", "pass --classes and --size, and --dataset", path=path
        ) from error
    log.info(model.describe())
    side, (_, height, width) = model.metadata.image_size, model.fixed
    if (height or side, width or side) != (side, side):
        raise ModelFileError(
            f"{path} takes pictures of {height} x {width} only, and its scores are those of {side} x {side}",
            "export it without --fixed-shape",
            path=path,
        )
    if classes and size:
        _check_classes(model)
    return model.run, model.metadata


def _check_classes(model: Model) -> None:
    """Refuse a model that gives other classes than it is said to; its answer tells, whatever shape it states."""
    metadata = model.metadata
    side, named = metadata.image_size, len(metadata.classes)
    unnamed = replace(model, metadata=metadata.model_copy(update={"classes": ()}))  # which takes any number of them
    answer = unnamed.run(np.full((1, side, side, metadata.in_channels), 99, model.dtype))
    if answer.ndim not in ((2,) if model.classifies else (3, 4)):
        wanted = "(N, classes) beside label" if model.classifies else "(N, H, W) or (N, classes, H, W) beside mask"
        raise ModelFileError(
            f"{model.path} gives probability in the shape {answer.shape}: it must be {wanted}", path=model.path
        )
    given = 2 if answer.ndim == 3 else answer.shape[1]  # the foreground has one, and the rest is background
    if given != named:
        raise ModelFileError(f"{model.path} gives {given} classes and --classes names {named}", path=model.path)
