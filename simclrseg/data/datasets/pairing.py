"""Images and the masks that are theirs, once it is known which files are which."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from simclrseg.data.datasets.lists import split_of
from simclrseg.data.datasets.masklike import drawn_beside, is_drawn, strays
from simclrseg.data.datasets.naming import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_STEMS,
    Files,
    Found,
    Names,
    bare_name,
    in_folders,
    meanings,
    object_of,
    parts_of,
)
from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.stored_masks import read_stored_mask
from simclrseg.labels.looking import sample
from simclrseg.labels.reading import MaskFiles

_SAME_PLACE = 0.5  # of the smaller of two masks: they are of one object
_FOR_VALUES = 50  # masks of which all values are looked at
LOOK_LIKE_MASKS = "left out: pictures that look like masks"
"""What the line on pictures begins with that are masks by name and content, and of no photo."""
OBJECT = "foreground"
"""What the parts of a mask are called where each shows an object of the same class."""


@dataclass
class Layout:
    """A folder's images and the masks that belong to them.

    Attributes:
        images: files.
        below: their paths as the layout means them, without the folder that is called ``images``.
        masks: of each image; None where it has none. Empty where there are no masks at all.
        mask_files: how many files of masks there are.
        parts: of files that show one class each, the class.
        where: the folders of the masks, in words.
        beside: one of those that lie beside their photos.
        left_out: pictures that are neither, counted by their folder.
        lines: what is worth a line of the summary.
    """

    images: list[Path]
    below: list[PurePath]
    masks: list[MaskFiles | None] = field(default_factory=list)
    mask_files: int = 0
    parts: dict[Path, str] = field(default_factory=dict)
    where: str = ""
    beside: Path | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, images: Sequence[Found], told: Iterable[str]) -> Self:
        """Images without masks, so far, and what is told of others."""
        return cls([found.file for found in images], [PurePath(*found.parts) for found in images], lines=list(told))

    def count_left_out(self, paths: Files, told: Collection[Path]) -> None:
        """Count what is neither among the images nor told of already."""
        used = {*self.images, *told}
        tops = (path for file, path in paths.items() if file not in used)
        self.left_out.update(f"{top[0]}/" if len(top) > 1 else "beside them" for top in tops)

    def leave_out(self, images: Collection[Path]) -> bool:
        """Leave out some images, with their masks; False where none of these is one."""
        kept = [index for index, image in enumerate(self.images) if image not in images]
        found = len(kept) < len(self.images)
        self.masks = [self.masks[index] for index in kept] if self.masks else []
        self.images, self.below = [self.images[index] for index in kept], [self.below[index] for index in kept]
        return found


def paired(
    root: Path,
    paths: Files,
    images: Sequence[Found],
    masks: Sequence[Found],
    unreadable: Collection[Path],
    strict: bool,
    *,
    aside: Mapping[str, Collection[Path]] = MappingProxyType({}),
) -> Layout:
    """Give each image its mask.

    Args:
        unreadable: what is left out, whose masks are left out too.
        strict: refuse masks without an image.
        aside: lines on pictures that are neither, each with these.
    """
    images, told = without_masks(images, drawn_beside(images), lossy=True)
    told |= aside
    names = Names(images)
    of_masks, masks = masks, _without_drawn(masks, names)
    if beside := {found.file for found in of_masks} - {found.file for found in masks}:
        shown = some(sorted(file.name for file in beside), shown=3)
        told[f"left out: pictures that show the masks in another way: {len(beside):,} ({shown})"] = beside
    layout = Layout.of(images, told)
    found_for: dict[int, list[Path]] = defaultdict(list)
    lost: list[Found] = []
    unclear: list[tuple[str, list[int]]] = []
    for found in masks:
        indices = names.named(found.parts)
        if len(indices) > 1:
            unclear.append((found.file.name, indices))
        elif indices:
            found_for[indices[0]].append(found.file)
        else:
            lost.append(found)
    if lost and not found_for:
        lost = _by_class(lost, names, found_for, layout.parts)
    pictures = {found.above: index for index, found in enumerate(images)}
    if lost and not found_for and len(pictures) == len(images) > 1:  # a folder for each
        lost = _by_picture(lost, pictures, found_for, layout.parts)
    if lost and not found_for:
        lost = _by_name_alone(lost, images, found_for)
    gone = {bare_name(parts) for path in unreadable if (parts := parts_of(root, path))}
    lost = [found for found in lost if gone.isdisjoint([*meanings(found.parts), *_parents(found.parts)])]
    if lost and strict:
        raise _unpaired(root, lost, masks, [found for index, found in enumerate(images) if index not in found_for])
    if strict and unclear and not found_for:
        name, indices = unclear[0]
        fits = " and ".join("/".join(images[index].path) for index in indices[:2])
        reason = f"{root}: none of its {len(unclear):,} masks fits one photo alone, {name} fits {fits}"
        raise DataError(reason, "keep one photo of each name, or give each its own, and its mask the same", path=root)
    if strict:
        _join_objects(layout, found_for)
    layout.masks, layout.mask_files = [None] * len(images), len(masks)
    for index, of_image in found_for.items():
        layout.masks[index] = tuple(of_image) if of_image[0] in layout.parts else of_image[0]
    if unclear:
        shown = some([name for name, _ in unclear])
        layout.lines.append(f"masks that fit several photos, and are left out: {len(unclear):,} ({shown})")
    around = {found.file.parent for found in images}
    layout.beside = next((found.file for found in masks if found.file.parent in around), None)
    layout.where = _where([found for found in masks if found.file.parent not in around], layout.beside)
    layout.count_left_out(paths, files_of(told) | {found.file for found in masks})
    return layout


def _join_objects(layout: Layout, found_for: Mapping[int, Sequence[Path]]) -> None:
    """Take several masks of a photo for its objects, if they are called so and lie apart; else refuse them."""
    several = {index: of for index, of in found_for.items() if len(of) > 1 and of[0] not in layout.parts}
    for index, of_image in several.items():
        if not _are_objects(of_image):
            image, (first, second) = layout.images[index], [mask.name for mask in of_image[:2]]
            raise DataError(f"{image} has two masks, {first} and {second}", "keep one", path=image)
    for index in sample(list(several)):
        _refuse_same_place(several[index])
    if several:
        shown = " and ".join(file.name for file in next(iter(several.values())))
        layout.lines.append(f"photos with several masks, which are taken together: {len(several):,} ({shown})")
    layout.parts.update({file: OBJECT for of_image in several.values() for file in of_image})


def _without_drawn(masks: Sequence[Found], names: Names) -> list[Found]:
    """Masks without what is drawn of them or holds other ids, as Cityscapes has beside ``x_gtFine_labelIds.png``."""
    stems = {found.file.with_suffix("").as_posix().lower() for found in masks}
    begins = {stem[:place] for stem in stems if not is_drawn(stem) for place in (stem.rfind("_"), stem.rfind("."))}
    kept = []
    for found in masks:
        stem = found.file.with_suffix("").as_posix().lower()
        begin = stem[: max(stem.rfind("_"), stem.rfind("."))]
        if is_drawn(PurePath(stem).name) and begin in begins and not names.named(found.parts):
            continue
        if stem.endswith("_labelids") and f"{begin}_labeltrainids" in stems:
            continue
        kept.append(found)
    return kept


def _are_objects(files: Sequence[Path]) -> bool:
    """Tell whether masks of one photo are called as parts of one: x_mask, x_mask_1, x_mask_2."""
    objects = [object_of(file.stem) for file in files]
    return None not in objects and len({named[0] for named in objects if named}) == 1


def _refuse_same_place(files: Sequence[Path]) -> None:
    """Refuse masks that show the same object, as those of several people do."""
    try:
        inside = [read_stored_mask(file).values > 0 for file in files[:2]]
    except ImageError:
        return  # it is named where masks are read
    first, second = [mask.any(axis=2) if mask.ndim == 3 else mask for mask in inside]
    least = min(first.sum(), second.sum())
    if first.shape == second.shape and least and (first & second).sum() > _SAME_PLACE * least:
        reason = f"{files[0]} and {files[1].name} are two masks of the same object"
        raise DataError(reason, "keep one for each photo", path=files[0])


def _unpaired(root: Path, lost: Sequence[Found], masks: Sequence[Found], photos: Sequence[Found]) -> DataError:
    """The error for masks without a photo, with the names of both, and one that would pair."""

    def listed(found: Sequence[Found]) -> str:
        return some(["/".join(each.path) for each in found], shown=2)

    reason = f"{root}: masks without a photo of their name: {len(lost):,} of {len(masks):,}, {listed(lost)}"
    if not photos:
        return DataError(f"{reason}; every photo has one", "move them away, or add their photos", path=root)
    first = "/".join(photos[0].path)
    folder = "/".join(lost[0].home)
    name = photos[0].file.stem + (lost[0].file.suffix if folder else ".png")  # beside the photo it needs another end
    path = "/".join((*([folder] if folder else []), *photos[0].below[:-1], name))
    photo_names = f"photos without a mask: {len(photos):,}, {listed(photos)}"
    return DataError(
        f"{reason}; {photo_names}", f"call the mask of {first} {path}, or move masks without photos away", path=root
    )


def _where(masks: Sequence[Found], beside: Path | None) -> str:
    """Where masks lie, in words: those in folders of their own, and others beside photos."""
    homes = Counter("/".join(found.home) for found in masks)
    words = [f"in {some([f'{home}/' for home, _ in homes.most_common()], shown=3)}"] if homes else []
    return " and ".join(words + ["beside their photos"] * (beside is not None))


def _by_class(
    lost: Sequence[Found], names: Names, found_for: dict[int, list[Path]], parts: dict[Path, str]
) -> list[Found]:
    """Take the folders below that of the masks for classes, where this finds an image for nearly each of them."""
    fits = {found: names.named(found.above + found.below[1:]) for found in lost if len(found.below) > 1}
    folders = Counter(found.below[0].lower() for found in fits)
    seen = Counter(index for indices in fits.values() for index in indices)
    if max(seen.values(), default=0) == 1 and (len(folders) > 1 or any(map(split_of, folders))):
        return list(lost)  # parts of the set, or masks of several people: no image has two
    if 10 * sum(len(indices) == 1 for indices in fits.values()) < 9 * len(lost):
        return list(lost)
    of_classes = len(folders) > 1 or _show_one_class([found.file for found in fits])
    for found, indices in fits.items():
        if len(indices) == 1:
            found_for[indices[0]].append(found.file)
            if of_classes:
                parts[found.file] = found.below[0]
    return [found for found in lost if len(fits.get(found, ())) != 1]


def _show_one_class(files: Sequence[Path]) -> bool:
    """Tell whether masks hold two values, the same in all that are looked at, as those of one class do."""
    values: set[Any] = set()
    for file in sample(files, _FOR_VALUES):
        with suppress(ImageError):  # it is named where masks are read
            stored = read_stored_mask(file).values
            pixels = stored.reshape(-1, stored.shape[2]) if stored.ndim == 3 else stored.reshape(-1, 1)
            values |= {*map(tuple, np.unique(pixels, axis=0).tolist())}
    return len(values) <= 2


def _by_name_alone(lost: Sequence[Found], images: Sequence[Found], found_for: dict[int, list[Path]]) -> list[Found]:
    """Take masks in one folder for photos in others, if each bears the name of one photo, which no other bears."""
    names = Names([replace(found, below=found.below[-1:]) for found in images])
    fits = [names.named(found.above + found.below[-1:]) for found in lost]
    folders = {found.below[:-1] for found in lost}
    apart = len(folders) > 1 or any(map(split_of, folders.pop()))
    if apart or any(len(indices) != 1 for indices in fits) or len({index for (index,) in fits}) < len(lost):
        return list(lost)
    for found, (index,) in zip(lost, fits, strict=True):
        found_for[index].append(found.file)
    return []


def _by_picture(
    lost: Sequence[Found],
    pictures: Mapping[tuple[str, ...], int],
    found_for: dict[int, list[Path]],
    parts: dict[Path, str],
) -> list[Found]:
    """Take all masks in the folder of a picture for its own: each shows an object, if they have a folder of theirs."""
    rest = []
    for found in lost:
        index = pictures.get(found.above)
        if index is None:
            rest.append(found)
        elif found.file.parent.name.lower() in MASK_FOLDERS:
            found_for[index].append(found.file)
            parts[found.file] = OBJECT
        elif found.file.stem.lower() in MASK_STEMS:  # others are drawn of it, as label_viz.png
            found_for[index].append(found.file)
    return rest


def _parents(parts: tuple[str, ...]) -> list[str]:
    return [bare_name(parts[:length]) for length in range(1, len(parts))]


def without_masks(
    photos: Sequence[Found], beside: Collection[Path], *, lossy: bool, by_folder: bool = True
) -> tuple[list[Found], dict[str, Collection[Path]]]:
    """Photos without the pictures among them that are masks by name and content, and lines, each on some of these.

    Args:
        beside: those that are known by the names of photos in the same folder.
        lossy: those in lossy files count too where a folder says that it holds masks.
        by_folder: False where what a folder is called says nothing, as it is a class.
    """
    told: dict[str, Collection[Path]] = {}
    if beside:
        shown = some([file.name for file in beside], shown=2)
        told[f"left out: pictures that bear photos' names and look like masks: {len(beside):,} ({shown})"] = beside
    photos = [found for found in photos if found.file not in beside]
    paths = {found.file: found.path for found in photos} if by_folder else {}
    called_images = {found.file for found in in_folders(paths, IMAGE_FOLDERS)}
    astray = strays({file: path for file, path in paths.items() if file not in called_images}, lossy=lossy)
    if len(astray) == len(photos):  # there is nothing else
        return photos, told
    if astray:
        shown = some(sorted({"/".join(paths[file][:-1]) + "/" for file in astray}), shown=2)
        told[f"{LOOK_LIKE_MASKS}, in folders that say so: {len(astray):,} ({shown})"] = astray
    return [found for found in photos if found.file not in astray], told


def files_of(told: Mapping[str, Collection[Path]]) -> set[Path]:
    return set[Path]().union(*told.values())
