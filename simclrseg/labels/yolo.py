"""YOLO's segmentation labels: a line an object, its class and a polygon in widths and heights of the image.

Read as Ultralytics, Roboflow, CVAT and Label Studio write them: ``data.yaml`` names classes and splits, the labels of
``images/train/a.jpg`` are ``labels/train/a.txt``, and without ``data.yaml`` the names are in ``classes.txt``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from simclrseg.errors import DataError, some
from simclrseg.images.decode import is_image, list_images
from simclrseg.labels.classes import numbered_classes
from simclrseg.labels.labelled import Labelled, LabelledImage, class_ids, left_out, raise_first, ring
from simclrseg.labels.polygons import Object, keyhole, trace

CLASSES_FILE = "classes.txt"
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_SLACK = 0.01  # of a side, by which rounding may leave the image, as in Ultralytics


def is_yolo(content: Any) -> bool:
    """Tell whether the content of a YAML file is that of a ``data.yaml``."""
    return isinstance(content, dict) and "names" in content and not _SPLITS.keys().isdisjoint(content)


def read_yaml(file: Path) -> Any:
    """The content of a YAML file; a DataError names one that cannot be read."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}", path=file) from error


def read_yolo(file: Path, content: Mapping[str, Any]) -> Labelled:
    """Read the set of a ``data.yaml``, given its content.

    Raises:
        DataError: if names, images and labels do not fit together.
    """
    if "kpt_shape" in content:
        raise DataError(f"{file} names keypoints (kpt_shape), and no segmentation", "export polygons", path=file)
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(str(key).isdecimal() for key in names):
        raise DataError(f"{file}: names must be a list, or map numbers to names", path=file)
    base = file.parent / str(content.get("path") or ".")
    if not base.is_dir():  # written for another machine
        base = file.parent
    parts, notes = {}, []
    for key, split in _SPLITS.items():
        images = [_images(base, name, file) for name in _listed(content.get(key))]
        if not images or (None in images and split != "train"):
            # Roboflow names folders of parts that an export has not
            notes += [f"{file.name}: {key} is {content[key]}, which is not there"] if images else []
        elif None in images:
            raise DataError(f"{file}: {key} is {content[key]}, which is not there", "correct the path", path=file)
        else:
            parts[split] = [image for some in images for image in some or ()]
    for split, other in (("validation", "train"), ("test", "train"), ("validation", "test")):
        if split in parts and parts[split] == parts.get(other):
            del parts[split]
            notes.append(f"{file.name}: {split} and {other} are the same photos: others are chosen for {split}")
    files = list(dict.fromkeys(image for images in parts.values() for image in images))
    splits = parts if len(parts) > 1 else {}
    found = _read(files, {int(key): str(name) for key, name in names.items()}, file, splits)
    found.notes += notes
    return found


def read_yolo_folder(folder: Path, images: Iterable[Path]) -> Labelled:
    """Read images whose labels lie beside them, or in ``labels/``, with the names of ``classes.txt`` where it is."""
    where = [folder / CLASSES_FILE, folder / "labels" / CLASSES_FILE]
    file = next((file for file in where if file.is_file()), folder)
    names = {}
    if file != folder:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
        names = dict(enumerate(line for line in lines if line))
    return _read(list(images), names, file)


def labels_of(image: Path) -> Path:
    """The file of an image's labels: in ``labels`` in the place of the last ``images`` of its path, or beside it."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    if "images" not in parts[:-1] or beside.is_file():
        return beside
    parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts)


def _listed(named: Any) -> list[str]:
    return [str(name) for name in named] if isinstance(named, list) else [str(named)] if named else []


def _images(base: Path, name: str, file: Path) -> list[Path] | None:
    """The images of a folder, or of a list in a text file; None where there is no such thing."""
    path = PurePosixPath(name.replace("\\", "/"))
    # Roboflow writes ../train/images of what lies beside the file; a path of another machine is found by its end
    parts = [part for part in path.parts if part not in ("/", "..")]
    ends = [Path(*parts[start:]) for start in range(len(parts))]
    # but not by `images` alone, which may be another part's
    ways = [where / way for way in (*ends[:1], path, *ends[1:-1]) for where in (base, file.parent)]
    place = next((way for way in ways if way.exists()), None)
    if place is None or place.is_dir():
        return list_images(place) if place else None
    found = []
    for line in filter(None, map(str.strip, place.read_text(encoding="utf-8-sig", errors="replace").splitlines())):
        ways = [place.parent / line, base / line, base / line.removeprefix("data/")]
        image = next((way for way in ways if is_image(way.name) and way.is_file()), None)
        if image is None:
            raise DataError(f"{place} names {line!r}, which is not there", path=place)
        found.append(image)
    return found


def _read(
    files: list[Path], names: dict[int, str], file: Path, splits: Mapping[str, list[Path]] | None = None
) -> Labelled:
    found = {image: labels_of(image) for image in files}
    if not any(text.is_file() for text in found.values()):
        wanted = f", such as {next(iter(found.values()))}" if found else ""
        raise DataError(f"{file}: none of the {len(files):,} photos has a file of labels{wanted}", path=file)
    lines = {image: _lines(text) for image, text in found.items()}
    if not names:
        count = 1 + max((int(line[0]) for rows in lines.values() for _, line in rows if line[0].isdecimal()), default=0)
        names = dict(enumerate(numbered_classes(count + 1).names[1:]))
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
    folders = {text.parent for text in found.values() if text.parent.is_dir()}
    known = {*found.values()} | {folder / CLASSES_FILE for folder in folders}
    strangers = sorted(text.name for folder in folders for text in folder.glob("*.txt") if text not in known)
    without = [image.name for image, text in found.items() if not text.is_file()]
    notes = left_out(without, "photos without a file of labels, which are background")
    notes += left_out(strangers, "files of labels without their photo")
    return Labelled("YOLO", images, classes, relative=True, splits=splits, notes=notes)


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Words of each line that is not empty, with its number."""
    try:
        text = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}", path=file) from error
    return [(number, words) for number, line in enumerate(text.splitlines(), 1) if (words := line.split())]


def _object(words: list[str], what: str, names: Mapping[int, str], ids: Mapping[str, int]) -> Object:
    label = words[0].removesuffix(".0")
    if not label.isdecimal() or int(label) not in names:
        raise DataError(f"{what}: no class has the number {words[0]} ({some([f'{k} {v}' for k, v in names.items()])})")
    if len(words) == 5:
        raise DataError(f"{what}: a box, not a polygon", "export for segmentation")
    points = ring(words[1:], what)
    if points.min() < -_SLACK or points.max() > 1 + _SLACK:
        raise DataError(f"{what}: points reach from {points.min():g} to {points.max():g}, not from 0 to 1 of the photo")
    return Object(ids[names[int(label)]], (points,))


def yolo_lines(mask: NDArray[np.uint8], labels: Iterable[int]) -> list[str]:
    """Each connected object of a mask (H, W), the class after the background being number 0; holes by keyholes."""
    size = mask.shape[::-1]
    lines = []
    for label in labels:
        for outline, holes in trace(mask == label):
            points = (keyhole(outline, holes) / size).ravel()
            lines.append(" ".join([str(label - 1), *(f"{value:.6f}" for value in points)]))
    return lines
