"""Datasets made of others: the same images with some of their mask classes, or several sets as one."""

from __future__ import annotations

import logging
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simclrseg.data.datasets.dataset import UNLABELLED, Dataset
from simclrseg.errors import DataError, UnknownName, UsageError
from simclrseg.images.bands import BANDS_FILE, are_named, places_of
from simclrseg.images.decode import Mask, Pixels
from simclrseg.images.depth import Blank
from simclrseg.labels.classes import Colour
from simclrseg.labels.labelled import BACKGROUND
from simclrseg.metadata import IGNORE
from simclrseg.registry import canonical

log = logging.getLogger(__name__)


class Derived(Dataset):
    """The images and masks of another dataset, with all that is known of them but for ``details`` that differ."""

    def __init__(self, dataset: Dataset, **details: Any) -> None:
        super().__init__(**({one.name: getattr(dataset, one.name) for one in fields(Dataset)} | details))
        self._dataset = dataset

    def has_mask(self, index: int) -> bool:
        return self._dataset.has_mask(index)

    def image(self, index: int) -> Pixels:
        return self._dataset.image(index)

    def mask(self, index: int) -> Mask:
        return self._dataset.mask(index)

    @property
    def has_blanks(self) -> bool:
        return self._dataset.has_blanks

    def blank(self, index: int) -> Blank | None:
        return self._dataset.blank(index)

    def path(self, index: int) -> Path | None:
        return self._dataset.path(index)

    def mask_path(self, index: int) -> Path | None:
        return self._dataset.mask_path(index)

    def content(self, index: int) -> bytes:
        return self._dataset.content(index)


def choose_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same images with masks of ``background`` and the named classes, in the order in which they are named.

    Raises:
        UnknownName: for a name that the dataset does not have.
    """
    names = [canonical(name, (*dataset.classes, BACKGROUND)) for name in names]
    for name in names:
        if name not in (*dataset.classes, BACKGROUND):
            raise UnknownName(f"class of {dataset.name}", name, known=dataset.classes)
    names = [name for name in dict.fromkeys(names) if name != BACKGROUND]
    ids = [dataset.classes.index(name) for name in names]
    ground = dataset.classes.index(BACKGROUND) if BACKGROUND in dataset.classes else None
    classes = (BACKGROUND, *names)
    return _Renumbered(
        dataset,
        {number: place for place, number in enumerate(ids, 1)},
        classes=classes,
        colours=((0, 0, 0) if ground is None else dataset.colours[ground], *(dataset.colours[i] for i in ids)),
        chosen=classes,
        summary=[*dataset.summary, f"chosen of the {len(dataset.classes)} classes: {', '.join(classes)}"],
    )


def in_classes_of(dataset: Dataset, classes: Sequence[str], colours: Sequence[Colour]) -> Dataset:
    """The same images with masks in the ids of these classes, by name; the same dataset where it has others.

    What nobody has drawn is background, whatever the first class is called.
    """
    ids = {BACKGROUND: 0} | {name: number for number, name in enumerate(classes)}
    if dataset.classes == tuple(classes) or not ids.keys() >= set(dataset.classes):
        return dataset
    absent = [name for name in classes[1:] if name not in dataset.classes]
    line = f"classes of the model, by name: {', '.join(classes)}"
    return _Renumbered(
        dataset,
        {number: ids[name] for number, name in enumerate(dataset.classes)},
        classes=tuple(classes),
        colours=tuple(colours),
        summary=[*dataset.summary, line + (f"; of {', '.join(absent)} nothing is here" if absent else "")],
    )


def choose_bands(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same images with the named bands alone, in the order in which they are named.

    Raises:
        UnknownName: for a band that the dataset does not have.
        UsageError: if its bands have no names.
    """
    if (places := places_of(names, dataset.bands)) is None:
        missing = next(name for name in names if name not in dataset.bands)
        if not are_named(dataset.bands):
            raise UsageError(
                f"{dataset.name} has {len(dataset.bands)} bands without names, so that none is known as {missing!r}",
                f"name them all, in their order, in a file {BANDS_FILE} beside the pictures (`bands: [B02, B03]`)",
                option="bands",
            )
        raise UnknownName(f"band of {dataset.name}", missing, known=dataset.bands)
    if tuple(names) == dataset.bands:
        return dataset
    line = f"bands by name: {', '.join(names)} of {', '.join(dataset.bands)}"
    return _Picked(dataset, places, bands=tuple(names), image_reading=f"{places}", summary=[*dataset.summary, line])


class _Picked(Derived):
    """Some of the bands of each image."""

    def __init__(self, dataset: Dataset, places: Sequence[int], **details: Any) -> None:
        super().__init__(dataset, **details)
        self._places = [*places]

    def image(self, index: int) -> Pixels:
        return np.ascontiguousarray(super().image(index)[:, :, self._places])


