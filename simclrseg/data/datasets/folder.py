"""A folder of the user's own: images only, images and masks, or one folder a class.

Splits are those of lists or folders (``lists``). Where most pictures are TIFFs of other bands than a photo's, all are
read with all their bands.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.data.datasets.copies import same_photos
from simclrseg.data.datasets.dataset import DatasetOptions, FileDataset, read_alike
from simclrseg.data.datasets.layout import lay_out
from simclrseg.data.datasets.lists import find_lists, read_lists, split_folders, tell_other_folders
from simclrseg.data.datasets.pairing import Layout
from simclrseg.data.datasets.values import blanks, deep_photos, tell_pages
from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.bands import BANDS_FILE, REFLECTANCE, are_named, bands_beside, places_of
from simclrseg.images.decode import floating_ranges, named_bands, stored_bands
from simclrseg.images.depth import Range, coarse_bands, common_range, in_words
from simclrseg.images.listing import count_suffixes, is_image, list_files, tell_unread, unread_photos, why_unread
from simclrseg.labels.classes import BINARY, CLASSES_FILES, Classes, classes_beside
from simclrseg.labels.likeness import likeness
from simclrseg.labels.looking import look_at, sample
from simclrseg.labels.masks import mask_details
from simclrseg.metadata import RGB
from simclrseg.system.identify import why_not_a_file

log = logging.getLogger(__name__)

_LOOKED_AT = 100  # pictures, to see of which bands a folder's are
_KINDS = "JPEG, PNG, WebP, TIFF or other pictures"


def image_folder(root: Path, options: DatasetOptions) -> FileDataset:
    """Open a folder, whichever layout it has; what was understood is in ``summary``.

    Raises:
        DataError: if there is no image, or images, masks, lists and classes do not fit together.
    """
    folders = _named_folders(root)
    listing = list_files(root)
    unread = _unread_of(listing.files)
    pictures = [file for file in listing.files if is_image(file.name) or file in unread]
    if "images" in folders and not any(file.is_relative_to(folders["images"]) for file in pictures):
        pictures = []  # whatever lies elsewhere
    wanted = options.mask_folder
    if options.of_model and not any(_lies_in(file.relative_to(root), wanted) for file in pictures):
        wanted = ""  # the model's own photos have such a folder, and these do not
    layout = lay_out(root, pictures, replace(options, mask_folder=wanted), unreadable=listing.left_out)
    if layout.leave_out(unread) and options.masks and layout.masks and not any(layout.masks):
        raise DataError(f"{root}: photos that have masks cannot be read: {tell_unread(unread)}", path=root)
    images = layout.images
    around_root = any(image.parent == root for image in images)
    known = {} if layout.parts or not (layout.masks and options.masks) else _classes_files(listing.files, options)
    lists = find_lists(root, [*listing.files, *listing.left_out])
    told = {*known, *lists.files, *unread}
    others = _kinds(file for file in listing.files if (around_root or file.parent != root) and file not in told)
    if not images:
        holder = folders.get("images", root)
        if unread:
            raise DataError(f"{holder}: its photos cannot be read: {tell_unread(unread)}", path=holder)
        raise DataError(
            f"{holder} holds no photos ({others or 'no readable file'})", f"give a folder of {_KINDS}", path=holder
        )

    around = os.path.commonpath([path.parent for path in layout.below])  # a folder around all the others says nothing
    paths = [path.relative_to(around) for path in layout.below]
    summary = [f"{root}: {len(images):,} photos"] + ([f"left out: {others}"] if others else [])
    if unread:
        summary.append(f"photos that cannot be read: {tell_unread(unread)}")
    by_folder, depth = split_folders(paths)
    official = read_lists(root, lists, images, layout.below, summary, others=unread)
    if not official:
        official = by_folder
        summary += tell_other_folders(paths) if not by_folder else []
    if layout.left_out:
        where = some([f"{number:,} in {folder}" for folder, number in layout.left_out.most_common()])
        summary.append(f"left out: pictures that are neither photos nor their masks: {where}")
    summary += layout.lines

    details = bands_of(images, summary, options) or deep_photos(images, summary, options.reach)
    tell_pages(images, "photos", summary)
    with_masks = bool(layout.masks)
    if with_masks and options.masks:
        details |= _masks(layout, replace(options, classes=_classes(known, options)), summary)
        for split in [split for split, part in official.items() if not any(layout.masks[index] for index in part)]:
            summary.append(
                f"{split}: none of its {len(official.pop(split)):,} photos has a mask, so that it is no part"
            )
    elif with_masks:
        where = layout.where + (f", as {layout.beside.name}" if layout.beside else "")
        summary.append(f"left out: {layout.mask_files:,} masks {where}, for photos alone are looked at")
        layout.masks = []
    elif "masks" in folders and options.masks:
        folder = folders["masks"]
        inside = _kinds(file for file in listing.files if file.is_relative_to(folder))
        raise DataError(f"{folder} holds no masks ({inside or 'no readable file'})", "save them as PNG", path=folder)
    elif options.classes is not None and options.masks:
        raise DataError(f"{root} has no masks/ beside images/", "leave --classes-file out, or add the masks", path=root)

    folders_of = [path.parts[:depth] + path.parts[depth + 1 :] if by_folder else path.parts for path in paths]
    names = [parts[0] if len(parts) > 1 else "" for parts in folders_of]
    counts = Counter(names)
    no_masks = not with_masks or (options.labels and 2 * len(counts) <= len(images))  # no folder for each picture
    if "images" not in folders and no_masks and "" not in counts and len(counts) > 1:
        label_names = sorted(counts)
        details["label_names"] = label_names
        details["labels"] = np.array([label_names.index(name) for name in names], np.int64)
        parts = [f"{name} {counts[name]:,}" for name in label_names]
        summary.append(f"one folder a class: {len(label_names)} classes ({some(parts)})")
    for split, indices in official.items():
        summary.append(f"{split}: {len(indices):,} photos")
    twins = same_photos(images, official, summary)
    return FileDataset(
        root.resolve().name,
        root,
        images,
        masks=layout.masks,
        official=official,
        summary=summary,
        twins=twins,
        **details,
    )


def _lies_in(path: Path, folder: str) -> bool:
    return folder.casefold() in (part.casefold() for part in path.parts[:-1])


def _classes_files(files: Sequence[Path], options: DatasetOptions) -> dict[Path, Classes]:
    """The files of classes that lie with masks, where no user names others, and no model has numbers for names."""
    unasked = options.classes is None or (options.of_model and not options.settled)
    unasked = unasked and not (options.of_model and options.class_count)
    tables = [file for file in files if file.name in CLASSES_FILES and unasked]
    return {file: found for file in tables if (found := classes_beside(file)) is not None}


def _classes(tables: Mapping[Path, Classes], options: DatasetOptions) -> Classes | None:
    """The classes that all files with masks name, else those that a user or a model does.

    Where a model's are others, it reads the masks by its own.

    Raises:
        DataError: if two files differ.
    """
    first, *others = tables or (None,)
    if first is None:
        return options.classes
    if other := next((file for file in others if tables[file] != tables[first]), None):
        raise DataError(
            f"{first} and {other} name different classes", "pass the right ones as --classes-file", path=other
        )
    found, own = tables[first], options.classes
    if own is not None and not {*own.names, BINARY[0]} >= {*found.names}:
        log.warning(
            f"{first} names the classes {some(found.names)}, and the model {some(own.names)}: its masks are read as "
            "those are that it was trained on"
        )
        return own
    return found


def _unread_of(files: Sequence[Path]) -> set[Path]:
    """Photos that are not read, but for those of which a picture of the same name, which is no mask, lies beside."""
    unread = {file for file in files if why_unread(file.name)}
    stems = {file.with_suffix("") for file in unread}
    beside = [file for file in files if stems and is_image(file.name) and file.with_suffix("") in stems]
    return unread if likeness(beside).masks else set(unread_photos(files))


def _named_folders(root: Path) -> dict[str, Path]:
    """The folders images and masks, in any case; an error where a link to nothing or the like stands in their place."""
    try:
        children = [child for child in sorted(root.iterdir()) if child.name.lower() in ("images", "masks")]
    except OSError as error:
        raise DataError(f"{root} cannot be opened: {error.strerror}", path=root) from error
    for child in children:
        if not child.is_dir() and (reason := why_not_a_file(child)):
            raise DataError(f"{child} is no folder ({reason})", "restore it, or remove it", path=child)
    return {child.name.lower(): child for child in children if child.is_dir()}


def _kinds(files: Iterable[Path]) -> str:
    """What is no picture among files: ``3 .heic, 1 .txt``."""
    return count_suffixes(file for file in files if not is_image(file.name))


def bands_of(images: Sequence[Path], summary: list[str], options: DatasetOptions) -> dict[str, Any]:
    """The dataset's arguments for pictures that are no photos; nothing for photos."""
    kinds: dict[tuple[int, int] | None, list[Path]] = {}
    for image in sample(images, _LOOKED_AT):
        with suppress(ImageError):  # it is skipped, and named, when it is read
            kinds.setdefault(stored_bands(image), []).append(image)
    stored, alike = max(kinds.items(), key=lambda kind: len(kind[1]), default=(None, []))
    if stored is None:
        return {}
    (bands, bits), first = stored, alike[0]
    if bits not in (8, 16):
        raise DataError(
            f"{first} has {bands} bands of {bits} bits, which are not read", "save them with 8 or 16 bits", path=first
        )
    beside = bands_beside(first.parent)
    names = beside or named_bands(first)
    if not are_named(names) and len(options.bands) == bands and are_named(options.bands):
        names = options.bands
    elif not are_named(names) and len(options.model_bands) == bands and options.model_bands != RGB:
        names = options.model_bands  # as files of the model's own set, which --bands named
    if len(names) != bands:
        raise DataError(f"{first} has {bands} bands, and {BANDS_FILE} names {len(names)}", "name them all", path=first)
    found = [one for one in look_at(alike, floating_ranges) if one is not None]
    reach, kind = None, "floating-point numbers" if found else f"{bits} bits"
    learned = f"all bands are learned from{': ' + ', '.join(names) if are_named(names) else ''}"
    summary.append(f"pictures of {bands} bands of {kind}, as {first.name} is: {learned}")
    if found:
        spreads = _spreads(found, own=() if beside else names)
        taken = places_of(options.bands or options.model_bands, names) or [*range(bands)]
        reach = options.reach or common_range(spreads, taken)
        if options.reach is None:
            _warn_of_coarse(first.parent, names, spreads, taken, reach)
        low, high = min(spreads[band][0] for band in taken), max(spreads[band][1] for band in taken)
        line = f"floating-point bands: {in_words(low, high, reach, REFLECTANCE)}"
        summary.append(line + (", as in training" if options.reach else ""))
    own = () if beside or not are_named(names) else names
    read = partial(read_alike, bands=bands, bits=bits, whose=f"those of {first.name}", names=own, reach=reach)
    return {
        "read": read,
        "bands": names,
        "full_scale": REFLECTANCE if found else 2**bits - 1,
        "reach": reach,
        **blanks(images, summary, reach),
    }


