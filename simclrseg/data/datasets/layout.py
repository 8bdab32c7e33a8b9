"""Which files of a folder are images, and which are their masks: by the names of folders and files that people use.

Masks lie in a folder of their own beside that of the images (``images/`` and ``masks/``, in each of ``train/``,
``val/`` and ``test/`` or around them), in one folder for each class in it, in a folder for each picture, or beside
their images as ``x_mask.png``, or as ``x.png`` beside ``x.jpg``. Folders and marks of other names are known by what
the pictures hold (``masklike``).
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from simclrseg.data.datasets.masklike import MaskFolder, drawn_beside, is_drawn, mask_folders, strays
from simclrseg.data.datasets.pairing import Found, Names, bare_name, meanings, object_of, stem_of, strip
from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.decode import is_image
from simclrseg.images.masks import read_stored_mask
from simclrseg.labels.likeness import likeness, sample
from simclrseg.labels.reading import MaskFiles

IMAGE_FOLDERS = (
    "images", "image", "imgs", "img", "img_dir", "jpegimages", "pngimages", "photos", "leftimg8bit",
)  # fmt: skip
MASK_FOLDERS = (
    "masks", "mask", "segmentationclass", "labels", "label", "annotations", "annotation", "ann_dir", "annot",
    "groundtruth", "ground_truth", "ground truth", "gt", "segmentations", "segmentation", "segmentationclasspng",
    "gtfine", "gtcoarse", "pedmasks", "masks_machine",
)  # fmt: skip
"""Names in any case, alone or behind another: train_masks. Of several beside one another the first is taken, unless
another fits the photos as well."""
_BEHIND_ANOTHER = re.compile(r"(.+?)[_\-. ]?(annot|(?<=[_\-. ])[a-z]+)", re.IGNORECASE)
_OF_NNUNET = re.compile(r"(images|labels)(tr|ts)", re.IGNORECASE)
_CHANNEL = re.compile(r".+_\d{3}[1-9]\.\w+")  # of nnU-Net; the first is 0000
_IMAGE_STEMS = frozenset({"image", "img", "photo"})
_MASK_STEMS = frozenset({"mask", "label", "seg"})
_AS_WELL = 0.9  # of the photos that one folder of masks fits, and another
_SAME_PLACE = 0.5  # of the smaller of two masks: they are of one object
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
        left_out: pictures that are neither, counted by their folder.
        lines: what is worth a line of the summary.
    """

    images: list[Path]
    below: list[PurePath]
    masks: list[MaskFiles | None] = field(default_factory=list)
    mask_files: int = 0
    parts: dict[Path, str] = field(default_factory=dict)
    where: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


