"""Datasets: photos by index, with masks and labels where they have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, ImageError
from simclrseg.images.decode import Mask, Pixels, read_bands, read_image, read_mask
from simclrseg.labels.classes import Classes, Colour
from simclrseg.metadata import RGB, voc_colours

UNLABELLED = -1
"""The label of a photo that has none, in a set where others have one."""

_HEAD = 1 << 16  # bytes: enough to tell photos apart, and quick to read

Border = Literal["pet", "background", "ignore", "class"]


@dataclass(frozen=True)
class DatasetOptions:
    """Options of any dataset.

    Args:
        border: what the border of Oxford's trimaps counts as; ``class`` makes it a third one.
        classes: names (and colours) of a folder's mask classes, where they are known.
        masks: False leaves a folder's masks unread, as pretraining does.
        class_count: how many classes a folder's masks hold, where nothing names them; None to find out.
        image_column, label_column, mask_column: of a set of the Hub, where its types do not tell.
    """

    border: Border = "pet"
    classes: Classes | None = None
    masks: bool = True
    class_count: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    mask_column: str | None = None


class Dataset:
    """Photos by index; a subclass says where they come from.

    Attributes:
        name: what runs and reports call it.
        keys: a stable name of each photo, unique in the set: its relative path with ``/``.
        classes: names of the mask classes, by id; empty where there are no masks.
        colours: an RGB colour for each of them.
        bands: what each channel of a picture is: red, green and blue of a photo, or others by their names, among which
            colours are found as "red", "green" and "blue".
        full_scale: the stored value that is 1.0: 255 for 8-bit pictures; those of 16 bits have their own.
        labels: (N,) int64 class of each photo, -1 where it has none; None where no photo has one.
        label_names: their names, by id.
        official: published lists of indices, among "train", "validation", "test" and "trainval".
        border: the border rule in force; None where it has no meaning.
        chosen: classes that a user chose of those that the masks hold; empty where that is all of them.
        summary: lines that say what was found, left out, and why.
    """

    def __init__(
        self,
        name: str,
        keys: Sequence[str],
        *,
        classes: Sequence[str] = (),
        colours: Sequence[Colour] = (),
        labels: NDArray[np.int64] | None = None,
        label_names: Sequence[str] = (),
        official: Mapping[str, Sequence[int]] | None = None,
        border: Border | None = None,
        chosen: Sequence[str] = (),
        summary: Sequence[str] = (),
        bands: Sequence[str] = RGB,
        full_scale: int = 255,
    ) -> None:
        self.name = name
        self.keys = tuple(keys)
        self.classes = tuple(classes)
        self.colours = tuple(colours) or voc_colours(len(self.classes))
        self.labels = labels
        self.label_names = tuple(label_names)
        self.official = {split: tuple(indices) for split, indices in (official or {}).items()}
        self.border = border
        self.chosen = tuple(chosen)
        self.summary = list(summary)
        self.bands = tuple(bands)
        self.full_scale = full_scale

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dtype(self) -> type[np.generic]:
        """Type of the pixels: uint8, or uint16 where a byte is too small for them."""
        return pixel_type(self.full_scale)

    @property
    def has_masks(self) -> bool:
        return bool(self.classes)

    def has_mask(self, index: int) -> bool:
        return self.has_masks

    def image(self, index: int) -> Pixels:
        """(H, W, bands) of ``dtype``: RGB, or what ``bands`` says.

        Raises:
            ImageError: if the picture cannot be read.
        """
        raise NotImplementedError

    def mask(self, index: int) -> Mask:
        """(H, W) uint8 class ids, 255 where ignored.

        Raises:
            DataError: if there is no mask, or it cannot be read.
        """
        raise DataError(f"{self.keys[index]} of {self.name} has no mask")

    def path(self, index: int) -> Path | None:
        """The file of a photo, one of them where it lies in several; None where it lies in no file of its own."""
        return None

    def mask_path(self, index: int) -> Path | None:
        """The file of a mask; None where there is none."""
        return None

    def content(self, index: int) -> bytes:
        """Identity of a photo: its file's size and beginning, or its pixels where it has no file.

        Raises:
            OSError, ImageError: if it cannot be read.
        """
        path = self.path(index)
        if path is None:
            return np.ascontiguousarray(self.image(index)).tobytes()
        with open(path, "rb") as file:
            return b"%d " % os.fstat(file.fileno()).st_size + file.read(_HEAD)


class Derived(Dataset):
    """The photos and masks of another dataset, with all that is known of them; a subclass changes some of it.

    Args:
        details: arguments of ``Dataset`` that differ.
    """

    def __init__(self, dataset: Dataset, **details: Any) -> None:
        same: dict[str, Any] = {
            "classes": dataset.classes,
            "colours": dataset.colours,
            "labels": dataset.labels,
            "label_names": dataset.label_names,
            "official": dataset.official,
            "border": dataset.border,
            "chosen": dataset.chosen,
            "summary": dataset.summary,
            "bands": dataset.bands,
            "full_scale": dataset.full_scale,
        }
        super().__init__(dataset.name, dataset.keys, **(same | details))
        self._dataset = dataset

    def has_mask(self, index: int) -> bool:
        return self._dataset.has_mask(index)

    def image(self, index: int) -> Pixels:
        return self._dataset.image(index)

    def mask(self, index: int) -> Mask:
        return self._dataset.mask(index)

    def path(self, index: int) -> Path | None:
        return self._dataset.path(index)

    def mask_path(self, index: int) -> Path | None:
        return self._dataset.mask_path(index)

    def content(self, index: int) -> bytes:
        return self._dataset.content(index)


class FileDataset(Dataset):
    """Photos, and their masks, that lie in files below one folder.

    Args:
        root: the folder; keys are relative to it.
        photos: their files.
        masks: for each photo its file or None; empty where there are none at all.
        read: a photo's file -> its pixels.
        decode: a mask's file -> its (H, W) class ids.
        details: further arguments of ``Dataset``.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        photos: Sequence[Path],
        *,
        masks: Sequence[Path | None] = (),
        read: Callable[[Path], Pixels] = read_image,
        decode: Callable[[Path], Mask] = read_mask,
        **details: Any,
    ) -> None:
        super().__init__(name, [photo.relative_to(root).as_posix() for photo in photos], **details)
        self._photos = tuple(photos)
        self._masks = tuple(masks) or (None,) * len(self.keys)
        self._read = read
        self._decode = decode

    def has_mask(self, index: int) -> bool:
        return self._masks[index] is not None

    def image(self, index: int) -> Pixels:
        return self._read(self._photos[index])

    def mask(self, index: int) -> Mask:
        file = self._masks[index]
        return super().mask(index) if file is None else self._decode(file)

    def path(self, index: int) -> Path | None:
        return self._photos[index]

    def mask_path(self, index: int) -> Path | None:
        return self._masks[index]


