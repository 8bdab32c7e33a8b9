"""An exported file in the place of a run: its predictions, and the dataset and split that it was trained with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from simclrseg import runs
from simclrseg.errors import DataError, ModelFileError, SimclrsegError
from simclrseg.evaluation.opened import target_of_model
from simclrseg.inference.masks import Predict
from simclrseg.inference.session import Describe, Model, NoMetadata, open_model
from simclrseg.knobs.files import parse_config
from simclrseg.metadata import RGB, ModelMetadata, numbered_bands, voc_colours
from simclrseg.targets import TARGETS
from simclrseg.targets.base import Target, elsewhere, target_class
from simclrseg.targets.knobs import LabelledData

log = logging.getLogger(__name__)


def open_exported(
    path: Path, device: str, *, classes: Sequence[str] = (), size: int | None = None
) -> tuple[Predict, ModelMetadata]:
    """Open an exported ONNX file for scoring: its predictions and its metadata.

    Args:
        classes, size: what a file without metadata is of: class names by id, and side of the training pictures.

    Raises:
        ModelFileError: if it cannot be read, was not made by this tool, does not say what it is of and nobody else
            does, gives another number of classes, or takes no pictures of the training size.
        DeviceError: if the device cannot be used.
    """
    describe = _describe(classes, size) if classes and size else None
    try:
        model = open_model(path, device, describe=describe)
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
    if describe is not None:
        _check_classes(model)
    return model.run, model.metadata


def _check_classes(model: Model) -> None:
    """Refuse a model that gives more or fewer classes than it is said to; its answer tells, whatever shape it states.

    Raises:
        ModelFileError: if so, or if its answer is no probabilities of photos or pixels.
    """
    metadata = model.metadata
    side, named = metadata.image_size, len(metadata.classes)
    answer = model.run(np.zeros((1, side, side, metadata.in_channels), model.dtype))
    if answer.ndim not in ((2,) if model.classifies else (3, 4)):
        wanted = "(N, classes) beside label" if model.classifies else "(N, H, W) or (N, classes, H, W) beside mask"
        raise ModelFileError(
            f"{model.path} gives probability in the shape {answer.shape}: it must be {wanted}", path=model.path
        )
    given = 2 if answer.ndim == 3 else answer.shape[1]  # the foreground has one, and the rest is background
    if given != named:
        raise ModelFileError(f"{model.path} gives {given} classes and --classes names {named}", path=model.path)


def _describe(classes: Sequence[str], size: int) -> Describe:
    """Metadata from what the user says and the graph shows."""

    def describe(session: onnxruntime.InferenceSession) -> ModelMetadata:
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

    return describe


def images_of_file(path: Path, metadata: ModelMetadata, other: str | None) -> Target[Any, Any]:
    """The images and the split that the model was trained with, or those of another dataset.

    Raises:
        DataError: if the model's own are not at hand, or its test photos or masks have changed.
    """
    kind = target_of_model(metadata)
    if other is not None:
        return kind.open(elsewhere(metadata.data, other), for_training=False)
    if not metadata.data:
        raise DataError(f"{path} does not say which photos it was trained on", "name some with --dataset", path=path)
    try:
        begun_in = runs.Run(path.parent).begun_in  # where it lies in its run's folder
        data = parse_config(LabelledData, metadata.data, source="metadata", of_a_run=True, begun_in=begun_in)
        target = kind.open(data)
    except SimclrsegError as error:
        raise DataError(f"the photos of {path} are not at hand ({error})", "name some with --dataset") from error
    if metadata.test_hash and target.hash_of(target.split.test) != metadata.test_hash:
        raise DataError(
            f"the test photos of {data.dataset} are not those that {path} was trained with",
            "restore them, or name others with --dataset",
        )
    return target
