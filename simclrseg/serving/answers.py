"""From the bytes of a photo to those of its answer, in memory. Never imports torch."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from simclrseg.errors import ImageError, UsageError
from simclrseg.images.bands import colour_bands
from simclrseg.images.decode import image_shape
from simclrseg.images.headers import Refused
from simclrseg.images.limits import check_size
from simclrseg.inference import OUTPUTS
from simclrseg.inference.inputs import InputImage
from simclrseg.inference.jobs import Job
from simclrseg.inference.predictor import Predictor
from simclrseg.system.files import json_text
from simclrseg.system.hardware import explained_shortage

TYPES = {
    ".png": "image/png",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".tif": "image/tiff",
    ".geojson": "application/geo+json",
}
"""Media types by the ending of an output's file; of others nothing is said but that they are bytes."""


class TooLarge(ImageError):
    """A photo of more pixels than are allowed."""


@dataclass(frozen=True)
class Answer:
    """The file of one output for one photo.

    Attributes:
        confidence: the mean over all pixels of the likeliest class's probability; None of a classifier, whose JSON
            holds its scores.
    """

    content: bytes
    media_type: str
    confidence: float | None = None


def check_kind(predictor: Predictor, kind: str) -> None:
    """Raise UsageError for an output that there is not, or that this model cannot give."""
    model = predictor.model
    if model.classifies:
        if kind != "json":
            raise UsageError(f"as={kind}: the model gives labels, not masks", "take as=json", option="as", value=kind)
        return
    if OUTPUTS[kind].in_colour and not colour_bands(model.metadata.bands):
        bands = ", ".join(model.metadata.bands)
        reason = f"as={kind} shows red, green and blue, and the model takes other pictures, with the bands {bands}"
        raise UsageError(reason, "take as=mask", option="as", value=kind)


def answer(predictor: Predictor, content: bytes, kind: str, *, name: str = "photo") -> Answer:
    """Predict a photo.

    Args:
        content: of the photo's file.
        kind: of OUTPUTS, or ``json`` of a classifier; see ``check_kind``.
        name: of the photo, as an answer may repeat it; nothing is opened by it.

    Raises:
        ImageError: if it cannot be read; TooLarge if it has too many pixels.
        OutOfMemory: if there is not enough memory for it.
    """
    model = predictor.model
    with explained_shortage("over this photo", "send a smaller one, or fewer at a time"):
        try:
            height, width = image_shape(content)
            check_size(width, height, predictor.max_pixels)
        except Refused as error:
            raise TooLarge(error.reason, error.remedy) from error
        except ImageError as error:
            claims = isinstance(error.__cause__, Image.DecompressionBombError)
            raise (TooLarge if claims else ImageError)(error.reason, error.remedy) from error
        image = InputImage(None, Path(name), sent=True)
        picture = predictor.read(image, content)
        if model.classifies:
            (row,) = predictor.classify([picture.pixels])
            return Answer(json_text(row).encode(), TYPES[".json"])
        (probabilities,) = predictor.predict([picture.pixels])
        file = io.BytesIO()
        confidence, _ = predictor.write(Job(image, {kind: None}), picture, probabilities, {kind: file})
    output, made = OUTPUTS[kind], file.getvalue()
    if output.joint:
        made = output.joined([made], model.metadata).encode()
    return Answer(made, TYPES.get(output.ending(model.metadata), "application/octet-stream"), confidence)
