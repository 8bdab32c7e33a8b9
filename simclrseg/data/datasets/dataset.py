"""Datasets: images by index, with masks and labels where they have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.bands import REFLECTANCE, are_named, places_of
from simclrseg.images.decode import Mask, Pixels, read_image, read_scene
from simclrseg.images.depth import Blank, Range
from simclrseg.images.resizing import resize_mask
from simclrseg.images.stored_masks import read_mask
from simclrseg.labels.classes import Classes, Colour
from simclrseg.labels.reading import MaskFiles, Rules
from simclrseg.metadata import IGNORE, RGB, voc_colours

UNLABELLED = -1
"""The label of an image that has none, in a set where others have one."""

_HEAD = 1 << 16  # bytes: enough to tell images apart, and quick to read

Border = Literal["pet", "background", "ignore", "class"]


@dataclass(frozen=True)
class DatasetOptions:
    """Options of any dataset.

    Args:
        border: what the border of Oxford's trimaps counts as; ``class`` makes it a third one.
        classes: names (and colours) of a folder's mask classes, where they are known.
        masks: False leaves a folder's masks unread, as pretraining does.
        class_count: how many classes a folder's masks hold, where nothing names them; None to find out.
        mask_rules: what is said of the masks' values, in the words of ``RULES``; else it is found out.
        mask_folder: the name of the folder that holds a folder's masks, where it is given.
        image_column, label_column, mask_column: of a set of the Hub, where its types do not tell.
        reach: the values that become 0 and 255 in photos of more than 8 bits, as a model has them; None to find out.
        of_model: True where classes and rules are those of a model: labels that have no use for them leave them aside.
        settled: True where masks were trained on already: of several folders that fit, the likeliest holds them.
        labels: True where a folder's own folders are its classes, none of which is left out for its name.
        bands: those to take, by name and in that order; of files whose bands have no names, the names of all.
        model_bands: those of a model that the images are for, which are taken so where all are there.
    """

    border: Border = "pet"
    classes: Classes | None = None
    masks: bool = True
    class_count: int | None = None
    mask_rules: Rules = field(default_factory=dict)
    mask_folder: str = ""
    image_column: str | None = None
    label_column: str | None = None
    mask_column: str | None = None
    reach: Range | None = None
    of_model: bool = False
    settled: bool = False
    labels: bool = False
    bands: tuple[str, ...] = ()
    model_bands: tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class Dataset:
    """Images by index; a subclass says where they come from."""

    name: str
    keys: Sequence[str]
    """A stable name of each image, unique in the set: its relative path with ``/``."""
    _: KW_ONLY
    classes: tuple[str, ...] = ()
    """Names of the mask classes, by id; empty where there are no masks."""
    colours: tuple[Colour, ...] = ()
    """An RGB colour for each of them."""
    labels: NDArray[np.int64] | None = None
    """(N,) class of each image, -1 where it has none; None where no image has one."""
    label_names: tuple[str, ...] = ()
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Published lists of indices, among "train", "validation", "test" and "trainval"."""
    border: Border | None = None
    """The border rule in force; None where it has no meaning."""
    chosen: tuple[str, ...] = ()
    """Classes that a user chose of those that the masks hold; empty where that is all of them."""
    mask_reading: str = ""
    """How masks are read, where that is not found in their files alone: by the rules that a user gave."""
    twins: Sequence[tuple[int, ...]] = ()
    """Images that show the same photo, which a split keeps together."""
    summary: Sequence[str] = ()
    """Lines that say what was found, left out, and why."""
    bands: tuple[str, ...] = RGB
    """Red, green and blue of an image, or others by their names, colours among them as "red", "green" and "blue"."""
    image_reading: str = ""
    """Which bands of the files these are, where they are a choice: other names of the files' bands change it."""
    full_scale: int = 255
    """The stored value that is 1.0: 255 for 8-bit pictures; those of 16 bits have their own."""
    reach: Range | None = None
    """The values that become 0 and 255 where photos of more than 8 bits are among the images; None where none are,
    or several ranges."""

    def __post_init__(self) -> None:
        self.keys = tuple(self.keys)
        self.classes = tuple(self.classes)
        self.colours = tuple(self.colours) or voc_colours(len(self.classes))
        self.label_names = tuple(self.label_names)
        self.official = {split: tuple(dict.fromkeys(indices)) for split, indices in self.official.items()}
        refuse_shared(self.official, self.keys, self.name)
        self.bands = tuple(self.bands)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dtype(self) -> type[np.generic]:
        """Type of the pixels: uint8, or uint16 where a byte is too small for them."""
        return np.uint8 if self.full_scale <= 255 else np.uint16

    @property
    def has_masks(self) -> bool:
        return bool(self.classes)

    def has_mask(self, index: int) -> bool:
        return self.has_masks

    def image(self, index: int) -> Pixels:
        """Read an image: (H, W, bands) of ``dtype``. An ImageError names one that cannot be read."""
        raise NotImplementedError

    def mask(self, index: int) -> Mask:
        """Read a mask: (H, W) class ids, 255 where ignored. A DataError names one that cannot be read."""
        raise DataError(f"{self.keys[index]} of {self.name} has no mask")

    def image_shape(self, index: int) -> tuple[int, int]:
        """Height and width of an image that can be read."""
        height, width = self.image(index).shape[:2]
        return height, width

    def mask_shape(self, index: int) -> tuple[int, int]:
        """Height and width of a mask that can be read."""
        height, width = self.mask(index).shape
        return height, width

    def image_rows(self, index: int, top: int, bottom: int) -> Pixels:
        """Some rows of an image, the last not included; a store in front of the dataset reads no others."""
        return self.image(index)[top:bottom].copy()  # a part of it would keep the whole in memory

    def mask_rows(self, index: int, top: int, bottom: int) -> Mask:
        """Some rows of a mask, likewise."""
        return self.mask(index)[top:bottom].copy()

    @property
    def has_blanks(self) -> bool:
        """Tell whether there may be images that hold nothing in places."""
        return False

    def blank(self, index: int) -> Blank | None:
        """Where an image holds nothing, (H, W), as a satellite's beyond its path; None where it is whole."""
        return None

    def path(self, index: int) -> Path | None:
        """The file of an image, one of them where it lies in several; None where it lies in no file of its own."""
        return None

    def mask_path(self, index: int) -> Path | None:
        """The file of a mask; None where there is none, or it is made of several."""
        return None

    def origin(self, index: int) -> tuple[Dataset, int]:
        """The dataset that an image was taken from, where several are joined, and its index there."""
        return self, index

    def content(self, index: int) -> bytes:
        """Identity of an image: its file's size and beginning, or its pixels where it has no file."""
        path = self.path(index)
        if path is None:
            return np.ascontiguousarray(self.image(index)).tobytes()
        with open(path, "rb") as file:
            return b"%d " % os.fstat(file.fileno()).st_size + file.read(_HEAD)


