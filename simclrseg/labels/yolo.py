"""YOLO's segmentation labels: a line an object, its class and a polygon in widths and heights of the image.

Read as Ultralytics, Roboflow, CVAT and Label Studio write them: ``data.yaml`` names classes and splits, the labels of
``images/train/a.jpg`` are ``labels/train/a.txt``; the names may be in ``classes.txt`` as well.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, some
from simclrseg.images.listing import is_image, is_photo, list_files, tell_unread, unread_photos
from simclrseg.labels.classes import MAX_CLASSES, numbered_classes
from simclrseg.labels.labelled import (
    Labelled,
    LabelledImage,
    class_ids,
    left_out,
    raise_first,
    refuse_other_files,
    ring,
)
from simclrseg.labels.paths import Folders, plain
from simclrseg.labels.polygons import Object, keyhole, trace
from simclrseg.system.identify import why_not_a_file

CLASSES_FILE = "classes.txt"
_CLASSES_FILES = (CLASSES_FILE, "obj.names")  # the other as Darknet calls it
_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_MOST_DIGITS = 9  # of a class's number
_SLACK = 0.01  # of a side, by which rounding may leave the image, as in Ultralytics


def is_yolo(content: Any) -> bool:
    """Tell whether the content of a YAML file is that of a ``data.yaml``, with the places of its images."""
    return names_classes(content) and not _SPLITS.keys().isdisjoint(content)


def names_classes(content: Any) -> bool:
    """Tell whether the content of a YAML file has names of classes."""
    return isinstance(content, dict) and "names" in content


def read_yolo(file: Path, content: Mapping[str, Any]) -> Labelled:
    """Read the set of a ``data.yaml``, given its content."""
    classes = _names(file, content)
    folders = Folders()
    base = file.parent / str(content.get("path") or ".").replace("\\", "/")
    bases = [base, file.parent] if base.is_dir() else [file.parent]  # it may be written for another machine
    named = {key: _listed(content.get(key)) for key in _SPLITS}
    ends = Counter(plain(path.name) for path in {_path(name) for names in named.values() for name in names})
    parts: dict[str, list[Path]] = {}
    notes: list[str] = []
    for key, split in _SPLITS.items():
        images = [_images(bases, name, ends, folders, notes) for name in named[key]]
        if None not in images:
            parts.setdefault(split, []).extend(image for some in images for image in some or ())
        elif split == "train":
            raise DataError(f"{file}: {key} is {content[key]}, which is not there", "correct the path", path=file)
        else:  # Roboflow names folders of parts that an export has not
            notes.append(f"{file.name}: {key} is {content[key]}, which is not there")
    parts = {split: images for split, images in parts.items() if images}
    for split, other in (("validation", "train"), ("test", "train"), ("validation", "test")):
        if split in parts and parts[split] == parts.get(other):
            del parts[split]
            notes.append(f"{file.name}: {split} and {other} are the same photos: others are chosen for {split}")
    files = list(dict.fromkeys(image for images in parts.values() for image in images))
    parts = {split: [image for image in images if is_image(image.name)] for split, images in parts.items()}
    splits = {split: images for split, images in parts.items() if images} if len(parts) > 1 else {}
    found = _read(files, classes, file, folders, splits)
    found.notes += notes
    return found


def _names(file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """The classes that a YAML file names, by their numbers."""
    if "kpt_shape" in content:
        raise DataError(f"{file} names keypoints (kpt_shape), and no segmentation", "export polygons", path=file)
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(_number(str(key)) >= 0 for key in names):
        raise DataError(f"{file}: names must be a list, or map numbers to names", path=file)
    for key, name in names.items():
        if isinstance(name, bool) or not isinstance(name, str | int | float):  # as of `no` and `off`
            taken = f"YAML takes the name of class {key} for {json.dumps(name, default=str)}"
            raise DataError(f"{file}: {taken}", "put it in quotes", path=file)
    numbered = {int(key): str(name) for key, name in names.items()}
    if len(numbered) < len(names):
        raise DataError(f"{file} has two names for one number", "keep one", path=file)
    return numbered


def read_yolo_folder(folder: Path, photos: Iterable[Path], contents: Mapping[Path, Any]) -> Labelled:
    """Read images whose labels lie beside them, or in ``labels/``.

    Args:
        photos: those that are not read too.
        contents: of the YAML files that name classes; they are named in ``classes.txt`` too.
    """
    folders = Folders()
    files = list(photos)
    where = [folder, folders.find(folder, ["labels"]), *sorted({labels_of(image, folders).parent for image in files})]
    names = {file: _names(file, content) for file, content in contents.items()}
    for place, name in product(filter(None, where), _CLASSES_FILES):
        file = folders.find(place, [name])
        if file is not None and file.is_file():
            lines = [line.strip() for line in _text_of(file).splitlines()]
            names[file] = dict(enumerate(line for line in lines if line))
            if names[file]:
                refuse_other_files(file)
    first = next(iter(names), folder)
    if other := next((file for file in names if names[file] != names[first]), None):
        raise DataError(f"{first} and {other} name different classes", "keep the right one", path=other)
    return _read(files, names.get(first, {}), first, folders)


def labels_of(image: Path, folders: Folders) -> Path:
    """The file of an image's labels: in ``labels`` in the place of the last ``images`` of its path, or beside it."""
    text = image.with_suffix(".txt").name
    above = [place for place, part in enumerate(image.parts[:-1]) if plain(part) == "images"]
    ways = [(image.parent, [text])]
    if above:
        ways.insert(0, (Path(*image.parts[: above[-1]]), ["labels", *image.parts[above[-1] + 1 : -1], text]))
    found = (folders.find(*way) for way in ways)
    return next((file for file in found if file is not None and file.is_file()), Path(ways[0][0], *ways[0][1]))


