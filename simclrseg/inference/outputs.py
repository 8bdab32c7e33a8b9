"""Outputs for an image: masks, overlays, cut-outs, probabilities, objects. Never imports torch.

Each output is a class in the table OUTPUTS. It is given a file, then the picture in strips of whole rows from top to
bottom, then it ends the file: large pictures need no second copy in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from simclrseg.images.colours import overlay
from simclrseg.images.geography import Geography
from simclrseg.images.matting import cut_out
from simclrseg.inference.png import PngWriter
from simclrseg.labels.classes import BINARY, Colour
from simclrseg.labels.coco import coco_annotations
from simclrseg.labels.labelme import labelme_shapes
from simclrseg.labels.rle import encode_rle
from simclrseg.labels.yolo import CLASSES_FILE, yolo_lines
from simclrseg.metadata import ModelMetadata, voc_colours
from simclrseg.text import encodable, printable


@dataclass(frozen=True)
class Strip:
    """Whole rows of a picture and what the model says of them."""

    top: int  # number of rows above
    image: np.ndarray  # (h, W, bands)
    probability: np.ndarray  # (h, W) of the foreground, or (C, h, W) of each class, float32 in [0, 1]
    mask: np.ndarray  # (h, W) uint8, class ids; the first where nothing is known
    blank: np.ndarray | None = None  # (h, W), True where the picture holds nothing
    opacity: np.ndarray | None = None  # (h, W) uint8, of a picture that was laid over white


@dataclass(frozen=True)
class Subject:
    """An image with its prediction, of which outputs are made."""

    name: str  # of its file, with the folders below the one that was given
    size: tuple[int, int]  # (height, width), as written
    metadata: ModelMetadata  # the model's
    source: Path | None = None  # its file; None for stdin
    target: Path | None = None  # the file to write; None for stdout
    geography: Geography | None = None  # where its pixels lie
    holed: bool = False  # some of its pixels hold nothing, or may
    threshold: float | None = None  # above which a pixel is foreground; None where the likeliest class is taken
    scale: float = 1.0  # pixels of the picture beside one of those that the model has seen

    @property
    def classes(self) -> tuple[str, ...]:
        return class_names(self.metadata)


class Output:
    """One file of one picture: a PNG, unless a class has its own ``begin``, ``add`` and ``end``."""

    in_colour: ClassVar[bool] = False
    """True where it shows the picture, which must have the three bands of a photo then."""
    suffixes: ClassVar[tuple[str, ...]] = (".png",)
    """All that its files may have; what is typed with one of them is a file."""
    stands_for: ClassVar[str] = ""
    """The output of which it is another form: it is written where a file is named by any of its suffixes."""
    has_place: ClassVar[bool] = False
    """True where it says where the picture lies on the earth."""
    named_as_image: ClassVar[bool] = False
    """True where labelling tools find the file by the name of its image."""
    joint: ClassVar[str] = ""
    """The name of a single file for all images, which ``joined`` makes of their files."""
    bands: ClassVar[int] = 1
    bits: ClassVar[int] = 8

    @classmethod
    def ending(cls, metadata: ModelMetadata) -> str:
        """The suffix of its files for a model."""
        return cls.suffixes[0]

    @classmethod
    def index(cls, metadata: ModelMetadata) -> tuple[str, str] | None:
        """Name and content of a file that the files of all images need beside them."""
        return None

    @classmethod
    def lacks(cls, geography: Geography | None) -> str:
        """Say what a file that says where its picture lies cannot say of this one; empty where it is whole."""
        return ""

    @classmethod
    def joined(cls, files: Iterable[bytes], metadata: ModelMetadata) -> str:
        """The single file for all images."""
        raise NotImplementedError

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
    """The picture, transparent where the mask is class 0, with soft edges, and where it is itself."""

    in_colour = True
    bands = 4

    def begin(self) -> None:
        super().begin()
        self._images: list[tuple[int, np.ndarray]] = []  # parts of one that is in memory all the time
        self._likely = np.empty(self.subject.size, np.uint8)
        self._opacity: dict[int, np.ndarray] = {}  # parts of the picture's own, by their first row

    def add(self, strip: Strip) -> None:
        rows = slice(strip.top, strip.top + len(strip.mask))
        self._images.append((strip.top, strip.image))
        likely = (255 * _above(strip.probability, self.subject.threshold) + 0.5).astype(np.uint8)
        self._likely[rows] = np.where(strip.mask > 0, likely.clip(128), likely.clip(max=127))
        if strip.opacity is not None:
            self._opacity[strip.top] = strip.opacity
        if strip.blank is not None:
            self._likely[rows][strip.blank] = 0
            self._opacity[strip.top] = np.where(strip.blank, 0, 255 if strip.opacity is None else strip.opacity)

    def end(self) -> None:
        top = 0
        for rows in cut_out(self._rows, self._likely, self.subject.scale):
            for start, opacity in self._opacity.items():
                first, last = max(top, start), min(top + len(rows), start + len(opacity))
                if first < last:
                    part = rows[first - top : last - top]
                    part[:] = _thinned(part, opacity[first - start : last - start])
            self._png.write(rows)
            top += len(rows)
        super().end()

    def _rows(self, start: int, stop: int) -> np.ndarray:
        """Rows of the picture."""
        parts = [image[max(0, start - top) : max(0, stop - top)] for top, image in self._images if top < stop]
        return np.concatenate(parts)


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


class Uncertainty(Output):
    """C / (C - 1) times 1 less the likeliest of C classes' probability, times 65,535: black is sure, white a draw."""

    bits = 16

    def rows(self, strip: Strip) -> np.ndarray:
        classes = 2 if strip.probability.ndim == 2 else len(strip.probability)
        unsure = (1 - likeliest(strip.probability)) * classes / (classes - 1)
        return (unsure.clip(0, 1) * 65535 + 0.5).astype("<u2")


