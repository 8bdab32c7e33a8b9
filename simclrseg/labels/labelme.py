"""LabelMe's JSON: a file an image, with its shapes and their labels."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simclrseg.errors import DataError, some
from simclrseg.images.headers import Refused
from simclrseg.images.limits import check_picture
from simclrseg.images.listing import tell_unread
from simclrseg.labels.fitting import GUESSED, Fitting, Images
from simclrseg.labels.labelled import Labelled, LabelledImage, class_ids, left_out, raise_first, ring, stated_size
from simclrseg.labels.polygons import Object, Region, Ring, keyhole, trace

_CIRCLE = 128  # corners of a circle
_SLACK = 2  # pixels by which a mask may be larger than the box of its points
_OPEN = ("linestrip", "line", "point", "points")


def is_labelme(content: Any) -> bool:
    """Tell whether the content of a JSON file is that of LabelMe."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def read_labelme(contents: Mapping[Path, Any], images: Images) -> Labelled:
    """Read files, given their contents; images that no file is about are unlabelled, and ``imageData`` is ignored."""
    for file, content in contents.items():
        if not is_labelme(content) or not all(isinstance(shape, dict) for shape in content["shapes"]):
            raise DataError(f"{file} is no LabelMe file: it has no list of shapes", path=file)
    labels = {_label(shape) for content in contents.values() for shape in content["shapes"]}
    classes, ids = class_ids(sorted(labels), next(iter(contents)))
    found = Labelled("LabelMe", [], classes)
    problems, missing, count = [], [], 0
    of_files, stale = _images_of(contents, images)
    for (file, content), image in zip(contents.items(), of_files, strict=True):
        groups: dict[Any, list[Ring | Region]] = {}  # parts of a group are one object
        for number, shape in enumerate(content["shapes"], 1):
            label, group = _label(shape), shape.get("group_id")
            try:
                part = _part(shape, f"{file}: shape {number} ({label})")
                groups.setdefault((label, number if group is None else f"group {group}"), []).append(part)
            except DataError as error:
                problems.append((file, error))
        count += len(content["shapes"])
        objects = tuple(Object(ids[label], tuple(parts)) for (label, _), parts in groups.items())
        if image is None:
            if not images.is_unread(file.stem):
                missing.append(file.name)
            continue
        size = stated_size(content.get("imageHeight"), content.get("imageWidth"))
        found.images.append(LabelledImage(image, file, objects, size))
    raise_first(problems, count)
    found.unread = images.unread
    if not found.images and len(missing) < len(contents):
        raise DataError(f"{images.root}: its photos cannot be read: {tell_unread(images.unread)}", path=images.root)
    if not found.images:
        reason = f"no photo of the {len(contents):,} LabelMe files is below {images.root} ({some(missing, shown=3)})"
        raise DataError(reason, "put them beside their photos, for imageData is not read", path=images.root)
    found.notes += left_out(images.guessed, GUESSED)
    found.notes += left_out(
        stale, "photos found by the name of their file, whose imagePath is of another place or time"
    )
    found.notes += left_out(missing, "LabelMe files without their photo")
    taken = {labelled.image for labelled in found.images}
    bare = [image for image in images.files if image not in taken]
    found.images += [LabelledImage(image, image, None) for image in bare]
    found.notes += left_out([image.name for image in bare], "photos without a JSON file, which are unlabelled")
    return found


def _label(shape: Mapping[str, Any]) -> str:
    """A shape's label, without the blanks around it that nobody sees."""
    return str(shape.get("label", "")).strip()


def _images_of(contents: Mapping[Path, Any], images: Images) -> tuple[list[Path | None], list[str]]:
    """The image of each file, which its ``imagePath`` names, or its own name where that is of another time or place.

    Returns:
        Images, None where there is none; and the paths of those that their files' names have found.
    """
    by_path = images.fitting([(str(content.get("imagePath") or file.stem), file) for file, content in contents.items()])
    by_name = images.fitting([(file.stem, file) for file in contents])
    found: list[Path | None] = []
    stale: list[str] = []
    conflicts: list[tuple[Fitting, Path]] = []
    for path, name in zip(by_path, by_name, strict=True):
        both = [image for image in path.images if image in name.images]
        beside = [image for image in name.images if image.parent == path.source.parent]
        elsewhere = not any(path.is_at(image) or image.parent == path.source.parent for image in path.images)
        if both or not name.images:
            path.images = both or path.images
            found.append(path.only())
            images.guessed += [path.name] if path.guessed else []
        elif not path.images or (beside and elsewhere):
            found.append(name.only())
            stale.append(path.name)
        else:
            conflicts.append((path, name.images[0]))
    if conflicts:
        path, image = conflicts[0]
        more = f" (files with such an imagePath: {len(conflicts):,})" if len(conflicts) > 1 else ""
        reason = f"{path.source} is named after {image.name}, but its imagePath is {path.name}, another photo{more}"
        raise DataError(reason, "rename it, or correct its imagePath", path=path.source)
    return found, stale


def _part(shape: Mapping[str, Any], what: str) -> Ring | Region:
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind in _OPEN:
        raise DataError(f"{what}: a {kind} encloses nothing", "draw a polygon")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise DataError(f"{what}: its points are no pairs of x and y")
    # X-AnyLabeling writes the corners of rectangles, and of others with four
    if kind in ("polygon", "rotation", "quadrilateral") or (kind == "rectangle" and len(points) == 4):
        return ring([value for point in points for value in point], what)
    if kind not in ("rectangle", "circle", "mask"):
        raise DataError(f"{what}: {kind} is not read", "draw a polygon")
    if len(points) != 2:
        raise DataError(f"{what}: a {kind} has two points, not {len(points)}")
    (x, y), (right, bottom), _ = ring([*points[0], *points[1], 0, 0], what)
    if kind == "rectangle":
        return np.array([[x, y], [right, y], [right, bottom], [x, bottom]])
    if kind == "circle":  # its middle, and a point on it
        turns = np.arange(_CIRCLE) * (2 * math.pi / _CIRCLE)
        return np.array([x, y]) + math.hypot(right - x, bottom - y) * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    try:
        data = BytesIO(base64.b64decode(str(shape.get("mask")), validate=True))
        width, height = struct.unpack(">II", data.getvalue()[16:24])  # where a PNG has them
        if width > 2 * abs(right - x) + _SLACK or height > 2 * abs(bottom - y) + _SLACK:
            raise DataError(f"{what}: its mask has {width} x {height} pixels, which its points have not")
        with Image.open(data, formats=["PNG"]) as picture:
            check_picture(picture, data)
            return Region(int(y), int(x), np.asarray(picture.convert("L")) > 0)
    except Refused as error:
        raise DataError(f"{what}: its mask: {error.reason}", error.remedy) from error
    except (OSError, ValueError, SyntaxError, binascii.Error, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{what}: its mask is no PNG") from error


def labelme_shapes(mask: NDArray[np.uint8], labels: Iterable[int], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Each connected object of a mask (H, W) as a polygon, whose holes are keyholes."""
    return [
        {
            "label": classes[label],
            "points": keyhole(outline, holes).tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for label in labels
        for outline, holes in trace(mask == label)
    ]