@dataclass(frozen=True)
class ImageRows:
    """An image of a dataset, of which a store in front of it reads no more rows than are asked for."""

    dataset: Dataset
    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.dataset.image_shape(self.index), len(self.dataset.bands))

    def __getitem__(self, rows: slice) -> Pixels:
        return self.dataset.image_rows(self.index, rows.start or 0, rows.stop)


def refuse_shared(official: Mapping[str, Sequence[int]], names: Sequence[str], where: Path | str) -> None:
    """Raise a DataError that names images of which two lists say that they are in parts that have nothing in common.

    Args:
        names: of all images.
        where: what the message begins with.
    """
    for first, second in (("train", "test"), ("trainval", "test"), ("validation", "test"), ("train", "validation")):
        if both := sorted(set(official.get(first, ())) & set(official.get(second, ()))):
            reason = f"{where}: {some([names[index] for index in both])} in the lists of both {first} and {second}"
            raise DataError(reason, "take each out of one of them", path=where if isinstance(where, Path) else None)


class FileDataset(Dataset):
    """Images, and their masks, that lie in files below one folder.

    Args:
        root: the folder; keys are relative to it.
        masks: for each image its file, or those of its parts, or None; empty where there are none at all.
        read: an image's file -> its pixels.
        decode: what ``masks`` has for an image -> its (H, W) class ids.
        blank: an image's file -> where it holds nothing, which its mask ignores; None where no image has such pixels.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        images: Sequence[Path],
        *,
        masks: Sequence[MaskFiles | None] = (),
        read: Callable[[Path], Pixels] = read_image,
        decode: Callable[[Any], Mask] = read_mask,
        blank: Callable[[Path], Blank | None] | None = None,
        **details: Any,
    ) -> None:
        if blank is not None:
            details["mask_reading"] = f"{details.get('mask_reading', '')} but for pixels that hold nothing".strip()
        super().__init__(name, [image.relative_to(root).as_posix() for image in images], **details)
        self._images = tuple(images)
        self._masks = tuple(masks) or (None,) * len(self.keys)
        self._read = read
        self._decode = decode
        self._blank = blank

    def has_mask(self, index: int) -> bool:
        return self._masks[index] is not None

    def image(self, index: int) -> Pixels:
        return self._read(self._images[index])

    def mask(self, index: int) -> Mask:
        file = self._masks[index]
        return super().mask(index) if file is None else self.ignoring(self._decode(file), index)

    @property
    def has_blanks(self) -> bool:
        return self._blank is not None

    def blank(self, index: int) -> Blank | None:
        return None if self._blank is None else self._blank(self._images[index])

    def ignoring(self, mask: Mask, index: int) -> Mask:
        """The mask of an image, 255 where that holds nothing."""
        with suppress(ImageError):  # an image that cannot be read is named where it is used
            if (blank := self.blank(index)) is not None:
                if blank.shape != mask.shape:
                    blank = resize_mask(blank.view(np.uint8), mask.shape[:2]).view(bool)
                mask = np.where(blank, np.uint8(IGNORE), mask)
        return mask

    def path(self, index: int) -> Path | None:
        return self._images[index]

    def mask_path(self, index: int) -> Path | None:
        files = self._masks[index]
        return files if isinstance(files, Path) else None


def read_alike(
    path: Path, *, bands: int, bits: int, whose: str, names: Sequence[str] = (), reach: Range | None = None
) -> Pixels:
    """All that a TIFF stores, which has to be as many bands of as many bits as the other pictures have.

    Args:
        whose: what the message calls the right ones.
        names: of the bands, where files may have them in another order, or more of them.
        reach: the range of floating-point numbers.
    """
    scene = read_scene(path, reach=reach)
    samples = scene.pixels
    if names and are_named(scene.bands) and (places := places_of(names, scene.bands)) not in (None, [*range(bands)]):
        samples = np.ascontiguousarray(samples[:, :, places])
    if reach is not None:
        samples = samples.clip(max=REFLECTANCE)
    if (samples.shape[2], 8 * samples.itemsize) != (bands, bits):
        raise ImageError(
            f"{path}: {samples.shape[2]} bands of {8 * samples.itemsize} bits, but {whose} are {bands} of {bits}",
            path=path,
        )
    return samples


def is_photos(dataset: Dataset) -> bool:
    """Tell whether a dataset's images are of the kind that published weights have seen: three colours of 8 bits."""
    return (dataset.bands, dataset.full_scale) == (RGB, 255)


def size_text(count: float) -> str:
    """A number of bytes: ``1.3 GB`` or ``20 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