class Objects(Output):
    """What is found in the whole mask, as text that ``text`` gives."""

    suffixes = (".json",)

    def begin(self) -> None:
        self._mask = np.empty(self.subject.size, np.uint8)

    def add(self, strip: Strip) -> None:
        self._mask[strip.top : strip.top + len(strip.mask)] = strip.mask

    def end(self) -> None:
        self.file.write(self.text(self._mask).encode())

    @property
    def labels(self) -> range:
        """Ids of the classes but the first, which is the background."""
        return range(1, len(self.subject.classes))

    def text(self, mask: np.ndarray) -> str:
        raise NotImplementedError


class Json(Objects):
    """COCO's annotations: each class that occurs with its area, box and run lengths; of two classes the second."""

    def text(self, mask: np.ndarray) -> str:
        height, width = self.subject.size
        classes = self.subject.metadata.classes
        names = [*map(encodable, classes), *map(str, range(len(classes), 2))]
        annotations = [
            {"category_id": label, "category": names[label], **_shape(where)}
            for label in range(1 if len(classes) <= 2 else 0, max(2, len(classes)))
            if (where := mask == label).any()
        ]
        name = encodable(Path(self.subject.name).name)
        return json.dumps({"image": name, "width": width, "height": height, "annotations": annotations}) + "\n"


class Coco(Objects):
    """COCO's JSON for all images: a polygon for each connected object, run lengths for those with holes."""

    joint = "annotations.coco.json"

    def text(self, mask: np.ndarray) -> str:
        height, width = self.subject.size
        name, source, target = self.subject.name, self.subject.source, self.subject.target
        if source and target and source.absolute().is_relative_to(target.parent.absolute()):
            name = source.absolute().relative_to(target.parent.absolute()).as_posix()
        about = {"file_name": encodable(name), "height": height, "width": width}
        return json.dumps([about, coco_annotations(mask, self.labels)])

    @classmethod
    def joined(cls, files: Iterable[bytes], metadata: ModelMetadata) -> str:
        names = enumerate(class_names(metadata)[1:], 1)
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for number, (image, objects) in enumerate(map(json.loads, files), 1):
            content["images"].append({"id": number, **image})
            for one in objects:
                content["annotations"].append({"id": len(content["annotations"]) + 1, "image_id": number, **one})
        categories = [{"id": label, "name": name, "supercategory": ""} for label, name in names]
        return json.dumps({**content, "categories": categories}) + "\n"


class Yolo(Objects):
    """A line of a class and a polygon for each connected object; the class after the background is number 0."""

    suffixes = (".txt",)
    named_as_image = True

    @classmethod
    def index(cls, metadata: ModelMetadata) -> tuple[str, str]:
        return CLASSES_FILE, "".join(f"{printable(name)}\n" for name in class_names(metadata)[1:])

    def text(self, mask: np.ndarray) -> str:
        return "".join(f"{line}\n" for line in yolo_lines(mask, self.labels))


class LabelMe(Objects):
    """LabelMe's JSON: a polygon for each connected object."""

    named_as_image = True

    def text(self, mask: np.ndarray) -> str:
        height, width = self.subject.size
        name, source, target = Path(self.subject.name).name, self.subject.source, self.subject.target
        if source and target:
            apart = os.path.splitdrive(os.path.abspath(source))[0] != os.path.splitdrive(os.path.abspath(target))[0]
            name = Path(os.path.abspath(source) if apart else os.path.relpath(source, target.parent)).as_posix()
        shapes = labelme_shapes(mask, self.labels, self.subject.classes)
        about = {"imagePath": encodable(name), "imageData": None, "imageHeight": height, "imageWidth": width}
        return json.dumps({"version": "5.4.1", "flags": {}, "shapes": shapes, **about}, indent=1) + "\n"


def _shape(where: np.ndarray) -> dict[str, object]:
    """Area, box and run lengths of what is True in (H, W)."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "area": int(np.count_nonzero(where)),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "segmentation": {"size": list(where.shape), "counts": encode_rle(where)},
    }


def _thinned(shown: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Pixels (h, W, 4) of a picture that lies over white, in its own colours and with its own opacity (h, W) too."""
    part = np.where(opacity, opacity, 255)[:, :, None] / np.float32(255)
    colours = (shown[:, :, :3] - 255 * (1 - part)) / part
    alpha = shown[:, :, 3] * (opacity / np.float32(255))
    return np.asarray(np.dstack([colours, alpha]) + 0.5).clip(0, 255).astype(np.uint8)


def _above(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """(H, W) from 0, surely class 0, to 1, surely not; where the mask has its edge it is 1/2."""
    if probability.ndim == 3:
        others = probability[1:].max(axis=0)
        return np.asarray(others / (others + probability[0]))
    at = 0.5 if threshold is None else threshold
    yes, no = probability * (1 - at), (1 - probability) * at
    return np.asarray(yes / (yes + no))


def likeliest(probability: np.ndarray) -> np.ndarray:
    """(H, W) probability of the likeliest class, given that of the foreground (H, W) or of each class (C, H, W)."""
    each = probability if probability.ndim == 3 else np.stack([1 - probability, probability])
    return np.asarray(each.max(axis=0))


def class_names(metadata: ModelMetadata) -> tuple[str, ...]:
    """A name a class, as files can hold it."""
    return tuple(map(encodable, metadata.classes or BINARY))


def class_colours(metadata: ModelMetadata) -> list[Colour]:
    """A colour a class: the model's own, else those of Pascal VOC, which begin with black."""
    return list(metadata.colours or voc_colours(max(2, len(metadata.classes))))
