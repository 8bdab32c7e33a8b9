"""Which files of a folder are images, and which are their masks: by the names of folders and files that people use.

Masks lie in a folder of their own beside that of the images (``images/`` and ``masks/``, in each of ``train/``,
``val/`` and ``test/`` or around them), in one folder for each class in it, in a folder for each picture, or beside
their images as ``x_mask.png``, or as ``x.png`` beside ``x.jpg``. A name is compared without its suffix, then without
its mark, then in any case; composed and decomposed letters are the same.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.decode import is_image
from simclrseg.images.masks import read_stored_mask
from simclrseg.labels.reading import MaskFiles

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "pngimages", "photos")
MASK_FOLDERS = (
    "masks", "mask", "segmentationclass", "labels", "label", "annotations", "annotation", "ann_dir", "annot",
    "groundtruth", "ground_truth", "gt", "segmentations", "segmentation", "pedmasks", "masks_machine",
)  # fmt: skip
"""Names in any case, alone or behind another: train_masks. Of several beside one another the first is taken."""
_BEHIND_ANOTHER = re.compile(r"(.+?)[_\-. ]?(annot|(?<=[_\-. ])[a-z]+)", re.IGNORECASE)
_MARKS = "mask|masks|seg|segmentation|label|labels|gt|groundtruth|annotation|l"
_BEHIND = re.compile(rf"(.+?)[_\-. ]+({_MARKS})", re.IGNORECASE)
_BEFORE = re.compile(rf"(?:({_MARKS})[_\-. ]+|(?:mask|label|seg|gt)(?=\d))(.+)", re.IGNORECASE)
_OF_IMAGE = re.compile(r"(?:image|img|photo)(?:[_\-. ]+|(?=\d))(.+)|(.+?)[_\-. ]+(?:image|img|photo)", re.IGNORECASE)
_IMAGE_STEMS = frozenset({"image", "img", "photo"})
_MASK_STEMS = frozenset({"mask", "label", "seg"})
_LOOKED_AT = 5  # pictures, to see whether they are masks
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
        left_out: pictures that are neither, counted by their folder.
        lines: what is worth a line of the summary.
    """

    images: list[Path]
    below: list[PurePath]
    masks: list[MaskFiles | None] = field(default_factory=list)
    mask_files: int = 0
    parts: dict[Path, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """A file, with what lies above and below the folder that tells what it is."""

    file: Path
    above: tuple[str, ...]
    below: tuple[str, ...]
    kind: int = 0  # of that folder, by its place among the names

    @property
    def parts(self) -> tuple[str, ...]:
        """Its path as the layout means it."""
        return self.above + self.below


class _Names:
    """Images by their names: as they are written, and in any case."""

    def __init__(self, images: Sequence[_Found]) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._folded: dict[str, list[int]] = defaultdict(list)
        self._bare: dict[str, list[int]] = defaultdict(list)  # image_1, which mask_1 means
        for index, found in enumerate(images):
            path = _composed("/".join(found.parts))
            for name in (path, _stem(path)):
                self._exact[name].append(index)
                self._folded[name.casefold()].append(index)
            if match := _OF_IMAGE.fullmatch(_stem(found.parts[-1])):
                self._bare[_folded("/".join((*found.parts[:-1], match[1] or match[2])))].append(index)

    def meant(self, parts: tuple[str, ...]) -> list[int]:
        """The images that a mask's path means if its name bears a mark."""
        own = _bare(parts)
        return self._first(name for name in _meanings(parts) if name != own)

    def named(self, parts: tuple[str, ...]) -> list[int]:
        """The images that a mask's path names, by the most exact way that names any."""
        exact = self._exact.get(_stem(_composed("/".join(parts))))
        return exact or self._first(_meanings(parts))

    def _first(self, names: Iterable[str]) -> list[int]:
        names = list(names)
        return next((known[name] for known in (self._folded, self._bare) for name in names if name in known), [])


def lay_out(root: Path, files: Sequence[Path], *, unreadable: Collection[Path] = (), strict: bool = True) -> Layout:
    """Tell images and masks apart, and find the mask of each image.

    Args:
        files: pictures below ``root``.
        unreadable: what is left out below it; their masks are left out too.
        strict: False where masks are not asked for: whether each has its image does not matter then.

    Raises:
        DataError: for masks without an image, and for two masks of one.
    """
    images = [found for file in files if (found := _in_folder(root, file, IMAGE_FOLDERS))]
    masks = [found for file in files if (found := _in_folder(root, file, MASK_FOLDERS))]
    named = {found.file for found in (*images, *masks)}
    every = {file: _Found(file, _below(root, file)[:-1], (file.name,)) for file in files}
    others = [every[file] for file in files if file not in named]
    both = {found.above for found in images} & {found.above for found in masks}
    if both:
        kinds = {above: min(found.kind for found in masks if found.above == above) for above in both}
        masks = [found for found in masks if kinds.get(found.above) == found.kind]
        kept = [found for found in images + others if found.above in both or not _lies_in(found.above, both)]
        return _paired(root, files, kept, masks, unreadable, strict)
    if masks:
        names = _Names(others)
        if 2 * sum(bool(names.named(found.parts)) for found in masks) >= len(masks):
            return _paired(root, files, others, masks, unreadable, strict)
        if not images and (folder := next((path for path in root.iterdir() if path.name.lower() == "masks"), None)):
            raise DataError(f"{root} has {folder.name}/ but no images/", "put the photos into images/", path=root)
    photos = list(every.values())  # without images/ a class may be called masks/
    if any(part.lower() in IMAGE_FOLDERS for found in images for part in _below(root, found.file)[:-1]):
        drawn = {found.file for found in masks}
        photos = [found for found in photos if found.file not in drawn]
    if images and {_below(root, found.file)[0].lower() for found in images} == {"images"}:
        photos = images
    elif beside := _beside(photos):
        masks = [found for found in photos if found.file in beside]
        return _paired(root, files, [found for found in photos if found.file not in beside], masks, unreadable, strict)
    layout = Layout([found.file for found in photos], [PurePath(*found.parts) for found in photos])
    _count_left_out(layout, root, files)
    return layout


def _in_folder(root: Path, file: Path, names: Sequence[str]) -> _Found | None:
    parts = _below(root, file)
    for place, part in enumerate(parts[:-1]):
        match = None if part.lower() in names else _BEHIND_ANOTHER.fullmatch(part)
        name = match[2] if match else part
        if name.lower() in names:
            other = (match[1],) if match else ()
            return _Found(file, (*parts[:place], *other), parts[place + 1 :], names.index(name.lower()))
    return None


def _lies_in(folder: tuple[str, ...], others: Collection[tuple[str, ...]]) -> bool:
    return any(folder[:length] in others for length in range(len(folder) + 1))


def _below(root: Path, file: Path) -> tuple[str, ...]:
    return file.parts[len(root.parts) :]  # as relative_to has it, which is slow where files are many


def _beside(files: Sequence[_Found]) -> set[Path]:
    """Masks that lie beside their images and bear their names with a mark, if most images have one."""
    by_folder: dict[Path, set[str]] = defaultdict(set)
    for found in files:
        by_folder[found.file.parent].add(found.file.stem.lower())
    if drawn := _same_stems(files):
        return drawn
    pictures = {folder for folder, stems in by_folder.items() if stems & _IMAGE_STEMS and stems & _MASK_STEMS}
    marked = [found for found in files if _strip(found.file.stem) or is_image(found.file.stem)]
    if 3 * len(marked) < len(files) and not pictures:
        return set()
    names = _Names(files)
    masks = {found.file for found in marked if names.meant(found.parts) and found.file.parent not in pictures}
    masks |= {  # beside image.png all is a mask or drawn of it
        found.file for found in files if found.file.parent in pictures and found.file.stem.lower() not in _IMAGE_STEMS
    }
    return masks if 3 * len(masks) >= len(files) else set()


def _same_stems(files: Sequence[_Found]) -> set[Path]:
    """The PNGs beside JPEGs of the same name, if most JPEGs have one and PNGs look like masks: they hold no colours."""
    photos = {found.file.with_suffix("") for found in files if found.file.suffix.lower() in (".jpg", ".jpeg")}
    drawn = [found.file for found in files if found.file.suffix.lower() == ".png"]
    drawn = [file for file in drawn if file.with_suffix("") in photos]
    if 2 * len(drawn) < max(1, len(photos)) or len(photos) + len(drawn) < len(files):
        return set()
    with suppress(ImageError):
        if all(read_stored_mask(file).values.ndim == 2 for file in drawn[:: -(-len(drawn) // _LOOKED_AT)]):
            return set(drawn)
    return set()


def _paired(
    root: Path,
    files: Sequence[Path],
    images: Sequence[_Found],
    masks: Sequence[_Found],
    unreadable: Collection[Path],
    strict: bool,
) -> Layout:
    layout = Layout([found.file for found in images], [PurePath(*found.parts) for found in images])
    names = _Names(images)
    found_for: dict[int, list[Path]] = defaultdict(list)
    lost: list[_Found] = []
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
    gone = {_bare(parts) for path in unreadable if (parts := _parts(root, path))}
    lost = [found for found in lost if gone.isdisjoint([*_meanings(found.parts), *_parents(found.parts)])]
    if lost and strict:
        count = f"{len(lost):,} of {len(masks):,}"
        first = some([found.file.relative_to(root).as_posix() for found in lost])
        raise DataError(f"{root}: masks without a photo of their name: {count}, {first}", path=root)
    layout.masks, layout.mask_files = [None] * len(images), len(masks)
    for index, of_image in found_for.items():
        layout.masks[index] = tuple(of_image) if of_image[0] in layout.parts else of_image[0]
        if strict and len(of_image) > 1 and of_image[0] not in layout.parts:
            image, (first, second) = layout.images[index], [mask.name for mask in of_image[:2]]
            raise DataError(f"{image} has two masks, {first} and {second}", "keep one", path=image)
    if unclear:
        layout.lines.append(f"masks that fit several photos, and are left out: {len(unclear):,} ({some(unclear)})")
    _count_left_out(layout, root, files, {found.file for found in masks})
    return layout


_PARTS = {"train", "val", "valid", "validation", "test"}


def _by_class(
    lost: Sequence[_Found], names: _Names, found_for: dict[int, list[Path]], parts: dict[Path, str]
) -> list[_Found]:
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
    lost: Sequence[_Found],
    pictures: Mapping[tuple[str, ...], int],
    found_for: dict[int, list[Path]],
    parts: dict[Path, str],
) -> list[_Found]:
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
    return [_bare(parts[:length]) for length in range(1, len(parts))]


def _meanings(parts: tuple[str, ...]) -> Iterator[str]:
    """Names of images, in lower case, that a mask's path may mean: without its suffix, then without its mark too."""
    *folders, name = parts
    stem = _stem(name)
    for text in filter(None, (stem, _strip(stem))):
        bare = _stem(text) if is_image(text) else text  # x.jpg.png
        for way in dict.fromkeys((text, bare, _strip(bare) or bare)):
            yield _folded("/".join((*folders, way)))


def _strip(stem: str) -> str | None:
    """A name without the mark of a mask."""
    if match := _BEHIND.fullmatch(stem):
        return match[1]
    match = _BEFORE.fullmatch(stem)
    return match[2] if match else None


def _bare(parts: tuple[str, ...]) -> str:
    return _folded(_stem("/".join(parts)))


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return _composed(text).casefold()


def _count_left_out(layout: Layout, root: Path, files: Sequence[Path], masks: Collection[Path] = frozenset()) -> None:
    used = {*layout.images, *masks}
    tops = (_below(root, file) for file in files if file not in used)
    layout.left_out.update(f"{top[0]}/" if len(top) > 1 else "beside them" for top in tops)
