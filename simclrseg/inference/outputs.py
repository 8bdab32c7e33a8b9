"""Outputs for an image: masks, overlays, cut-outs, probabilities, run lengths. Never imports torch.

Each output is a class in the table OUTPUTS. It is given a file, then the picture in strips of whole rows from top to
bottom, then it ends the file: large pictures need no second copy in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import numpy as np

from simclrseg.images.colours import overlay
from simclrseg.inference.png import PngWriter
from simclrseg.labels.classes import Colour
from simclrseg.labels.rle import encode_rle
from simclrseg.metadata import ModelMetadata, voc_colours


@dataclass(frozen=True)
class Strip:
    """Whole rows of a picture and what the model says of them."""

    top: int  # number of rows above
    image: np.ndarray  # (h, W, bands)
    probability: np.ndarray  # (h, W) of the foreground, or (C, h, W) of each class, float32 in [0, 1]
    mask: np.ndarray  # (h, W) uint8, class ids


@dataclass(frozen=True)
class Subject:
    """An image with its prediction, of which outputs are made."""

    name: str
    size: tuple[int, int]  # (height, width), as written
    metadata: ModelMetadata  # the model's


class Output:
    """One file of one picture: a PNG, unless a class has its own ``begin``, ``add`` and ``end``."""

    in_colour: ClassVar[bool] = False
    """True where it shows the picture, which must have the three bands of a photo then."""
    suffixes: ClassVar[tuple[str, ...]] = (".png",)
    """All that its files may have; what is typed with one of them is a file."""
    bands: ClassVar[int] = 1
    bits: ClassVar[int] = 8

    @classmethod
    def ending(cls, metadata: ModelMetadata) -> str:
        """The suffix of its files for a model."""
        return cls.suffixes[0]

    def __init__(self, file: BinaryIO, subject: Subject) -> None:
        self.file, self.subject = file, subject
        self.begin()

    def begin(self) -> None:
        size, palette = self.subject.size, self.palette()
        self._png = PngWriter(self.file, size, bands=self.bands, bits=self.bits, palette=palette)

    def add(self, strip: Strip) -> None:
        self._png.write(self.rows(strip))

    def end(self) -> None:
        """Write what is left; the file stays open."""
        self._png.end()

    def palette(self) -> Sequence[Colour] | None:
        return None

    def rows(self, strip: Strip) -> np.ndarray:
        """Pixels of the PNG for a strip."""
        raise NotImplementedError


class Mask(Output):
    """0 and 255 for two classes, class ids for more."""

    def rows(self, strip: Strip) -> np.ndarray:
        return strip.mask * np.uint8(255) if len(self.subject.metadata.classes) <= 2 else strip.mask


class Indexed(Output):
    """Class ids as indexes into a palette of the classes' colours."""

    def palette(self) -> Sequence[Colour]:
        return class_colours(self.subject.metadata)

    def rows(self, strip: Strip) -> np.ndarray:
        return strip.mask


class Overlay(Output):
    """The picture, half covered by the colours of the classes; class 0 leaves it as it is."""

    in_colour = True
    bands = 3

    def rows(self, strip: Strip) -> np.ndarray:
        return overlay(strip.image, strip.mask, class_colours(self.subject.metadata))


class Cutout(Output):
    """The picture, transparent where the mask is class 0."""

    in_colour = True
    bands = 4

    def rows(self, strip: Strip) -> np.ndarray:
        return np.dstack([strip.image, np.where(strip.mask > 0, 255, 0).astype(np.uint8)])


class Probability(Output):
    """Probabilities times 65,535: of the foreground as a 16-bit PNG, of each of more than two as (C, H, W) NumPy."""

    suffixes = (".png", ".npy")
    bits = 16
    _start: int | None = None  # of the array's values

    @classmethod
    def ending(cls, metadata: ModelMetadata) -> str:
        return ".png" if len(metadata.classes) <= 2 else ".npy"

    def begin(self) -> None:
        count = len(self.subject.metadata.classes)
        if count <= 2:
            super().begin()
        else:
            header = {"descr": "<u2", "fortran_order": False, "shape": (count, *self.subject.size)}
            np.lib.format.write_array_header_1_0(self.file, header)
            self._start = self.file.tell()

    def rows(self, strip: Strip) -> np.ndarray:
        probability = strip.probability
        if self._start is None and probability.ndim == 3:  # two classes, trained with a probability for each
            probability = probability[1]
        return (probability * 65535 + 0.5).astype("<u2")

    def add(self, strip: Strip) -> None:
        if self._start is None:
            super().add(strip)
            return
        height, width = self.subject.size
        for label, rows in enumerate(self.rows(strip)):
            self.file.seek(self._start + 2 * width * (label * height + strip.top))
            self.file.write(rows.tobytes())

    def end(self) -> None:
        if self._start is None:
            super().end()


class Json(Output):
    """COCO's annotations: each class that occurs with its area, box and run lengths; of two classes the second."""

    suffixes = (".json",)

    def begin(self) -> None:
        self._mask = np.empty(self.subject.size, np.uint8)  # whole, because run lengths go down the columns

    def add(self, strip: Strip) -> None:
        self._mask[strip.top : strip.top + len(strip.mask)] = strip.mask

    def end(self) -> None:
        height, width = self.subject.size
        classes = self.subject.metadata.classes
        annotations = [
            {"category_id": label, "category": classes[label] if label < len(classes) else str(label), **_shape(where)}
            for label in range(1 if len(classes) <= 2 else 0, max(2, len(classes)))
            if (where := self._mask == label).any()
        ]
        content = {"image": self.subject.name, "width": width, "height": height, "annotations": annotations}
        self.file.write((json.dumps(content) + "\n").encode())


def _shape(where: np.ndarray) -> dict[str, object]:
    """Area, box and run lengths of what is True in (H, W)."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "area": int(np.count_nonzero(where)),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "segmentation": {"size": list(where.shape), "counts": encode_rle(where)},
    }


def class_colours(metadata: ModelMetadata) -> list[Colour]:
    """A colour a class: the model's own, else those of Pascal VOC, which begin with black."""
    return list(metadata.colours or voc_colours(max(2, len(metadata.classes))))