def _spreads(found: Sequence[tuple[tuple[str, ...], list[Range]]], own: Sequence[str]) -> list[Range]:
    """The least and the greatest value of each band over some files.

    Args:
        own: the bands in their order, where files may have them in another by their own names.
    """
    spreads: list[Range] = []
    for names, ranges in found:
        places = (places_of(own, names) if are_named(names) else None) or range(len(ranges))
        of_file = [ranges[place] for place in places]
        before = spreads or of_file
        spreads = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(before, of_file, strict=True)]
    return spreads


def _warn_of_coarse(
    folder: Path, names: Sequence[str], spreads: Sequence[Range], taken: Sequence[int], reach: Range
) -> None:
    """Say of which bands little is left, for others among them are of another kind."""
    if coarse := coarse_bands(spreads, taken, reach):
        band, steps = min(coarse.items(), key=lambda one: one[1])
        low, high = spreads[band]
        others = f" (and of {len(coarse) - 1:,} more bands)" if len(coarse) > 1 else ""
        log.warning(
            f"{folder}: floating-point bands share one range, {reach[0]:g} to {reach[1]:g}, in which {names[band]}, "
            f"with values from {low:g} to {high:g}, has {steps:,} of {REFLECTANCE:,} steps left{others}: store the "
            "bands in one range, as 0 to 1, or take those of one kind with --bands"
        )


def _masks(layout: Layout, options: DatasetOptions, summary: list[str]) -> dict[str, Any]:
    """The dataset's arguments that say what masks hold."""
    files = [file for mask in layout.masks if mask for file in (mask if isinstance(mask, tuple) else (mask,))]
    tell_pages(files, "masks", summary)
    details, lines = mask_details(
        layout.images,
        layout.masks,
        classes=options.classes,
        class_count=options.class_count,
        rules={"folder": options.mask_folder, **options.mask_rules} if options.mask_folder else options.mask_rules,
        parts=layout.parts,
        of_model=options.of_model,
    )
    without = [below.as_posix() for below, mask in zip(layout.below, layout.masks, strict=True) if mask is None]
    summary.append(f"pairs of photo and mask: {len(layout.images) - len(without):,}, the masks {layout.where}")
    if without:
        summary.append(f"photos without a mask: {len(without):,} ({some(without, shown=3)})")
    summary += lines
    return details
