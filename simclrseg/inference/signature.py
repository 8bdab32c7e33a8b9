"""What an ONNX model says of itself: its metadata, and tensors that fit them. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

import onnxruntime

from simclrseg.errors import ModelFileError
from simclrseg.metadata import IGNORE, ONNX_PREFIX, ModelMetadata

_PIXELS = ("tensor(uint8)", "tensor(uint16)")
_PROBABILITIES = ("tensor(float)", "tensor(double)", "tensor(float16)")
_MOST_VALUES = 1 << 28  # of a tensor that goes in or comes out

Describe = Callable[[onnxruntime.InferenceSession], ModelMetadata]
"""Makes the metadata of an open model that has none."""


class NoMetadata(ModelFileError):
    """An ONNX file that does not say what it is of."""


def read_signature(
    session: onnxruntime.InferenceSession, path: Path, describe: Describe | None = None
) -> ModelMetadata:
    """The metadata of an open model, which its tensors fit.

    Args:
        describe: gives the metadata of a file that has none.

    Raises:
        ModelFileError: if it was not exported by this tool, or does not fit its metadata; NoMetadata if it has none.
    """
    header: dict[str, str] = session.get_modelmeta().custom_metadata_map
    try:
        metadata = ModelMetadata.from_strings(header, ONNX_PREFIX)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}", path=path) from error
    names = {tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())}
    if not (names >= {"image", "probability"} and names & {"mask", "label"}):
        if describe is None:
            what = f"it has the tensors {', '.join(sorted(names))}, not image and probability"
            remedy = "`simclrseg export RUN` makes a model it can use"
            raise ModelFileError(f"{path} was not exported by simclrseg: {what}", remedy, path=path)
        raise ModelFileError(
            f"{path} has the tensors {', '.join(sorted(names))}: to be scored it needs an input image and the outputs "
            "probability, and mask or label",
            path=path,
        )
    kind = next(tensor.type for tensor in session.get_inputs() if tensor.name == "image")
    if kind not in _PIXELS:
        raise ModelFileError(
            f"{path} takes an image of type {kind}: pixels must be {' or '.join(_PIXELS)}, scaled inside the model",
            path=path,
        )
    if metadata is None and describe is None:
        raise NoMetadata(f"{path} does not say what it is of: `simclrseg export RUN` makes a model that does")
    _check_shapes(session, path)
    named = len(metadata.classes) if metadata is not None else 0
    if metadata is None:
        assert describe is not None
        metadata = describe(session)
    if reason := _misfit(session, metadata, named):
        raise ModelFileError(f"{path} {reason}", "`simclrseg export RUN` makes a model that fits", path=path)
    return metadata


def _check_shapes(session: onnxruntime.InferenceSession, path: Path) -> None:
    """Refuse another rank, other inputs, and answers that are no numbers."""
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    outputs = {tensor.name: tensor for tensor in session.get_outputs()}
    reason, ranks = "", (2,) if "label" in outputs else (3, 4)
    if more := sorted(inputs.keys() - {"image"}):
        reason = f"wants {', '.join(more)} beside image"
    elif len(inputs["image"].shape) != 4:
        reason = f"takes an image of {len(inputs['image'].shape)} dimensions, not (N, H, W, bands)"
    elif outputs["probability"].type not in _PROBABILITIES:
        reason = f"gives probability of type {outputs['probability'].type}"
    elif outputs["probability"].shape and len(outputs["probability"].shape) not in ranks:
        reason = (
            f"gives probability of {len(outputs['probability'].shape)} dimensions, not {' or '.join(map(str, ranks))}"
        )
    if reason:
        raise ModelFileError(f"{path} {reason}", "`simclrseg export RUN` makes a model that fits", path=path)


def _misfit(session: onnxruntime.InferenceSession, metadata: ModelMetadata, named: int) -> str:
    """What of a model's shapes is not what its metadata say, or is beyond all memory; empty where all fits.

    Args:
        named: classes that its own metadata name; 0 for none.
    """
    image, outputs = session.get_inputs()[0], {tensor.name: tensor.shape for tensor in session.get_outputs()}
    kind = "classification" if "label" in outputs else "segmentation"
    if metadata.task != kind:
        return f"is of the task {metadata.task}, by its metadata, and gives what {kind} does"
    sizes = [size if isinstance(size, int) else None for size in image.shape]
    if any(size is not None and size < 1 for size in sizes):
        return f"takes pictures of the shape {image.shape}"
    if sizes[3] not in (None, metadata.in_channels):
        return f"takes {sizes[3]} bands, and {metadata.in_channels} by its metadata"
    if (image.type == "tensor(uint8)") != (metadata.full_scale <= 255):
        return f"takes {image.type}, and values up to {metadata.full_scale:,} by its metadata"
    usual = (1, metadata.image_size, metadata.image_size)
    count, height, width = (size or one for size, one in zip(sizes, usual, strict=False))
    if count * height * width * metadata.in_channels > _MOST_VALUES:
        return f"takes {count:,} pictures of {width:,} x {height:,} pixels at once, beyond what fits in memory"
    shape = outputs["probability"]
    if prod(size for size in shape if isinstance(size, int)) > _MOST_VALUES:
        return f"gives probability in the shape {shape}, beyond what fits in memory"
    given = shape[1] if len(shape) in (2, 4) else 2 if shape else None
    if kind == "segmentation" and named >= IGNORE:
        return f"has {named:,} classes by its metadata, and pixels can be of {IGNORE - 1}"
    if named and isinstance(given, int) and given != named:
        return f"gives {given} classes, and {named} by its metadata"
    return ""