def lay_out(
    root: Path,
    files: Sequence[Path],
    *,
    unreadable: Collection[Path] = (),
    strict: bool = True,
    mask_folder: str = "",
) -> Layout:
    """Tell images and masks apart, and find the mask of each image.

    Args:
        files: pictures below ``root``.
        unreadable: what is left out below it; their masks are left out too.
        strict: False where masks are not asked for: whether each has its image does not matter then.
        mask_folder: the name of the folder of masks, where it is given.

    Raises:
        DataError: for masks without an image, two masks of one, or two folders that may be those of the masks.
    """
    mask_names = (mask_folder.lower(),) if mask_folder else MASK_FOLDERS
    images = [found for file in files if (found := _in_folder(root, file, IMAGE_FOLDERS))]
    masks = [found for file in files if (found := _in_folder(root, file, mask_names))]
    named = {found.file: found for found in (*masks, *images)}
    paths = {file: _below(root, file) for file in files}
    every = {file: Found(file, parts[:-1], parts[-1:]) for file, parts in paths.items()}
    others = [every[file] for file in files if file not in named]
    folders = mask_folders(paths, wanted=mask_folder)
    both = {found.above for found in images} & {found.above for found in masks}
    if strict:
        _refuse_channels(images)
    if both:
        kinds = {above: min(found.kind for found in masks if found.above == above) for above in both}
        masks = [found for found in masks if kinds.get(found.above) == found.kind]
        photos = [found for found in images + others if found.above in both or not _lies_in(found.above, both)]
        if strict and not mask_folder:
            _refuse_others(root, images, masks, folders)
    else:
        in_images = {found.file for found in images}
        photos = images + [found for file, found in every.items() if file not in in_images]
    kept = {found.file for found in photos}
    folders = [folder for folder in folders if not kept.isdisjoint(folder.files)]
    more = _in_folders_of_masks(root, photos, folders, strict, mask_folder)
    apart = {file for folder in folders for file in folder.files}
    photos = [found for found in photos if found.file not in apart]
    if not both:
        masks = _but_photos(root, [found for found in masks if found.file not in apart])
        drawn = {found.file for found in masks}
        names = Names(rest := [found for found in photos if found.file not in drawn]) if masks else None
        if names and 2 * sum(bool(names.named(found.parts)) for found in masks) >= len(masks):
            photos, more = rest, more + masks
        masks, unpaired = [], masks
    if masks or more:
        return _paired(root, files, photos, masks + more, unreadable, strict)
    if strict and mask_folder:
        reason = f"--masks folder:{mask_folder}: {root} has no such folder whose files bear the names of its photos"
        raise DataError(reason, option="masks", value=mask_folder)
    masks_alone = [file for file, parts in paths.items() if not images and parts[0].lower() == "masks" and parts[1:]]
    if masks_alone and (strict or likeness(masks_alone).masks):
        folder = paths[masks_alone[0]][0]
        raise DataError(f"{root} has {folder}/ but no images/", "put the photos into images/", path=root)
    if images and {paths[found.file][0].lower() for found in images} == {"images"}:
        in_images = {found.file for found in images}
        photos = [found for found in photos if found.file in in_images]
    else:  # without images/ a class may be called masks/
        photos = [every[found.file] for found in photos]
    return _in_no_folders(root, files, photos, images, unpaired, unreadable, strict)


def _in_no_folders(
    root: Path,
    files: Sequence[Path],
    photos: Sequence[Found],
    images: Sequence[Found],
    unpaired: Sequence[Found],
    unreadable: Collection[Path],
    strict: bool,
) -> Layout:
    """Photos with their masks beside them, or alone.

    Args:
        images: those in folders that are called so.
        unpaired: what lies in folders that are called after masks, but of no photos.
    """
    masks, drawn = _beside(photos)
    if masks:
        photos = [found for found in photos if found.file not in drawn]
        return _paired(root, files, photos, masks, unreadable, strict)
    called_images = any(part.lower() in IMAGE_FOLDERS for found in images for part in _home(root, found))
    if strict and called_images and unpaired and likeness([found.file for found in unpaired]).areas:
        here, there = ("/".join(_home(root, found)) for found in (images[0], unpaired[0]))
        reason = f"{root}: photos lie in {here}/ and masks in {there}/, which are not side by side"
        raise DataError(reason, "put both folders into one", path=root)
    photos, told = _without_masks(root, photos, drawn, lossy=called_images)
    layout = Layout([found.file for found in photos], [PurePath(*found.parts) for found in photos], lines=list(told))
    _count_left_out(layout, root, files, _files_of(told))
    return layout


def _in_folder(root: Path, file: Path, names: Sequence[str]) -> Found | None:
    parts = _below(root, file)
    for place, part in enumerate(parts[:-1]):
        above, below, name = parts[:place], parts[place + 1 :], part.lower()
        if name in names:
            return Found(file, above, below, names.index(name))
        if (match := _OF_NNUNET.fullmatch(name)) and match[1] in names:
            stem, suffix = stem_of(below[-1]), PurePath(below[-1]).suffix
            below = (*below[:-1], (stem.removesuffix("_0000") if match[1] == "images" else stem) + suffix)
            return Found(file, (*above, {"tr": "train", "ts": "test"}[match[2]]), below, names.index(match[1]))
        if (match := _BEHIND_ANOTHER.fullmatch(part)) and match[2].lower() in names:
            return Found(file, (*above, match[1]), below, names.index(match[2].lower()))
    return None


