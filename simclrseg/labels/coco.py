"""COCO's JSON: images, categories and annotations, whose objects are polygons or run lengths (Lin et al. 2014).

Read as CVAT, Label Studio, Roboflow and COCO itself write it. A crowd counts as its class, as CVAT marks all that was
painted as a crowd.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, some
from simclrseg.images.listing import tell_unread
from simclrseg.labels.fitting import GUESSED, Images
from simclrseg.labels.labelled import Labelled, LabelledImage, class_ids, left_out, raise_first, ring, stated_size
from simclrseg.labels.polygons import Object, Ring, Runs, fill, keyhole, place, trace
from simclrseg.labels.rle import encode_rle

_LISTS = ("images", "annotations", "categories")


def is_coco(content: Any) -> bool:
    """Tell whether the content of a JSON file looks like COCO's."""
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def read_coco(contents: Mapping[Path, Any], images: Images) -> Labelled:
    """Read the files of one set, given their contents; one class is what they give one name."""
    for file, content in contents.items():
        lists = [content.get(key, []) for key in _LISTS] if is_coco(content) else [None]
        if not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists):
            raise DataError(f"{file} is no COCO file: it has no lists of images and annotations", path=file)
    bare = [file for file, content in contents.items() if not content["annotations"]]
    for file, content in contents.items():
        if file not in bare or len(bare) == len(contents):  # a split may be background alone
            _refuse_other_kinds(file, content["annotations"])
    categories = [category for content in contents.values() for category in content.get("categories", [])]
    used = {_key(one, "category_id") for content in contents.values() for one in content["annotations"]}
    parents = {_key(category, "supercategory") for category in categories}
    # Roboflow's list begins with the name of the project, of which no object is one
    called = [_name(one) for one in categories if _key(one, "id") in used or _key(one, "name") not in parents]
    classes, ids = class_ids(called, next(iter(contents)))
    found = Labelled("COCO", [], classes)
    listed: dict[Path, list[dict[str, Any]]] = {
        file: list(_by_id(content["images"], file, "images").values()) for file, content in contents.items()
    }
    names = [(_file_name(row), file) for file, rows in listed.items() for row in rows]
    places = iter(images.find(names))
    for file, rows in listed.items():
        of_rows = list(islice(places, len(rows)))
        if rows and not any(of_rows):
            named = some([name for row in rows if (name := _file_name(row))], shown=3)
            if not named:
                raise DataError(f"{file}: its images have no file_name", "export it again", path=file)
            if any(images.is_unread(_file_name(row)) for row in rows):
                reason = f"{file}: its photos cannot be read: {tell_unread(images.unread)}"
                raise DataError(reason, path=file)
            reason = f"{file}: none of its {len(rows):,} photos is below {images.root} ({named})"
            if other := next(filter(None, (images.of_other_suffix(_file_name(row)) for row in rows)), None):
                remedy = f"give each file_name the suffix of its photo, as {other.name} has"
                raise DataError(reason, remedy, path=file)
            raise DataError(reason, "put it beside the folder of its photos", path=file)
        missing = _read_file(file, contents[file], list(zip(rows, of_rows, strict=True)), ids, found)
        missing = [name for name in missing if not images.is_unread(name)]
        found.notes += left_out(missing, f"{file.name} lists photos that are not there")
    found.unread = images.unread
    found.notes += left_out(images.guessed, GUESSED)
    taken = {one.image for one in found.images}
    others = [image.name for image in images.files if image not in taken]
    found.notes += left_out(others, "photos that are not listed, and left out")
    return found


