"""Masks of a folder: which belongs to which image, and what their values mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.decode import Mask, image_shape, read_mask
from simclrseg.labels.classes import BINARY, MAX_CLASSES, Classes, numbered_classes
from simclrseg.metadata import IGNORE, voc_colours
from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads

_UNKNOWN = MAX_CLASSES  # what a colour that no class has becomes
_MOST_UNNAMED = 64  # more values than this are a soft or lossy mask rather than classes without a name


@dataclass(frozen=True)
class _Scan:
    """One mask, once looked at: its values, or why it cannot be used."""

    mask: Path
    values: frozenset[int] = frozenset()
    coloured: bool = False
    problem: str = ""


def pair_masks(
    images: Sequence[Path], masks: Sequence[Path], *, image_root: Path, into: Path, unreadable: Collection[Path] = ()
) -> list[Path | None]:
    """The mask of each image: the same relative path but for the suffix, or with ``_mask`` at its end.

    Args:
        images: files below ``image_root``.
        masks: files below ``into``.
        unreadable: what is left out below ``image_root``; its masks are left out too.

    Raises:
        DataError: for masks without an image, and where it is not clear which belongs to which.
    """
    by_name: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        by_name.setdefault(image.relative_to(image_root).with_suffix("").as_posix(), []).append(index)
    left_out = [path.relative_to(image_root) for path in unreadable]
    without_image = {path.with_suffix("").as_posix() for path in left_out}
    paired: list[Path | None] = [None] * len(images)
    lost = []
    for mask in masks:
        below = mask.relative_to(into)
        name = below.with_suffix("").as_posix()
        indices = by_name.get(name) or by_name.get(name.removesuffix("_mask"), [])
        if not indices:
            if without_image.isdisjoint((name, name.removesuffix("_mask"))) and not {*left_out} & {*below.parents}:
                lost.append(below.as_posix())
        elif len(indices) > 1:
            first, second = (images[index].name for index in indices[:2])
            raise DataError(f"{mask} fits {first} and {second}", "rename one of them", path=mask)
        elif (other := paired[indices[0]]) is not None:
            image = images[indices[0]]
            raise DataError(f"{image} has two masks, {other.name} and {mask.name}", "keep one", path=image)
        else:
            paired[indices[0]] = mask
    if lost:
        count = f"{len(lost):,} of {len(masks):,}"
        raise DataError(
            f"{into}: masks without a photo of their name in {image_root}: {count}, {some(lost)}", path=into
        )
    return paired


def mask_details(
    images: Sequence[Path], masks: Sequence[Path | None], *, classes: Classes | None, class_count: int | None
) -> tuple[dict[str, Any], str]:
    """Look at every mask once: what its values mean, as arguments of ``FileDataset``, and in a line for its summary.

    Args:
        masks: the mask of each image, None where it has none.
        classes: names and colours of their classes, where they are known.
        class_count: how many classes they hold, where nothing names them.

    Raises:
        DataError: for a mask that cannot be read, of another size than its image, or with unexpected values.
    """
    if classes is None and class_count is not None:
        classes = numbered_classes(class_count)
    table = _colour_table(classes) if classes and classes.colours else None
    pairs = [(image, mask) for image, mask in zip(images, masks, strict=True) if mask is not None]
    scans = distributed.from_main(lambda: map_in_threads(lambda pair: _scan(*pair, table=table), pairs))
    problems = [scan.problem for scan in scans if scan.problem]
    if problems:
        more = f" (masks that do not fit: {len(problems):,})" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    coloured = [scan.mask for scan in scans if scan.coloured]
    if not coloured:
        return _understand_values(scans, classes)
    if len(coloured) < len(scans):
        other = next(scan.mask for scan in scans if not scan.coloured)
        reason = f"{coloured[0]} is an RGB mask but {other} holds class ids"
        raise DataError(reason, "save all masks in one way", path=coloured[0])
    if classes is None or table is None:
        found = some(np.unique(read_mask(coloured[0]).reshape(-1, 3), axis=0).tolist())
        remedy = "give the colours of the classes in a --classes-file, such as `road: [128, 64, 128]`"
        raise DataError(f"{coloured[0]} is an RGB mask ({found})", remedy, path=coloured[0])
    details = {"classes": classes.names, "colours": classes.colours, "decode": partial(_decode_colours, table=table)}
    return details, f"masks: RGB, {len(classes.names)} classes by colour ({some(classes.names)})"


def _scan(image: Path, mask: Path, *, table: NDArray[np.uint8] | None) -> _Scan:
    try:
        values = read_mask(mask)
    except ImageError as error:
        return _Scan(mask, problem=str(error))
    height, width = shape = values.shape[:2]
    with suppress(ImageError):  # the loader names images that cannot be read
        shape = image_shape(image)
    if shape != (height, width):
        turned = " as its EXIF orientation turns it" if shape == (width, height) else ""
        of_image = f"its photo {image.name} is {shape[1]} x {shape[0]}{turned}"
        problem = f"{mask} is {width} x {height} pixels but {of_image}: a mask needs the size of its photo"
        return _Scan(mask, problem=problem)
    if values.ndim == 3 and table is not None:
        unknown = values[_look_up(values, table) == _UNKNOWN]
        if unknown.size:
            colours = some(np.unique(unknown, axis=0).tolist())
            problem = f"{mask} has colours that no class of the --classes-file has: {colours}"
            return _Scan(mask, problem=problem)
        return _Scan(mask, coloured=True)
    if values.ndim == 3 and (values != values[:, :, :1]).any():
        return _Scan(mask, coloured=True)
    counts = cv2.calcHist([values], [0], None, [256], [0, 256])
    return _Scan(mask, frozenset(np.flatnonzero(counts).tolist()))


def _understand_values(scans: Sequence[_Scan], classes: Classes | None) -> tuple[dict[str, Any], str]:
    """As ``mask_details``, of masks with one value a pixel: 0/255, 0/1 or class ids."""
    union = frozenset().union(*(scan.values for scan in scans))
    if len(union) == 1 and classes is None:
        raise DataError(f"{scans[0].mask.parent}: the masks hold {_list(union)} only: there is nothing to learn")
    if union == {0, 255} and (classes is None or len(classes.names) == 2):
        table = np.full(256, IGNORE, np.uint8)
        table[[0, 255]] = 0, 1
        names = classes.names if classes else BINARY
        line = f"masks: 0 is {names[0]}, 255 is {names[1]}"
    else:
        table = np.arange(256, dtype=np.uint8)
        names = classes.names if classes else _unnamed(scans, union - {IGNORE})
        for scan in scans:
            if beyond := [value for value in scan.values if value >= len(names) and value != IGNORE]:
                why = f"but there are {len(names)} classes, ids 0 to {len(names) - 1}"
                raise _misfit(scan.mask, beyond, why, "add the others, or correct the mask (255 is ignored)")
        ignored = ", 255 is ignored" if IGNORE in union else ""
        line = f"masks: class ids 0 to {len(names) - 1} ({some(names)}){ignored}"
    colours = classes.colours if classes and classes.colours else voc_colours(len(names))
    return {"classes": names, "colours": colours, "decode": partial(_decode_values, table=table)}, line


def _unnamed(scans: Sequence[_Scan], ids: frozenset[int]) -> tuple[str, ...]:
    """Names of classes that nobody has named; refuses values that cannot be their ids."""
    binary = sum(255 in scan.values and scan.values <= {0, 255} for scan in scans)
    odd = [scan for scan in scans if not scan.values <= {0, 255}]
    if binary > len(odd):  # a set of 0/255 masks in which a few hold something else
        why = f"where {binary:,} of {len(scans):,} masks hold 0 and 255 only"
        raise _misfit(odd[0].mask, odd[0].values, why, "correct it, or name the classes in a --classes-file")
    gaps = sorted(set(range(max(ids))) - ids)
    if gaps or len(ids) > _MOST_UNNAMED:
        highest = next(scan for scan in scans if max(ids) in scan.values)
        why = f"but {_list(gaps)} occur in no mask" if gaps else f"but the masks have {len(ids)} values"
        advice = "class ids count from 0, or name all classes in a --classes-file; make soft masks 0/255"
        raise _misfit(highest.mask, highest.values, why, advice)
    return numbered_classes(len(ids)).names


def _misfit(mask: Path, values: Iterable[int], why: str, advice: str) -> DataError:
    """The error for a mask of values that fit nothing."""
    remedy = "JPEG changes values, save masks as PNG" if mask.suffix.lower() in (".jpg", ".jpeg") else advice
    return DataError(f"{mask} has values {_list(values)} {why}", remedy, path=mask)


def _list(values: Iterable[int]) -> str:
    return some(sorted(values), shown=8)


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