def _home(root: Path, found: Found) -> tuple[str, ...]:
    """The folder below ``root`` that tells what a file is."""
    return _below(root, found.file)[: -len(found.below)]


def _refuse_channels(images: Sequence[Found]) -> None:
    for found in images:
        if _CHANNEL.fullmatch(found.below[-1]) and _OF_NNUNET.fullmatch(found.file.parts[-1 - len(found.below)]):
            reason = f"{found.file} is another channel of a photo, as nnU-Net has them in a file each"
            raise DataError(reason, "save the channels of each photo in one file, x_0000", path=found.file)


def _but_photos(root: Path, masks: Sequence[Found]) -> list[Found]:
    """Without those in folders that hold photos, as a class of people with masks may be called."""
    folders: dict[tuple[str, ...], list[Found]] = defaultdict(list)
    for found in masks:
        folders[_home(root, found)].append(found)
    drawn = [group for group in folders.values() if not likeness([found.file for found in group]).photos]
    return [found for group in drawn for found in group]


def _refuse_others(root: Path, images: Sequence[Found], masks: Sequence[Found], folders: Sequence[MaskFolder]) -> None:
    """Refuse a folder that fits the photos as well as that of the masks does, and is not called as if drawn of it."""
    aboves = {_home(root, found): found.above for found in images}
    taken = {_home(root, found): found.above for found in masks}
    names = Names(images)
    pairs = Counter(found.above for found in masks if names.named(found.parts))
    coloured = any(folder.coloured for folder in folders if folder.path in taken)
    for home, above in taken.items():
        others = [
            folder.path
            for folder in folders
            if aboves.get(folder.photos) == above and folder.path not in taken and not folder.is_drawn
            if folder.pairs >= _AS_WELL * pairs[above] and (coloured or not folder.coloured)
        ]
        if others:
            raise _several(root, [home, *others])


def _several(root: Path, homes: Sequence[tuple[str, ...]]) -> DataError:
    first = " and ".join(f"{'/'.join(home)}/" for home in homes)
    ways = " or ".join(f"--masks folder:{home[-1]}" for home in homes)
    return DataError(
        f"{root} has {len(homes)} folders that fit its photos as masks, {first}", f"pass {ways}", path=root
    )


def _in_folders_of_masks(
    root: Path, photos: Sequence[Found], folders: Sequence[MaskFolder], strict: bool, wanted: str
) -> list[Found]:
    """The masks in folders that are known by what they hold; where masks are asked for, one folder for each."""
    by_photos: dict[tuple[str, ...], list[MaskFolder]] = defaultdict(list)
    for folder in folders:
        by_photos[folder.photos].append(folder)
    masks = []
    for place, group in by_photos.items():
        if wanted:
            group = [folder for folder in group if folder.path[-1].casefold() == wanted.casefold()]
        elif strict:
            group = [folder for folder in group if not folder.is_drawn] or group
            group = [folder for folder in group if not folder.coloured] or group
            most = max(folder.pairs for folder in group)
            group = [folder for folder in group if folder.pairs >= _AS_WELL * most]
            if len(group) > 1:
                raise _several(root, [folder.path for folder in group])
        inside = ((found, _below(root, found.file)) for found in photos)
        one, parts = next((found, parts) for found, parts in inside if parts[: len(place)] == place)
        above = one.parts[: len(one.parts) - len(parts) + len(place)]
        masks += [Found(file, above, below) for folder in group for file, below in folder.files.items()]
    return masks


def _lies_in(folder: tuple[str, ...], others: Collection[tuple[str, ...]]) -> bool:
    return any(folder[:length] in others for length in range(len(folder) + 1))


