"""Files of labels as labelling tools write them, for a few images of one size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.folders import write

SIZE = (40, 60)
"""(height, width) of every image."""
BOX = [[10, 5], [30, 5], [30, 25], [10, 25]]
"""A square of 20 x 20 pixels: rows 5 to 24, columns 10 to 29."""
FLAT = [value for point in BOX for value in point]
INSIDE = (slice(5, 25), slice(10, 30))


def photos(folder: Path, *names: str, size: tuple[int, int] = SIZE) -> None:
    for name in names:
        write(folder / name, np.full((*size, 3), 90, np.uint8))


def put(path: Path, content: Any) -> Path:
    """Write JSON, YAML or lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = (
        content if isinstance(content, str) else yaml.dump(content) if path.suffix == ".yaml" else json.dumps(content)
    )
    path.write_text(text)
    return path


def coco(
    names: Iterable[str], annotations: Iterable[Mapping[str, Any]], categories: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """A COCO file, whose annotations have the first category and the first image if they do not say otherwise."""
    categories = categories or {1: "pet"}
    rest = {"image_id": 0, "category_id": next(iter(categories)), "iscrowd": 0}
    return {
        "images": [
            {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for number, name in enumerate(names)
        ],
        "annotations": [{"id": number, **rest, **one} for number, one in enumerate(annotations)],
        "categories": [{"id": number, "name": name, "supercategory": ""} for number, name in categories.items()],
    }


def labelme(name: str, *shapes: Mapping[str, Any], **other: Any) -> dict[str, Any]:
    rest = {"label": "pet", "points": BOX, "group_id": None, "shape_type": "polygon", "flags": {}}
    content = {"version": "5.4.1", "flags": {}, "shapes": [{**rest, **shape} for shape in shapes], "imagePath": name}
    return content | {"imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]} | other


def yolo(points: Iterable[Iterable[float]] = BOX, label: int | str = 0) -> str:
    """A line of a YOLO file."""
    return " ".join([str(label), *(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in points)]) + "\n"