def _listed(named: Any) -> list[str]:
    return [str(name) for name in named] if isinstance(named, list) else [str(named)] if named else []


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _find(bases: Iterable[Path], path: PurePosixPath, folders: Folders, least: int) -> Path | None:
    """What a path of the set means: below one of the bases, as it stands, or by its end, of ``least`` parts or more."""
    parts = [part for part in path.parts if part not in ("/", "..")]
    # Roboflow writes ../train/images of what lies beside the file; a path of another machine is found by its end
    ends = [parts[start:] for start in range(len(parts)) if start == 0 or len(parts) - start >= least]
    ways: list[tuple[Path, Sequence[str]]] = [(base, end) for end in ends[:1] for base in bases]
    own = Path(str(path))  # on Windows a drive's letter makes it absolute too
    ways += [(Path(own.anchor), own.parts[1:])] if own.is_absolute() else [(base, path.parts) for base in bases]
    ways += [(base, end) for end in ends[1:] for base in bases]
    found = (folders.find(*way) for way in ways)
    return next((one for one in found if one is not None and one.exists()), None)


def _images(
    bases: Sequence[Path], name: str, ends: Mapping[str, int], folders: Folders, notes: list[str]
) -> list[Path] | None:
    """The photos of a folder, or of a list in a text file; None where there is no such thing.

    Args:
        ends: how many of the paths in the file have that last part, which may be another part's where it is not the
            only one.
    """
    path = _path(name)
    place = _find(bases, path, folders, 1 if ends[plain(path.name)] == 1 else 2)
    if place is not None and place == place.parent:
        raise DataError(f"{name} is the whole machine, and no folder of photos", "correct the path", path=place)
    if place is None or place.is_dir():
        return list_files(place, is_photo).files if place else None
    if reason := why_not_a_file(place):  # a device may never end
        raise DataError(f"{place}: {reason}", "name a folder of photos, or a list of them", path=place)
    try:
        lines = place.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:  # as of a bad disk, or of a file of the system
        raise DataError(
            f"{place}: {error.strerror}", "name a folder of photos, or a list of them", path=place
        ) from error
    found, missing = [], []
    for line in filter(None, map(str.strip, lines)):
        image = _find([place.parent, *bases], _path(line.removeprefix("data/")), folders, 2)
        if image is not None and is_photo(image.name):
            found.append(image)
        else:
            missing.append(line)
    if missing and not found:
        raise DataError(f"{place} names {missing[0]!r}, which is not there", path=place)
    notes += left_out(missing, f"{place.name} names photos that are not there")
    return found


def _read(
    photos: list[Path],
    names: dict[int, str],
    file: Path,
    folders: Folders,
    splits: Mapping[str, list[Path]] | None = None,
) -> Labelled:
    files = [photo for photo in photos if is_image(photo.name)]
    unread = unread_photos(photos)
    found = {image: labels_of(image, folders) for image in files}
    if unread and not files:
        raise DataError(f"{file}: its photos cannot be read: {tell_unread(unread)}", path=file)
    if not any(text.is_file() for text in found.values()):
        wanted = f", such as {next(iter(found.values()))}" if found else ""
        raise DataError(f"{file}: none of the {len(files):,} photos has a file of labels{wanted}", path=file)
    whose: dict[Path, Path] = {}
    for image, text in found.items():
        if whose.setdefault(text, image) != image and text.is_file():
            reason = f"{text} would be the labels of both {whose[text]} and {image}"
            raise DataError(reason, "rename or remove one", path=text)
    lines = {image: _lines(text) for image, text in found.items()}
    every = {f"{found[image]}, line {number}": words[1:] for image, rows in lines.items() for number, words in rows}
    points = _refuse_poses(every)
    if not names:
        count = 1 + max((_number(line[0]) for rows in lines.values() for _, line in rows), default=0)
        if count >= MAX_CLASSES:
            raise DataError(
                f"{file} has labels of class {count - 1:,}: {MAX_CLASSES - 1} classes are possible", path=file
            )
        names = dict(enumerate(numbered_classes(max(count, 1) + 1).names[1:]))
    classes, ids = class_ids(names.values(), file)
    images, problems, count = [], [], 0
    for image, rows in lines.items():
        objects = []
        for number, line in rows:
            count += 1
            try:
                objects.append(_object(line, f"{found[image]}, line {number}", names, ids))
            except DataError as error:
                problems.append((found[image], error))
        images.append(LabelledImage(image, found[image], tuple(objects)))
    raise_first(problems, count)
    places = {text.parent for text in found.values() if text.parent.is_dir()}
    texts = {text for place in places for text in place.glob("*.txt") if plain(text.name) != CLASSES_FILE}
    strangers = sorted(
        text.name for text in texts - {*found.values()} - {labels_of(photo, folders) for photo in unread}
    )
    without = [image.name for image, text in found.items() if not text.is_file()]
    notes = left_out(without, "photos without a file of labels, which are background")
    notes += left_out(strangers, "files of labels without their photo")
    if points and file.suffix.lower() not in (".yaml", ".yml"):  # which would name keypoints
        notes.append(
            f"polygons: all {count:,} have {points} points; if they are boxes with {points - 2} keypoints, export again"
        )
    return Labelled("YOLO", images, classes, relative=True, splits=splits, unread=unread, notes=notes)