def _below(root: Path, file: Path) -> tuple[str, ...]:
    return file.parts[len(root.parts) :]  # as relative_to has it, which is slow where files are many


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
    pictures = {folder for folder, stems in by_folder.items() if stems & _IMAGE_STEMS and stems & _MASK_STEMS}
    marked = [found for found in files if strip(stem := stems[found.file]) or is_image(stem)]
    masks: set[Path] = set()
    if 3 * len(marked) >= len(files) or pictures:
        names = Names(files)
        masks = {found.file for found in marked if names.meant(found.parts) and found.parts[:-1] not in pictures}
        masks = set() if likeness(sorted(masks)).photos else masks  # of people with and without a mask
        masks |= {  # beside image.png all is a mask or drawn of it
            found.file
            for found in files
            if found.parts[:-1] in pictures and stems[found.file].lower() not in _IMAGE_STEMS
        }
    if 3 * len(masks) >= len(files):
        return [found for found in files if found.file in masks], masks
    alike = drawn_beside(files)
    return [found for file, found in alike.items() if not is_drawn(stem_of(file.name))], set(alike)


def _without_masks(
    root: Path, photos: Sequence[Found], beside: Collection[Path], *, lossy: bool
) -> tuple[list[Found], dict[str, Collection[Path]]]:
    """Photos without the pictures among them that are masks by name and content, and lines, each on some of these.

    Args:
        beside: those that are known by the names of photos in the same folder.
        lossy: those in lossy files count too where a folder says that it holds masks.
    """
    told: dict[str, Collection[Path]] = {}
    if beside:
        shown = some([file.name for file in beside], shown=2)
        told[f"left out: pictures that bear photos' names and look like masks: {len(beside):,} ({shown})"] = beside
    photos = [found for found in photos if found.file not in beside]
    elsewhere = [found.file for found in photos if not _in_folder(root, found.file, IMAGE_FOLDERS)]
    if astray := strays({file: _below(root, file) for file in elsewhere}, lossy=lossy):
        shown = some(sorted({file.parent.relative_to(root).as_posix() + "/" for file in astray}), shown=2)
        told[f"left out: pictures that look like masks, in folders that say so: {len(astray):,} ({shown})"] = astray
    return [found for found in photos if found.file not in astray], told


def _files_of(told: Mapping[str, Collection[Path]]) -> set[Path]:
    return set[Path]().union(*told.values())


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
    alike = {kind for kind, of_kind in kinds.items() if likeness(of_kind).masks}
    return {file for kind in alike for file in kinds[kind]} if len(alike) < len(kinds) else set()


