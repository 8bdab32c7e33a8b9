"""Which files of a folder are images, and which are their masks: by the names of folders and files that people use.

Masks lie in a folder of their own beside that of the images (``images/`` and ``masks/``, in each of ``train/``,
``val/`` and ``test/`` or around them), in one folder for each class in it, in a folder for each picture, or beside
their images as ``x_mask.png``, or as ``x.png`` beside ``x.jpg``. Folders and marks of other names are known by what
the pictures hold (``masklike``).
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.mask_folders import MaskFolder, mask_folders
from simclrseg.data.datasets.masklike import drawn_beside, is_drawn
from simclrseg.data.datasets.naming import (
    IMAGE_FOLDERS,
    IMAGE_STEMS,
    MASK_FOLDERS,
    MASK_STEMS,
    Files,
    Found,
    Names,
    below_root,
    has_letter_alone,
    in_folders,
    is_channel,
    stem_of,
    strip,
)
from simclrseg.data.datasets.pairing import Layout, files_of, paired, without_masks
from simclrseg.errors import DataError, some
from simclrseg.images.listing import is_image
from simclrseg.labels.likeness import likeness
from simclrseg.labels.reading import Rules, with_rule

_AS_WELL = 0.9  # of the photos that one folder of masks fits, and another


def lay_out(root: Path, files: Sequence[Path], options: DatasetOptions, *, unreadable: Collection[Path] = ()) -> Layout:
    """Tell images and masks apart, and find the mask of each image.

    Args:
        files: pictures below ``root``.
        options: where masks are not asked for, it does not matter whether each has its image.
        unreadable: what is left out below it; their masks are left out too.

    Raises:
        DataError: for masks without an image, two masks of one, or several folders that may be those of the masks.
    """
    strict, mask_folder = options.masks, options.mask_folder
    paths = {file: below_root(root, file) for file in files}
    images = in_folders(paths, IMAGE_FOLDERS)
    masks = _in_named_folders(paths, mask_folder)
    named = {found.file for found in (*masks, *images)}
    every = {file: Found(file, path, path[:-1], path[-1:]) for file, path in paths.items()}
    others = [found for file, found in every.items() if file not in named]
    folders = mask_folders(paths, wanted=mask_folder)
    aside: dict[str, Collection[Path]] = {}
    both = {found.above for found in images} & {found.above for found in masks}
    if strict:
        _refuse_channels(images)
    if both:
        kinds = {above: min(found.kind for found in masks if found.above == above) for above in both}
        masks = [found for found in masks if kinds.get(found.above) == found.kind]
        photos = [found for found in images + others if found.above in both or not _lies_in(found.above, both)]
        if strict and not mask_folder and not options.settled:
            aside = _refuse_others(root, images, masks, folders, options.mask_rules)
    else:
        in_images = {found.file for found in images}
        photos = images + [found for file, found in every.items() if file not in in_images]
    kept = {found.file for found in photos}
    folders = [folder for folder in folders if not kept.isdisjoint(folder.files)]
    more = _in_folders_of_masks(root, paths, photos, folders, options)
    apart = {file for folder in folders for file in folder.files}
    rivals = {place for folder in folders for place in folder.rivals} if strict else set()
    photos = [found for found in photos if found.file not in apart]
    names = {stem_of(found.below[-1]).casefold() for found in more}
    of_rivals = [found for found in photos if _lies_in(found.path[:-1], rivals)]
    if same := {found.file for found in of_rivals if stem_of(found.path[-1]).casefold() in names}:
        shown = some(sorted(f"{'/'.join(place)}/" for place in rivals), shown=3)
        line = (
            f"left out: other pictures of the same photos, in {shown}; to learn from these, call their folder images/"
        )
        aside[line] = same
        photos = [found for found in photos if found.file not in same]
    unpaired: list[Found] = []
    if not both:
        masks = _but_photos([found for found in masks if found.file not in apart])
        if rest := _rest_if_theirs(masks, photos):
            photos = rest
        else:
            masks, unpaired = [], masks
    if masks or more:
        return paired(root, paths, photos, masks + more, unreadable, strict, aside=aside)
    if strict and mask_folder:
        reason = f"--masks folder:{mask_folder}: {root} has no such folder whose files bear the names of its photos"
        raise DataError(reason, option="masks", value=mask_folder)
    if not images:
        _refuse_masks_alone(root, paths, strict)
    if images and {paths[found.file][0].lower() for found in images} == {"images"}:
        in_images = {found.file for found in images}
        photos = [found for found in photos if found.file in in_images]
    else:  # without images/ a class may be called masks/
        photos = [every[found.file] for found in photos]
    return _in_no_folders(root, paths, photos, images, unpaired, options, unreadable)


def _in_named_folders(paths: Files, mask_folder: str) -> list[Found]:
    """Pictures in folders that are called as those of masks are; or of one name, be they in such a folder or not."""
    if not mask_folder:
        return in_folders(paths, MASK_FOLDERS)
    masks = in_folders(paths, (mask_folder.lower(),))
    inside = [bool(found.above) and found.above[-1].lower() in MASK_FOLDERS for found in masks]
    return [replace(found, above=found.above[:-1]) if of else found for found, of in zip(masks, inside, strict=True)]


def _rest_if_theirs(masks: Sequence[Found], photos: Sequence[Found]) -> list[Found]:
    """The photos that are not among the masks, where half of the masks bear names of those; else nothing."""
    drawn = {found.file for found in masks}
    rest = [found for found in photos if found.file not in drawn] if masks else []
    names = Names(rest)
    return rest if 2 * sum(bool(names.named(found.parts)) for found in masks) >= len(masks) else []


def _refuse_masks_alone(root: Path, paths: Files, strict: bool) -> None:
    alone = [file for file, parts in paths.items() if parts[0].lower() == "masks" and parts[1:]]
    if alone and (strict or (len(alone) == len(paths) and likeness(alone).masks)):
        folder = paths[alone[0]][0]
        raise DataError(f"{root} has {folder}/ but no images/", "put the photos into images/", path=root)


def _in_no_folders(
    root: Path,
    paths: Files,
    photos: Sequence[Found],
    images: Sequence[Found],
    unpaired: Sequence[Found],
    options: DatasetOptions,
    unreadable: Collection[Path],
) -> Layout:
    """Photos with their masks beside them, or alone.

    Args:
        images: those in folders that are called so.
        unpaired: what lies in folders that are called after masks, but of no photos.
    """
    masks, drawn = _beside(photos)
    if masks:
        photos = [found for found in photos if found.file not in drawn]
        return paired(root, paths, photos, masks, unreadable, options.masks)
    called_images = any(part.lower() in IMAGE_FOLDERS for found in images for part in found.home)
    if options.masks and called_images and unpaired and likeness([found.file for found in unpaired]).areas:
        here, there = ("/".join(found.home) for found in (images[0], unpaired[0]))
        reason = f"{root}: photos lie in {here}/ and masks in {there}/, which are not side by side"
        raise DataError(reason, "put both folders into one", path=root)
    photos, told = without_masks(photos, drawn, lossy=called_images, by_folder=not options.labels)
    layout = Layout.of(photos, told)
    layout.count_left_out(paths, files_of(told))
    return layout


def _refuse_channels(images: Sequence[Found]) -> None:
    for found in images:
        if is_channel(found):
            reason = f"{found.file} is another channel of a photo, as nnU-Net has them in a file each"
            raise DataError(reason, "save the channels of each photo in one file, x_0000", path=found.file)


def _but_photos(masks: Sequence[Found]) -> list[Found]:
    """Without those in folders that hold photos, as a class of people with masks may be called."""
    folders: dict[tuple[str, ...], list[Found]] = defaultdict(list)
    for found in masks:
        folders[found.home].append(found)
    drawn = [group for group in folders.values() if not likeness([found.file for found in group]).photos]
    return [found for group in drawn for found in group]


def _refuse_others(
    root: Path, images: Sequence[Found], masks: Sequence[Found], folders: Sequence[MaskFolder], rules: Rules
) -> dict[str, Collection[Path]]:
    """Refuse a folder that is called as if it held masks, and fits the photos as well as that of the masks does.

    One that is called as if drawn of masks is none, nor is one whose name begins as theirs does, masks_old, or whose
    pictures alone are in colour: these are told.
    """
    told: dict[str, Collection[Path]] = {}
    aboves = {found.home: found.above for found in images}
    taken = {found.home: found.above for found in masks}
    names = Names(images)
    pairs = Counter(found.above for found in masks if names.named(found.parts))
    coloured = any(folder.coloured for folder in folders if folder.path in taken)
    for home, above in taken.items():
        fitting = [
            folder
            for folder in folders
            if aboves.get(folder.photos) == above
            and folder.path not in taken
            and folder.says_mask
            and not folder.is_drawn
            and folder.pairs >= _AS_WELL * pairs[above]
        ]
        others = [
            folder
            for folder in fitting
            if not folder.path[-1].casefold().startswith(home[-1].casefold()) and (coloured or not folder.coloured)
        ]
        if others:
            raise _several(root, [home, *(folder.path for folder in others)], rules)
        for folder in fitting:
            way = with_rule(rules, "folder", folder.path[-1])
            line = f"left out: other masks of the photos, in {'/'.join(folder.path)}/, which {way} takes"
            told[line] = tuple(folder.files)
    return told


def _refuse_rivals(root: Path, folders: Sequence[MaskFolder]) -> None:
    """Refuse masks that fit the photos of several folders, of which none is called as that of the photos is."""
    for folder in folders:
        if folder.unsure:
            fit = " and ".join(sorted(f"{'/'.join(place)}/" for place in (folder.photos, *folder.rivals)))
            reason = f"{root}: the masks in {'/'.join(folder.path)}/ fit the pictures in {fit} alike"
            raise DataError(reason, "call the folder to learn from images/, or move the others away", path=root)


def _several(
    root: Path, homes: Sequence[tuple[str, ...]], rules: Rules, elsewhere: Collection[str] | None = None
) -> DataError:
    """The error for folders of masks of the same photos.

    Args:
        elsewhere: names of the folders of other photos' masks, where there are such: one name has to do for all.
    """
    first = " and ".join(f"{'/'.join(home)}/" for home in homes)
    ways = [with_rule(rules, "folder", home[-1]) for home in homes if elsewhere is None or home[-1] in elsewhere]
    choose = f"pass {' or '.join(ways)}, or " if ways else ""
    reason = f"{root} has {len(homes)} folders that fit its photos as masks, {first}"
    others = "move the others away, or put them into a folder for each class in masks/, if each shows one"
    return DataError(reason, f"{choose}{others}", path=root)


def _in_folders_of_masks(
    root: Path, paths: Files, photos: Sequence[Found], folders: Sequence[MaskFolder], options: DatasetOptions
) -> list[Found]:
    """The masks in folders that are known by what they hold; where masks are asked for, one folder for each.

    Those that are called as if they held masks go before those that are not.
    """
    by_photos: dict[tuple[str, ...], list[MaskFolder]] = defaultdict(list)
    for folder in folders:
        by_photos[folder.photos].append(folder)
    masks = []
    for place, group in by_photos.items():
        if wanted := options.mask_folder.casefold():
            group = [folder for folder in group if folder.path[-1].casefold() == wanted]
        elif options.masks:
            group = [folder for folder in group if not folder.is_drawn] or group
            group = [folder for folder in group if not folder.coloured] or group
            group = [folder for folder in group if folder.says_mask] or group
            most = max(folder.pairs for folder in group)
            group = [folder for folder in group if folder.pairs >= _AS_WELL * most]
            if len(group) > 1 and not options.settled:
                others = [folder.path[-1] for folder in folders if folder.photos != place]
                elsewhere = {*others} if len(by_photos) > 1 else None
                raise _several(root, [folder.path for folder in group], options.mask_rules, elsewhere)
            group = group[:1]
        if options.masks and not options.settled:
            _refuse_rivals(root, group)
        one = next(found for found in photos if found.path[: len(place)] == place)
        above = one.parts[: max(0, len(one.parts) - len(one.path) + len(place))]
        masks += [Found(file, paths[file], above, below) for folder in group for file, below in folder.files.items()]
    return masks


def _lies_in(folder: tuple[str, ...], others: Collection[tuple[str, ...]]) -> bool:
    return any(folder[:length] in others for length in range(len(folder) + 1))


def _beside(files: Sequence[Found]) -> tuple[list[Found], set[Path]]:
    """Masks that lie beside their images and bear their names with a mark, and all that is no image then.

    A mark that people use is enough if most images have such a mask; else they have to look like masks too.
    """
    if drawn := _same_stems(files):
        return [found for found in files if found.file in drawn], drawn
    stems = {found.file: stem_of(found.parts[-1]) for found in files}
    by_folder: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for found in files:
        by_folder[found.parts[:-1]].add(stems[found.file].lower())
    pictures = {
        folder: next(name for name in IMAGE_STEMS if name in stems)
        for folder, stems in by_folder.items()
        if not stems.isdisjoint(IMAGE_STEMS) and stems & MASK_STEMS
    }
    called = [found for found in files if found.parts[:-1] in pictures and stems[found.file].lower() in MASK_STEMS]
    if likeness([found.file for found in called]).photos:
        pictures = {}
    marked = [found for found in files if strip(stem := stems[found.file]) or is_image(stem)]
    masks: set[Path] = set()
    if 3 * len(marked) >= len(files) or pictures:
        names = Names(files)
        of = {found.file: names.meant(found.parts) for found in marked if found.parts[:-1] not in pictures}
        meant = {files[index].file for indices in of.values() for index in indices}
        meant = {file for file in meant if has_letter_alone(stems[file])}  # x_L, whose mask is x_L_mask
        masks = {file for file, indices in of.items() if indices and file not in meant}
        masks = set() if likeness(sorted(masks)).photos else masks  # of people with and without a mask
        masks |= {  # beside image.png all is a mask or drawn of it
            found.file
            for found in files
            if stems[found.file].lower() != pictures.get(found.parts[:-1], stems[found.file].lower())
        }
    if 3 * len(masks) >= len(files):
        return [found for found in files if found.file in masks], masks
    alike = drawn_beside(files)
    return [found for file, found in alike.items() if not is_drawn(stem_of(file.name))], set(alike)


def _same_stems(files: Sequence[Found]) -> set[Path]:
    """Those of one kind beside those of another of the same names that look like masks, as PNGs beside JPEGs may."""
    if len({os.path.splitext(found.parts[-1])[1].lower() for found in files}) < 2:
        return set()
    by_name: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for found in files:
        by_name[(*found.parts[:-1], stem_of(found.parts[-1]))].append(found.file)
    kinds: dict[str, list[Path]] = defaultdict(list)
    for file in (file for several in by_name.values() if len(several) == 2 for file in several):
        kinds[file.suffix.lower()].append(file)
    looks = {kind: likeness(of_kind) for kind, of_kind in kinds.items()}
    alike = {kind for kind, look in looks.items() if look.masks and look.palette}
    return {file for kind in alike for file in kinds[kind]} if len(alike) < len(kinds) else set()