def _refuse_poses(rows: Mapping[str, Sequence[str]]) -> int:
    """Refuse objects of which each is a box, its centre and size, with keypoints in it.

    Args:
        rows: the numbers of each object, by what names it in messages.

    Returns:
        The points of each, where they are so many that keypoints may be among them and as many in all; else 0.
    """
    counts = {len(words) for words in rows.values()}
    if len(rows) < 2 or len(counts) > 1:
        return 0
    try:
        numbers = np.array([*rows.values()], np.float64)
    except ValueError:
        return 0
    for dimensions in (2, 3):  # the third tells whether a keypoint is in sight
        if numbers.shape[1] >= 10 and (numbers.shape[1] - 4) % dimensions == 0 and _are_poses(numbers, dimensions):
            count = (numbers.shape[1] - 4) // dimensions
            what = f"{next(iter(rows))}: a box and {count} keypoints of a pose, not a polygon"
            raise DataError(what, "export for segmentation")
    count = numbers.shape[1]
    return 0 if count % 2 or count < 10 else count // 2


def _are_poses(numbers: NDArray[np.float64], dimensions: int) -> bool:
    """Tell whether all rows (N, numbers) are a box, by centre and size, and keypoints in it of so many numbers each."""
    middle, half = numbers[:, :2], numbers[:, 2:4] / 2
    keypoints = numbers[:, 4:].reshape(len(numbers), -1, dimensions)
    places, unseen = keypoints[:, :, :2], (keypoints[:, :, :2] == 0).all(axis=2)
    in_photo = (middle - half).min() >= -_SLACK and (middle + half).max() <= 1 + _SLACK
    in_box = (abs(places - middle[:, None]) <= half[:, None] + _SLACK).all(axis=2) | unseen
    if not in_photo or not in_box.all():
        return False
    if dimensions == 3:
        return bool(np.isin(keypoints[:, :, 2], (0, 1, 2)).all())
    # no corner of a polygon lies amid the others, as the centre of a box does
    hulls = (cv2.convexHull(of_row.astype(np.float32)) for of_row in places)
    amid = [cv2.pointPolygonTest(hull, at.tolist(), False) > 0 for hull, at in zip(hulls, middle, strict=True)]
    return 2 * sum(amid) >= len(numbers)


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Words of each line that is not empty, with its number."""
    text = _text_of(file) if file.is_file() else ""
    if text[:1].isalpha() or text[:1] == "<":  # it should begin with a number
        refuse_other_files(file)
    return [(number, words) for number, line in enumerate(text.splitlines(), 1) if (words := line.split())]


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} cannot be read: {error}", "save it as UTF-8", path=file) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}", path=file) from error


def _number(word: str) -> int:
    """The number of a class; -1 for what is none, and for digits without end."""
    return int(word) if word.isdecimal() and len(word) <= _MOST_DIGITS else -1


def _object(words: list[str], what: str, names: Mapping[int, str], ids: Mapping[str, int]) -> Object:
    label = _number(words[0].removesuffix(".0"))
    if label not in names:
        raise DataError(f"{what}: no class has the number {words[0]} ({some([f'{k} {v}' for k, v in names.items()])})")
    if len(words) == 5:
        raise DataError(f"{what}: a box, not a polygon", "export for segmentation")
    points = ring(words[1:], what)
    if points.min() < -_SLACK or points.max() > 1 + _SLACK:
        raise DataError(f"{what}: points reach from {points.min():g} to {points.max():g}, not from 0 to 1 of the photo")
    return Object(ids[names[label]], (points,))


def yolo_lines(mask: NDArray[np.uint8], labels: Iterable[int]) -> list[str]:
    """Each connected object of a mask (H, W), the class after the background being number 0; holes by keyholes."""
    size = mask.shape[::-1]
    lines = []
    for label in labels:
        for outline, holes in trace(mask == label):
            points = (keyhole(outline, holes) / size).ravel()
            lines.append(" ".join([str(label - 1), *(f"{value:.6f}" for value in points)]))
    return lines
