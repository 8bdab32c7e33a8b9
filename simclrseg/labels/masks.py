"""Masks of a folder: which belongs to which photo, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.decode import Mask, image_shape, read_mask
from simclrseg.labels.classes import BINARY, MAX_CLASSES, Classes, Colour, numbered_classes
from simclrseg.metadata import IGNORE, voc_colours
from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads

_UNKNOWN = MAX_CLASSES  # what a colour that no class has becomes
_MOST_UNNAMED = 64  # more values than this are a soft or lossy mask rather than classes without a name


@dataclass(frozen=True)
class MaskReading:
    """The content of the masks of a set.

    Attributes:
        classes: their names, by id.
        colours: an RGB colour for each.
        decode: mask file -> (H, W) class ids, 255 where ignored.
        line: the same for the user.
    """

    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    decode: Callable[[Path], Mask]
    line: str


@dataclass(frozen=True)
class _Scan:
    """One mask, once looked at: its values, or why it cannot be used."""

    values: frozenset[int] = frozenset()
    coloured: bool = False
    problem: str = ""


def pair_masks(
    photos: Sequence[Path], masks: Sequence[Path], *, images: Path, into: Path, unreadable: Collection[Path] = ()
) -> list[Path | None]:
    """The mask of each photo: the same relative path but for the suffix, or with ``_mask`` at its end.

    Args:
        photos: files below ``images``.
        masks: files below ``into``.
        unreadable: what is left out below ``images``; its masks are left out too.

    Raises:
        DataError: for masks without a photo, and where it is not clear which belongs to which.
    """
    by_name: dict[str, list[int]] = {}
    for index, photo in enumerate(photos):
        by_name.setdefault(photo.relative_to(images).with_suffix("").as_posix(), []).append(index)
    left_out = [path.relative_to(images) for path in unreadable]
    without_photo = {path.with_suffix("").as_posix() for path in left_out}
    paired: list[Path | None] = [None] * len(photos)
    lost = []
    for mask in masks:
        name = mask.relative_to(into).with_suffix("").as_posix()
        indices = by_name.get(name) or by_name.get(name.removesuffix("_mask"), [])
        if not indices:
            below = mask.relative_to(into)
            if without_photo.isdisjoint((name, name.removesuffix("_mask"))) and not {*left_out} & {*below.parents}:
                lost.append(below.as_posix())
        elif len(indices) > 1:
            raise DataError(
                f"{mask} fits {photos[indices[0]].name} and {photos[indices[1]].name}", "rename one of them", path=mask
            )
        elif (other := paired[indices[0]]) is not None:
            raise DataError(
                f"{photos[indices[0]]} has two masks, {other.name} and {mask.name}", "keep one", path=photos[indices[0]]
            )
        else:
            paired[indices[0]] = mask
    if lost:
        raise DataError(
            f"{into}: masks without a photo of their name in {images}: {len(lost):,} of {len(masks):,}, {some(lost)}",
            path=into,
        )
    return paired


def mask_details(
    photos: Sequence[Path],
    masks: Sequence[Path | None],
    *,
    classes: Classes | None = None,
    class_count: int | None = None,
) -> tuple[dict[str, Any], str]:
    """Describe masks to a dataset, as arguments of ``FileDataset``, and in a line for its summary.

    Args:
        masks: the mask of each photo, None where it has none.
        classes: names and colours of their classes, where they are known.
        class_count: how many classes they hold, where nothing names them.

    Raises:
        DataError: as ``understand_masks``.
    """
    if classes is None and class_count is not None:
        classes = numbered_classes(class_count)
    pairs = [(photo, mask) for photo, mask in zip(photos, masks, strict=True) if mask is not None]
    reading = understand_masks([photo for photo, _ in pairs], [mask for _, mask in pairs], classes)
    return {"classes": reading.classes, "colours": reading.colours, "decode": reading.decode}, reading.line


def understand_masks(photos: Sequence[Path], masks: Sequence[Path], classes: Classes | None) -> MaskReading:
    """Look at every mask once, and say what its values mean.

    Args:
        photos: the photo of each mask; sizes are compared.
        masks: their files.
        classes: what a classes file says, if there is one.

    Raises:
        DataError: for a mask that cannot be read, of another size than its photo, or with unexpected values.
    """
    table = _colour_table(classes) if classes and classes.colours else None
    pairs = list(zip(photos, masks, strict=True))
    scans = distributed.from_main(lambda: map_in_threads(lambda pair: _scan(*pair, table=table), pairs))
    problems = [scan.problem for scan in scans if scan.problem]
    if problems:
        more = f" (masks that do not fit: {len(problems):,})" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    coloured = [mask for mask, scan in zip(masks, scans, strict=True) if scan.coloured]
    if not coloured:
        return _understand_values(masks, [scan.values for scan in scans], classes)
    if len(coloured) < len(masks):
        other = next(mask for mask, scan in zip(masks, scans, strict=True) if not scan.coloured)
        raise DataError(
            f"{coloured[0]} is an RGB mask but {other} holds class ids", "save all masks in one way", path=coloured[0]
        )
    if classes is None or table is None:
        found = np.unique(read_mask(coloured[0]).reshape(-1, 3), axis=0)
        raise DataError(
            f"{coloured[0]} is an RGB mask ({some([colour.tolist() for colour in found])})",
            "give the colours of the classes in a --classes-file, such as `road: [128, 64, 128]`",
            path=coloured[0],
        )
    line = f"masks: RGB, {len(classes.names)} classes by colour ({some(classes.names)})"
    return MaskReading(classes.names, classes.colours, partial(_decode_colours, table=table), line)


def _scan(photo: Path, mask: Path, *, table: NDArray[np.uint8] | None) -> _Scan:
    try:
        values = read_mask(mask)
    except ImageError as error:
        return _Scan(problem=str(error))
    try:
        shape = image_shape(photo)
    except ImageError:
        shape = values.shape[:2]  # the loader names photos that cannot be read
    if shape != values.shape[:2]:
        (height, width), (other_height, other_width) = values.shape[:2], shape
        turned = " as its EXIF orientation turns it" if shape == (width, height) else ""
        return _Scan(
            problem=f"{mask} is {width} x {height} pixels but its photo {photo.name} is "
            f"{other_width} x {other_height}{turned}: a mask needs the size of its photo"
        )
    if values.ndim == 3 and table is not None:
        unknown = values[_look_up(values, table) == _UNKNOWN]
        if unknown.size:
            colours = [colour.tolist() for colour in np.unique(unknown, axis=0)]
            return _Scan(problem=f"{mask} has colours that no class of the --classes-file has: {some(colours)}")
        return _Scan(coloured=True)
    if values.ndim == 3 and not _is_grey(values):
        return _Scan(coloured=True)
    counts = cv2.calcHist([values], [0], None, [256], [0, 256])
    return _Scan(values=frozenset(np.flatnonzero(counts).tolist()))


def _understand_values(masks: Sequence[Path], values: list[frozenset[int]], classes: Classes | None) -> MaskReading:
    """Meaning of masks with one value a pixel: 0/255, 0/1 or class ids."""
    union = frozenset().union(*values)
    if len(union) == 1 and classes is None:
        raise DataError(f"{masks[0].parent}: the masks hold {_list(union)} only: there is nothing to learn")
    if union == {0, 255} and (classes is None or len(classes.names) == 2):
        table = np.full(256, IGNORE, np.uint8)
        table[[0, 255]] = 0, 1
        names = classes.names if classes else BINARY
        return _reading(names, classes, table, f"masks: 0 is {names[0]}, 255 is {names[1]}")
    if classes is None:
        _check_unnamed(masks, values, union)
        count = max(union - {IGNORE}) + 1
        names = numbered_classes(count).names
    else:
        names = classes.names
        _check_named(masks, values, names)
    table = np.arange(256, dtype=np.uint8)
    ignored = ", 255 is ignored" if IGNORE in union else ""
    return _reading(names, classes, table, f"masks: class ids 0 to {len(names) - 1} ({some(names)}){ignored}")


def _reading(names: tuple[str, ...], classes: Classes | None, table: NDArray[np.uint8], line: str) -> MaskReading:
    colours = classes.colours if classes and classes.colours else voc_colours(len(names))
    return MaskReading(names, colours, partial(_decode_values, table=table), line)


def _check_unnamed(masks: Sequence[Path], values: list[frozenset[int]], union: frozenset[int]) -> None:
    """Refuse values that cannot be the ids of classes nobody has named."""
    binary = [255 in held and held <= {0, 255} for held in values]
    odd = [index for index, held in enumerate(values) if not held <= {0, 255}]
    if sum(binary) > len(odd) > 0:  # a set of 0/255 masks in which a few hold something else
        raise DataError(
            f"{masks[odd[0]]} has values {_list(values[odd[0]])} where {sum(binary):,} of {len(masks):,} masks hold 0 "
            "and 255 only",
            _remedy(masks[odd[0]], "correct it, or name the classes in a --classes-file"),
            path=masks[odd[0]],
        )
    ids = union - {IGNORE}
    if max(ids) == 0:
        raise DataError(f"{masks[0].parent}: the masks hold {_list(union)} only: there is nothing to learn")
    gaps = sorted(set(range(max(ids))) - ids)
    if gaps or len(ids) > _MOST_UNNAMED:
        index = next(index for index, held in enumerate(values) if max(ids) in held)
        reason = f"{_list(gaps)} occur in no mask" if gaps else f"the masks have {len(ids)} values"
        advice = "class ids count from 0, or name all classes in a --classes-file; make soft masks 0/255"
        raise DataError(
            f"{masks[index]} has values {_list(values[index])} but {reason}",
            _remedy(masks[index], advice),
            path=masks[index],
        )


def _check_named(masks: Sequence[Path], values: list[frozenset[int]], names: tuple[str, ...]) -> None:
    """Refuse values that are not the id of a class."""
    for mask, held in zip(masks, values, strict=True):
        beyond = [value for value in sorted(held) if value >= len(names) and value != IGNORE]
        if beyond:
            raise DataError(
                f"{mask} has values {_list(beyond)} but there are {len(names)} classes, ids 0 to {len(names) - 1}",
                _remedy(mask, "add the others, or correct the mask (255 is ignored)"),
                path=mask,
            )


def _remedy(mask: Path, advice: str) -> str:
    return "JPEG changes values, save masks as PNG" if mask.suffix.lower() in (".jpg", ".jpeg") else advice


def _list(values: Iterable[int]) -> str:
    return some(sorted(values), shown=8)


def _is_grey(values: Mask) -> bool:
    return bool((values[:, :, 0] == values[:, :, 1]).all() and (values[:, :, 1] == values[:, :, 2]).all())


def _decode_values(path: Path, *, table: NDArray[np.uint8]) -> Mask:
    values = read_mask(path)
    return np.asarray(cv2.LUT(values if values.ndim == 2 else np.ascontiguousarray(values[:, :, 0]), table), np.uint8)


def _decode_colours(path: Path, *, table: NDArray[np.uint8]) -> Mask:
    return _look_up(read_mask(path), table)


def _look_up(values: Mask, table: NDArray[np.uint8]) -> Mask:
    """(H, W, 3) colours -> (H, W) ids by a table of all 2^24 colours: its cost does not grow with the classes."""
    red, green, blue = (values[:, :, channel].astype(np.int32) for channel in range(3))
    ids: Mask = table[red << 16 | green << 8 | blue]
    return ids


def _colour_table(classes: Classes) -> NDArray[np.uint8]:
    table = np.full(2**24, _UNKNOWN, np.uint8)
    for (red, green, blue), index in classes.ids.items():
        table[red << 16 | green << 8 | blue] = index
    return table
