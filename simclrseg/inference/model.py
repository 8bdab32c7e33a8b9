"""A trained model for programs: an image in, a mask or a label out. Never imports torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from simclrseg.errors import UsageError
from simclrseg.images.bands import colour_bands
from simclrseg.images.colours import overlay, viewable
from simclrseg.images.decode import Picture
from simclrseg.images.srgb import hides_all, srgb_pixels
from simclrseg.images.strips import cut
from simclrseg.inference.inputs import InputImage
from simclrseg.inference.outputs import class_colours
from simclrseg.inference.predictor import SMALLEST_TILE, Predictor
from simclrseg.inference.session import Model
from simclrseg.inference.tiling import to_mask
from simclrseg.metadata import LARGEST_SIDE, ModelMetadata


@dataclass(frozen=True)
class Prediction:
    """The prediction of a segmentation model for an image of H x W pixels.

    Attributes:
        image: (H, W, bands), upright.
        mask: (H, W) uint8 class ids.
        probability: float32 in [0, 1], (H, W) of the foreground or (C, H, W) of each class.
        blank: (H, W), True where the image holds nothing, as a satellite's beyond its path; None where it is whole.
    """

    image: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    probability: np.ndarray = field(repr=False)
    metadata: ModelMetadata = field(repr=False)
    blank: np.ndarray | None = field(default=None, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by id."""
        return self.metadata.classes

    def overlay(self) -> Image.Image:
        """The image under the colours of its classes; the first class, the background, stays bare.

        Raises:
            UsageError: if the image has no colours to show.
        """
        if not (colours := colour_bands(self.metadata.bands)):
            bands = ", ".join(self.metadata.bands)
            raise UsageError(f"an overlay shows red, green and blue, not {bands}", option="outputs")
        shown = viewable(self.image, colours, blank=self.blank)
        return Image.fromarray(overlay(shown, self.mask, class_colours(self.metadata)))


@dataclass(frozen=True)
class Classified:
    """The prediction of a classifier for an image: the likeliest class, its probability, and that of each class."""

    label: str
    score: float
    scores: dict[str, float]


class LoadedModel:
    """An exported model that is asked from Python, as ``open_model`` gives it."""

    def __init__(self, model: Model) -> None:
        self.metadata = model.metadata
        self._model = model

    def __repr__(self) -> str:
        return f"LoadedModel({str(self._model.path)!r}, {self.metadata.task}, {self._model.device})"

    def predict(
        self,
        image: str | os.PathLike[str] | Image.Image | np.ndarray,
        *,
        threshold: float | None = None,
        **options: Any,
    ) -> Prediction | Classified:
        """Segment or classify an image.

        Args:
            image: a file, a PIL image, or (H, W, 3) uint8 RGB; for models of other bands (H, W, bands) as stored.
            threshold: probability above which a pixel is foreground, in (0, 1); by default the model's own.
            options: ``tile``, ``overlap`` and ``flips`` of ``Predictor``.

        Raises:
            UsageError: for what cannot be, or means nothing for this model.
            ImageError: if the image cannot be read.
        """
        predictor = Predictor(
            self._model, threshold=self.metadata.threshold if threshold is None else threshold, **options
        )
        self._check(predictor, threshold)
        picture = self._picture(predictor, image)
        if self._model.classifies:
            return Classified(**predictor.classify([picture.pixels])[0])
        (found,) = predictor.predict([picture.pixels])
        probability = np.concatenate([rows for _, rows in found], axis=-2)
        mask = to_mask(probability, predictor.threshold)
        if picture.blank is not None:
            mask[picture.blank] = 0
        return Prediction(picture.pixels, mask, probability, self.metadata, picture.blank)

    def _check(self, predictor: Predictor, threshold: Any) -> None:
        """Refuse what the command refuses, too."""
        path = self._model.path
        tile: Any = predictor.tile  # whatever a program gave
        overlap: Any = predictor.overlap
        if threshold is not None and self.metadata.threshold is None:
            reason = f"{path} gives a probability a class and takes the likeliest"
            raise UsageError(reason, "leave threshold out", option="threshold", value=threshold)
        if threshold is not None and not (isinstance(threshold, Real) and 0 < float(threshold) < 1):
            raise UsageError(f"threshold is {threshold!r}", "pass a number with 0 < x < 1", option="threshold")
        if not (isinstance(overlap, Real) and 0 <= float(overlap) < 1):
            raise UsageError(f"overlap is {overlap!r}", "pass a number with 0 <= x < 1", option="overlap")
        if predictor.overlaps_nothing:
            remedy = "leave overlap out" if self._model.classifies else "pass tile too, or leave overlap out"
            reason = f"overlap is {overlap}, which is of tiles, and {path} sees each image whole"
            raise UsageError(reason, remedy, option="overlap", value=overlap)
        if tile is not None and self._model.classifies:
            raise UsageError(f"{path} gives labels, not masks", "leave tile out", option="tile", value=tile)
        if tile is not None and not (isinstance(tile, Integral) and SMALLEST_TILE <= int(tile) <= LARGEST_SIDE):
            remedy = f"pass a whole number from {SMALLEST_TILE} to {LARGEST_SIDE:,}"
            raise UsageError(f"tile is {tile!r}", remedy, option="tile", value=tile)
        if predictor.tile_side is not None and predictor.other_shape is not None:
            height, width = predictor.other_shape
            whose = f"tiles are of {predictor.tile_side} pixels, as in training" if tile is None else f"tile is {tile}"
            other = "export it without --fixed-shape" if self.metadata.resize == "tile" else "leave tile out"
            remedy = f"pass tile={height}" if height == width else other
            raise UsageError(f"{whose}, and {path} takes {height} x {width} only", remedy, option="tile", value=tile)

    def _picture(self, predictor: Predictor, image: Any) -> Picture:
        if isinstance(image, str | os.PathLike):
            path = Path(image)
            return predictor.read(InputImage(path, Path(path.name)))
        bands, dtype = self.metadata.in_channels, self._model.dtype
        if not isinstance(image, np.ndarray | Image.Image):
            reason = f"an object of type {type(image).__name__} is no image"
            raise UsageError(reason, f"pass its path, a PIL image or (H, W, {bands}) {dtype}", option="image")
        if not isinstance(image, np.ndarray):
            if not self.metadata.takes_photos:
                reason = f"a PIL image has no bands but red, green and blue, and {self._model.path} takes {bands} of "
                reason += f"{8 * dtype.itemsize} bits ({', '.join(self.metadata.bands)})"
                raise UsageError(reason, f"pass its file, or (H, W, {bands}) {dtype}", option="image")
            if image.mode.startswith(("I", "F")):  # which Pillow cuts off at 255
                reason = f"a PIL image of mode {image.mode} has no 8 bits"
                raise UsageError(reason, "pass its file, or scale it to 8 bits", option="image")
            upright = ImageOps.exif_transpose(image)  # and in colours, as its file would be read
            return Picture(srgb_pixels(partial(cut, upright), upright.size, over_white=not hides_all(upright)))
        if image.ndim != 3 or not image.size or image.shape[2] != bands or image.dtype != dtype:
            reason = f"an array {image.shape} of {image.dtype} is no image"
            raise UsageError(reason, f"pass (H, W, {bands}) {dtype}", option="image")
        top = self.metadata.full_scale
        return Picture(image.clip(max=top) if top < np.iinfo(dtype).max else image)  # as its file, and in training