def read_alike(path: Path, *, bands: int, bits: int, whose: str) -> Pixels:
    """All that a TIFF stores, which has to be as many bands of as many bits as the other pictures have.

    Raises:
        ImageError: if it cannot be read or has others; ``whose`` is what the message calls the right ones.
    """
    samples = read_bands(path)
    if (samples.shape[2], 8 * samples.itemsize) != (bands, bits):
        raise ImageError(
            f"{path}: {samples.shape[2]} bands of {8 * samples.itemsize} bits, but {whose} are {bands} of {bits}",
            path=path,
        )
    return samples


def pixel_type(full_scale: int) -> type[np.generic]:
    """The smallest type that holds values up to ``full_scale``."""
    return np.uint8 if full_scale <= 255 else np.uint16


def colour_bands(bands: Sequence[str]) -> tuple[int, ...]:
    """Where red, green and blue stand among the bands; nothing where one of them is missing."""
    return tuple(bands.index(colour) for colour in RGB) if set(RGB) <= set(bands) else ()


def bands_text(dataset: Dataset) -> str:
    """``3 bands of 8 bits``: what tells pictures apart that cannot be learned from together."""
    return f"{len(dataset.bands)} bands of {8 * np.dtype(dataset.dtype).itemsize} bits"


def size_text(count: float) -> str:
    """A number of bytes: ``1.3 GB`` or ``20 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
