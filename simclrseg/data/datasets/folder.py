"""A folder of the user's own: images only, `images/` + `masks/`, or one folder a class.

Splits are taken from ``train.txt``, ``val.txt``, ``test.txt`` (or ``trainval.txt``) beside them, which list stems, file
names or relative paths, one a line; or from folders named ``train``, ``val``, ``test``. Where most pictures are TIFFs
of other bands than a photo's, all are read with all their bands.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.data.datasets.base import DatasetOptions, FileDataset, read_alike
from simclrseg.data.datasets.values import deep_photos, tell_pages
from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.decode import is_image, list_files, stored_bands
from simclrseg.labels.masks import mask_details, pair_masks
from simclrseg.metadata import numbered_bands
from simclrseg.system.files import why_not_a_file

SPLITS = {
    "train": "train",
    "trainval": "trainval",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Names of lists and folders of splits -> the split."""
_LISTS = frozenset(f"{name}.txt" for name in SPLITS)
_LOOKED_AT = 100  # pictures, to see of which bands a folder's are
_KINDS = "JPEG, PNG, WebP, TIFF or other pictures"


def image_folder(root: Path, options: DatasetOptions) -> FileDataset:
    """Open a folder, whichever of the three layouts it has; what was understood is in ``summary``.

    Raises:
        DataError: if there is no image, or images, masks, lists and classes do not fit together.
    """
    folders = {child.name.lower(): child for child in _children(root)}
    image_root = folders.get("images", root)
    if "masks" in folders and image_root == root:
        raise DataError(f"{root} has {folders['masks'].name}/ but no images/", "put the photos into images/", path=root)
    listing = list_files(image_root)
    images, others = _sorted_out(listing.files)
    if not images:
        raise DataError(
            f"{image_root} holds no photos ({others or 'no readable file'})",
            f"give a folder of {_KINDS}",
            path=image_root,
        )

    around = os.path.commonpath([image.parent for image in images])  # a folder around all the others says nothing
    paths = [image.relative_to(around) for image in images]
    summary = [f"{root}: {len(images):,} photos"] + ([f"left out: {others}"] if others else [])
    by_folder = _split_folders(paths)
    official = _read_lists(root, image_root, images, summary) or by_folder

    masks: list[Path | None] = []
    details = _bands(images, summary) or deep_photos(images, summary)
    tell_pages(images, "photos", summary)
    if "masks" in folders and options.masks:
        masks, classes = _masks(images, listing.left_out, image_root, folders["masks"], options, summary)
        details |= classes
    elif options.classes is not None and options.masks:
        raise DataError(f"{root} has no masks/ beside images/", "leave --classes-file out, or add the masks", path=root)
    if image_root != root:
        for name in sorted(set(folders) - {"images", "masks"}):
            summary.append(
                f"left out: {folders[name].name}/ (photos are taken from {image_root.name}/, masks from masks/)"
            )

    depth = 1 if by_folder else 0  # of the folders of classes
    counts = Counter(path.parts[depth] if len(path.parts) > depth + 1 else "" for path in paths)
    if image_root == root and "" not in counts and len(counts) > 1:
        label_names = sorted(counts)
        details["label_names"] = label_names
        details["labels"] = np.array([label_names.index(path.parts[depth]) for path in paths], np.int64)
        parts = [f"{name} {counts[name]:,}" for name in label_names]
        summary.append(f"one folder a class: {len(label_names)} classes ({some(parts)})")
    for split, indices in official.items():
        summary.append(f"{split}: {len(indices):,} photos")
    return FileDataset(root.resolve().name, root, images, masks=masks, official=official, summary=summary, **details)


def _children(folder: Path) -> list[Path]:
    """The folders in a folder; an error where images or masks should lie and there is a link to nothing or the like."""
    try:
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
        folders = [child for child in children if child.is_dir()]
    except OSError as error:
        raise DataError(f"{folder} cannot be opened: {error.strerror}", path=folder) from error
    for child in children:
        if child.name.lower() in ("images", "masks") and child not in folders and (reason := why_not_a_file(child)):
            raise DataError(f"{child} is no folder ({reason})", "restore it, or remove it", path=child)
    return folders


def _sorted_out(files: Sequence[Path]) -> tuple[list[Path], str]:
    """Pictures, and what lies beside them: ``3 .heic, 1 .txt``."""
    pictures = [file for file in files if is_image(file.name)]
    others = [file for file in files if not is_image(file.name) and file.name not in _LISTS]
    suffixes = Counter(file.suffix.lower() or "without a suffix" for file in others)
    return pictures, some([f"{count:,} {suffix}" for suffix, count in suffixes.most_common()])