class BlankMasks(Derived):
    """The images of a dataset with masks of what they hold: 255 where they hold nothing, else 0.

    What is found is kept, packed, for it takes a whole picture to find it.
    """

    _ROWS = 256  # that are packed together

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._packed: dict[int, tuple[tuple[int, int], list[bytes]]] = {}  # shapes and rows; no rows of whole images

    def mask(self, index: int) -> Mask:
        return self.mask_rows(index, 0, self.mask_shape(index)[0])

    def mask_shape(self, index: int) -> tuple[int, int]:
        if index not in self._packed:
            self._packed[index] = self._found(index)  # the same whichever thread finds it
        return self._packed[index][0]

    def mask_rows(self, index: int, top: int, bottom: int) -> Mask:
        width = self.mask_shape(index)[1]
        if not (packed := self._packed[index][1]):
            return np.zeros((bottom - top, width), np.uint8)
        first, last = top // self._ROWS, -(-bottom // self._ROWS)
        bits = np.frombuffer(b"".join(map(zlib.decompress, packed[first:last])), np.uint8).reshape(-1, -(-width // 8))
        start = first * self._ROWS
        return np.unpackbits(bits[top - start : bottom - start], axis=1, count=width) * np.uint8(IGNORE)

    def image_shape(self, index: int) -> tuple[int, int]:
        return self._dataset.image_shape(index)

    def image_rows(self, index: int, top: int, bottom: int) -> Pixels:
        return self._dataset.image_rows(index, top, bottom)

    def _found(self, index: int) -> tuple[tuple[int, int], list[bytes]]:
        blank = self._dataset.blank(index)
        if blank is None:
            return self.image_shape(index), []
        bands = (blank[top : top + self._ROWS] for top in range(0, len(blank), self._ROWS))
        height, width = blank.shape
        return (height, width), [zlib.compress(np.packbits(rows, axis=1).tobytes(), 1) for rows in bands]


class _Renumbered(Derived):
    """Masks with other ids; a class without one counts as background, id 0, and ignored pixels stay ignored."""

    def __init__(self, dataset: Dataset, ids: Mapping[int, int], **details: Any) -> None:
        super().__init__(dataset, **details)
        self._table = np.zeros(256, np.uint8)
        self._table[list(ids)] = list(ids.values())
        self._table[IGNORE] = IGNORE

    def mask(self, index: int) -> Mask:
        return np.asarray(cv2.LUT(super().mask(index), self._table), np.uint8)


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Put datasets one after the other; one alone stays itself.

    A warning names two in which the same values of more than 8 bits are of other brightness: each keeps its own range.

    Raises:
        DataError: if they have different bands.
    """
    first = datasets[0]
    for other in datasets[1:]:
        if (other.bands, other.full_scale) != (first.bands, first.full_scale):
            theirs, ours = (f"{len(of.bands)} bands of {8 * np.dtype(of.dtype).itemsize} bits" for of in (other, first))
            if theirs == ours:
                theirs, ours = (f"{', '.join(of.bands)} up to {of.full_scale:,}" for of in (other, first))
            raise DataError(f"{other.name} has {theirs} and {first.name} {ours}", "pretrain on one of them")
    scaled = [one for one in datasets if one.reach is not None]
    if differing := next((one for one in scaled if one.reach != scaled[0].reach), None):
        theirs, ours = (
            f"values from {of.reach[0]:,g} to {of.reach[1]:,g}" for of in (differing, scaled[0]) if of.reach
        )
        log.warning(
            f"in {differing.name} {theirs} become 0 to 255 and in {scaled[0].name} {ours}: where the same value is as "
            "bright in both, store them in the same range"
        )
    return first if len(datasets) == 1 else _Joined(datasets)


class _Joined(Dataset):
    """The images of several datasets, one set after the other.

    Published lists are joined too. Labels are those of the first part that has any and of the parts that name theirs
    alike; the other images have none. Masks are not kept, nor is a range of values where there are several.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        reaches = {part.reach for part in parts} - {None}
        self._parts = tuple(parts)
        self._starts = (0, *accumulate(len(part) for part in parts))
        names = next((part.label_names for part in parts if part.labels is not None), ())
        labels = [
            part.labels if part.labels is not None and part.label_names == names else np.full(len(part), UNLABELLED)
            for part in parts
        ]
        official: dict[str, list[int]] = {}
        for start, part in zip(self._starts, parts, strict=False):
            for split, indices in part.official.items():
                official.setdefault(split, []).extend(start + index for index in indices)
        super().__init__(
            "+".join(part.name for part in parts),
            [f"{number}/{part.name}/{key}" for number, part in enumerate(parts) for key in part.keys],
            labels=np.concatenate(labels) if names else None,
            label_names=names,
            official=official,
            bands=parts[0].bands,
            full_scale=parts[0].full_scale,
            image_reading="; ".join(part.image_reading for part in parts),
            reach=next(iter(reaches)) if len(reaches) == 1 else None,
        )

    def image(self, index: int) -> Pixels:
        part, inner = self._at(index)
        return part.image(inner)

    @property
    def has_blanks(self) -> bool:
        return any(part.has_blanks for part in self._parts)

    def blank(self, index: int) -> Blank | None:
        part, inner = self._at(index)
        return part.blank(inner)

    def content(self, index: int) -> bytes:
        part, inner = self._at(index)
        return part.content(inner)

    def path(self, index: int) -> Path | None:
        part, inner = self._at(index)
        return part.path(inner)

    def origin(self, index: int) -> tuple[Dataset, int]:
        return self._at(index)

    def _at(self, index: int) -> tuple[Dataset, int]:
        number = bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]