def _read_file(
    file: Path,
    content: dict[str, Any],
    listed: Sequence[tuple[dict[str, Any], Path | None]],
    ids: Mapping[str, int],
    found: Labelled,
) -> list[str]:
    """Add what a file lists, and tell which of its images are not there."""
    rows = {row["id"]: row for row, _ in listed}
    categories = {key: _name(row) for key, row in _by_id(content.get("categories", []), file, "categories").items()}
    annotations = content["annotations"]
    objects: dict[int | str, list[Object]] = {key: [] for key in rows}
    problems: list[tuple[Path, DataError]] = []
    strangers = []
    for number, annotation in enumerate(annotations):
        key, category = _key(annotation, "image_id"), _key(annotation, "category_id")
        if key not in rows:
            strangers.append(str(key))
            continue
        what = f"{file}: object {annotation.get('id', f'number {number}')} of {_file_name(rows[key])}"
        try:
            if category not in categories:
                raise DataError(f"{what}: no category has the id {category}")
            objects[key].append(Object(ids[categories[category]], _parts(annotation.get("segmentation"), what)))
        except DataError as error:
            problems.append((file, error))
    raise_first(problems, len(annotations))
    if annotations and len(strangers) == len(annotations):
        raise DataError(f"{file}: no object belongs to one of its photos, by image_id ({some(strangers)})", path=file)
    missing = []
    for row, image in listed:
        if image is None:
            missing.append(_file_name(row))
            continue
        size = stated_size(row.get("height"), row.get("width"))
        found.images.append(LabelledImage(image, file, tuple(objects[row["id"]]), size))
    found.notes += left_out(strangers, f"{file.name} has objects of photos that it does not list, by image_id")
    numbers = [one["id"] for one in annotations if "id" in one]
    if twice := len(numbers) - len(set(map(str, numbers))):
        found.notes.append(f"{file.name}: objects with the id of another, which are read too: {twice:,}")
    return missing


def _key(row: Mapping[str, Any], name: str) -> int | str:
    """What stands under a name, as far as it can be an id."""
    value = row.get(name)
    return value if isinstance(value, int | str) else repr(value)


def _file_name(image: Mapping[str, Any]) -> str:
    """The path of an image; LVIS has none but that at which it can be fetched."""
    return str(image.get("file_name") or unquote(urlsplit(str(image.get("coco_url") or "")).path))


def _name(category: Mapping[str, Any]) -> str:
    return str(category.get("name", category.get("id")))


def _by_id(rows: Sequence[dict[str, Any]], file: Path, what: str) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    for row in rows:
        if not isinstance(row.get("id"), int | str):
            raise DataError(f"{file}: one of its {what} has no id: {str(row)[:80]}", path=file)
        if found.setdefault(row["id"], row) != row:
            raise DataError(f"{file}: two of its {what} have the id {row['id']}", "number them anew", path=file)
    return found


def _refuse_other_kinds(file: Path, annotations: Sequence[dict[str, Any]]) -> None:
    """Name what a file holds that has no outlines at all."""
    if any(one.get("segmentation") for one in annotations):
        return
    kinds = {
        "keypoints": "keypoints",
        "segments_info": "panoptic labels, whose masks are PNG files",
        "caption": "captions",
        "bbox": "boxes for detection",
    }
    kind = next((text for key, text in kinds.items() if any(key in one for one in annotations)), "no objects")
    raise DataError(f"{file} holds {kind}, and no segmentation", "export polygons or masks", path=file)


def _parts(segmentation: Any, what: str) -> tuple[Ring | Runs, ...]:
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not (isinstance(size, list) and len(size) == 2 and isinstance(counts, str | list) and counts):
            raise DataError(f"{what}: run lengths need size and counts")
        return (Runs((size[0], size[1]), counts),)
    if not isinstance(segmentation, list) or not any(segmentation):
        raise DataError(f"{what} has no segmentation")
    if not isinstance(segmentation[0], list):  # one polygon, without the list around it
        segmentation = [segmentation]
    return tuple(ring(part, what) for part in segmentation)


def coco_annotations(mask: NDArray[np.uint8], labels: Iterable[int]) -> list[dict[str, Any]]:
    """Each connected object of a mask (H, W) as COCO has it: a polygon, or run lengths where it has holes."""
    annotations = []
    for label in labels:
        where = mask == label
        numbers = None
        for outline, holes in trace(where):
            region = fill(keyhole(outline, holes), mask.shape)
            pixels = region.pixels
            shape: Any = [outline.ravel().tolist()]
            if holes:
                if numbers is None:
                    _, numbers = cv2.connectedComponents(where.astype(np.uint8), connectivity=8)
                inside = place(region, numbers)[region.pixels]
                pixels = numbers == np.bincount(inside[inside > 0]).argmax()
                shape = {"size": list(mask.shape), "counts": encode_rle(pixels)}
            height, width = region.pixels.shape
            about = {"area": int(np.count_nonzero(pixels)), "bbox": [region.left, region.top, width, height]}
            annotations.append({"category_id": label, "iscrowd": 0, "segmentation": shape, **about})
    return annotations