def _bands(images: Sequence[Path], summary: list[str]) -> dict[str, Any]:
    """The dataset's arguments for pictures that are no photos; nothing for photos."""
    kinds: dict[tuple[int, int] | None, list[Path]] = {}
    for image in images[:: -(-len(images) // _LOOKED_AT)]:
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
    summary.append(f"pictures of {bands} bands of {bits} bits, as {first.name} is: all bands are learned from")
    return {
        "read": partial(read_alike, bands=bands, bits=bits, whose=f"those of {first.name}"),
        "bands": numbered_bands(bands),
        "full_scale": 2**bits - 1,
    }


def _masks(
    images: Sequence[Path],
    unreadable: Collection[Path],
    image_root: Path,
    folder: Path,
    options: DatasetOptions,
    summary: list[str],
) -> tuple[list[Path | None], dict[str, Any]]:
    """The mask of each image, and the dataset's arguments that say what masks hold."""
    files, others = _sorted_out(list_files(folder).files)
    if not files:
        raise DataError(f"{folder} holds no masks ({others or 'no readable file'})", "save them as PNG", path=folder)
    tell_pages(files, "masks", summary)
    masks = pair_masks(images, files, image_root=image_root, into=folder, unreadable=unreadable)
    details, line = mask_details(images, masks, classes=options.classes, class_count=options.class_count)
    without = [
        image.relative_to(image_root).as_posix() for image, mask in zip(images, masks, strict=True) if mask is None
    ]
    summary.append(f"pairs of photo and mask: {len(images) - len(without):,}")
    if without:
        summary.append(f"photos without a mask: {len(without):,} ({some(without, shown=3)})")
    summary.append(line)
    return masks, details


def _split_folders(paths: Sequence[Path]) -> dict[str, list[int]]:
    """The splits of ``train/a.jpg``, ``test/b.jpg``; empty unless every image lies in such a folder."""
    splits: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        if len(path.parts) < 2 or path.parts[0].lower() not in SPLITS:
            return {}
        splits.setdefault(SPLITS[path.parts[0].lower()], []).append(index)
    return splits if len(splits) > 1 else {}


def _read_lists(root: Path, image_root: Path, images: Sequence[Path], summary: list[str]) -> dict[str, list[int]]:
    """The splits that text files in ``root`` list."""
    official: dict[str, list[int]] = {}
    for name, split in SPLITS.items():
        file = root / f"{name}.txt"
        if not os.path.lexists(file):
            continue
        if reason := why_not_a_file(file):
            raise DataError(
                f"{file} cannot be read as a list of photos ({reason})", "restore it, or remove it", path=file
            )
        if split in official:
            raise DataError(f"{root} has two lists for {split}, {file.name} among them", "keep one", path=root)
        official[split] = _read_list(file, _spellings(root, image_root, images))
    if "trainval" in official and "validation" in official and "train" not in official:
        held = set(official["validation"])  # trainval.txt + val.txt
        official["train"] = [index for index in official.pop("trainval") if index not in held]
    for first, second in (("train", "test"), ("trainval", "test"), ("validation", "test"), ("train", "validation")):
        both = sorted(set(official.get(first, ())) & set(official.get(second, ())))
        if both:
            raise DataError(
                f"{root}: {some([images[i].name for i in both])} in the lists of both {first} and {second}", path=root
            )
    listed = {index for indices in official.values() for index in indices}
    if listed and len(listed) < len(images):
        summary.append(f"photos in no list: {len(images) - len(listed):,}")
    return official


def _spellings(root: Path, image_root: Path, images: Sequence[Path]) -> dict[str, list[int]]:
    """Every way a list may name an image -> the images it names; the exact ways are first to be asked."""
    found: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        ways = [image.relative_to(root), image.relative_to(image_root), Path(image.name)]
        for way in {text for path in ways for text in (path.as_posix(), path.with_suffix("").as_posix())}:
            found.setdefault(way, []).append(index)
    return found


def _read_list(file: Path, spellings: dict[str, list[int]]) -> list[int]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as a list of photos: {error}", path=file) from error
    indices, unknown = [], []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        matches = spellings.get(line) or spellings.get(line.split()[0], [])  # Oxford's lists have more columns
        if len(matches) > 1:
            raise DataError(
                f"{file} names {line!r}, which fits {len(matches)} photos", "write the path and the suffix", path=file
            )
        if matches:
            indices.append(matches[0])
        else:
            unknown.append(line)
    if unknown:
        raise DataError(f"{file} names photos that are not there: {some(unknown)}", path=file)
    return sorted(set(indices))