def _paired(
    root: Path,
    files: Sequence[Path],
    images: Sequence[Found],
    masks: Sequence[Found],
    unreadable: Collection[Path],
    strict: bool,
) -> Layout:
    images, told = _without_masks(root, images, drawn_beside(images), lossy=True)
    names = Names(images)
    of_masks, masks = masks, _without_drawn(masks, names)
    if beside := {found.file for found in of_masks} - {found.file for found in masks}:
        shown = some(sorted(file.name for file in beside), shown=3)
        told[f"left out: pictures that show the masks in another way: {len(beside):,} ({shown})"] = beside
    layout = Layout([found.file for found in images], [PurePath(*found.parts) for found in images], lines=list(told))
    found_for: dict[int, list[Path]] = defaultdict(list)
    lost: list[Found] = []
    unclear: list[str] = []
    for found in masks:
        indices = names.named(found.parts)
        if len(indices) > 1:
            unclear.append(found.file.name)
        elif indices:
            found_for[indices[0]].append(found.file)
        else:
            lost.append(found)
    if lost and not found_for:
        lost = _by_class(lost, names, found_for, layout.parts)
    pictures = {found.above: index for index, found in enumerate(images)}
    if lost and not found_for and len(pictures) == len(images) > 1:  # a folder for each
        lost = _by_picture(lost, pictures, found_for, layout.parts)
    gone = {bare_name(parts) for path in unreadable if (parts := _parts(root, path))}
    lost = [found for found in lost if gone.isdisjoint([*meanings(found.parts), *_parents(found.parts)])]
    if lost and strict:
        raise _unpaired(root, lost, masks, [found for index, found in enumerate(images) if index not in found_for])
    if strict:
        _join_objects(layout, found_for)
    layout.masks, layout.mask_files = [None] * len(images), len(masks)
    for index, of_image in found_for.items():
        layout.masks[index] = tuple(of_image) if of_image[0] in layout.parts else of_image[0]
    if unclear:
        layout.lines.append(f"masks that fit several photos, and are left out: {len(unclear):,} ({some(unclear)})")
    layout.where = _where(root, images, masks)
    _count_left_out(layout, root, files, _files_of(told) | {found.file for found in masks})
    return layout


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
        return some([each.file.relative_to(root).as_posix() for each in found], shown=2)

    reason = f"{root}: masks without a photo of their name: {len(lost):,} of {len(masks):,}, {listed(lost)}"
    if not photos:
        return DataError(f"{reason}; every photo has one", "move them away, or add their photos", path=root)
    first = photos[0].file.relative_to(root).as_posix()
    folder = "/".join(_home(root, lost[0]))
    path = "/".join((*([folder] if folder else []), *photos[0].below[:-1], f"{photos[0].file.stem}.png"))
    photo_names = f"photos without a mask: {len(photos):,}, {listed(photos)}"
    return DataError(
        f"{reason}; {photo_names}", f"call the mask of {first} {path}, or move masks without photos away", path=root
    )


def _where(root: Path, images: Sequence[Found], masks: Sequence[Found]) -> str:
    """Where masks lie, in words."""
    around = {found.file.parent for found in images}
    homes = Counter("/".join(_home(root, found)) for found in masks if found.file.parent not in around)
    words = [f"in {some([f'{home}/' for home, _ in homes.most_common()], shown=3)}"] if homes else []
    return " and ".join(words + ["beside their photos"] * (homes.total() < len(masks)))


_PARTS = {"train", "val", "valid", "validation", "test"}


def _by_class(
    lost: Sequence[Found], names: Names, found_for: dict[int, list[Path]], parts: dict[Path, str]
) -> list[Found]:
    """Take the folders below that of the masks for classes, where this finds an image for nearly each of them."""
    fits = {found: names.named(found.above + found.below[1:]) for found in lost if len(found.below) > 1}
    folders = Counter(found.below[0].lower() for found in fits)
    seen = Counter(index for indices in fits.values() for index in indices)
    if max(seen.values(), default=0) == 1 and (len(folders) > 1 or folders.keys() & _PARTS):
        return list(lost)  # parts of the set, or masks of several people: no image has two
    if 10 * sum(len(indices) == 1 for indices in fits.values()) < 9 * len(lost):
        return list(lost)
    for found, indices in fits.items():
        if len(indices) == 1:
            found_for[indices[0]].append(found.file)
            parts[found.file] = found.below[0]
    return [found for found in lost if len(fits.get(found, ())) != 1]


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
        elif found.file.stem.lower() in _MASK_STEMS:  # others are drawn of it, as label_viz.png
            found_for[index].append(found.file)
    return rest


def _parts(root: Path, path: Path) -> tuple[str, ...]:
    """A path below ``root`` as the layout means it."""
    found = _in_folder(root, path, IMAGE_FOLDERS)
    return found.parts if found else _below(root, path)


def _parents(parts: tuple[str, ...]) -> list[str]:
    return [bare_name(parts[:length]) for length in range(1, len(parts))]


def _count_left_out(layout: Layout, root: Path, files: Sequence[Path], told: Collection[Path]) -> None:
    used = {*layout.images, *told}
    tops = (_below(root, file) for file in files if file not in used)
    layout.left_out.update(f"{top[0]}/" if len(top) > 1 else "beside them" for top in tops)
