"""Files of labels with numbers that cannot be: one line that names the file, soon, and no crash of the interpreter."""

from __future__ import annotations

import base64
import copy
import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.drawn import drawn_set
from simclrseg.errors import DataError
from simclrseg.labels.classes import classes_beside

SECONDS = 5
ODD = [float("inf"), float("nan"), -1, 0, 10**400, 10**18, 1e300, "20", True, None, [20], {"a": 1}, 20.5]
POLYGON = [1, 1, 10, 1, 10, 10, 1, 10]
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [POLYGON]}],
    "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}],
}
LABELME: dict[str, Any] = {
    "shapes": [{"label": "cat", "points": [[1, 1], [10, 10]], "shape_type": "rectangle", "group_id": None}],
    "imagePath": "a.png",
    "imageHeight": 20,
    "imageWidth": 30,
}


def masks(folder: Path, files: dict[str, Any]) -> list[np.ndarray] | str:
    """The masks of a set of one photo with these files of labels; the message where it is refused."""
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "a.png")
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    start = time.monotonic()
    try:
        found = drawn_set(folder, DatasetOptions(masks=True))
        result: list[np.ndarray] | str = [] if found is None else [found.mask(0)]
    except DataError as error:
        result = str(error)
    assert time.monotonic() - start < SECONDS
    assert isinstance(result, list) or "\n" not in result
    return result


def changed(content: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    part: Any = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return content


COCO_PLACES: list[tuple[str | int, ...]] = [
    ("images", 0, "height"),
    ("images", 0, "id"),
    ("images", 0, "file_name"),
    ("annotations", 0, "id"),
    ("annotations", 0, "image_id"),
    ("annotations", 0, "category_id"),
    ("annotations", 0, "segmentation"),
    ("annotations", 0, "segmentation", 0),
    ("annotations", 0, "segmentation", 0, 0),
    ("categories", 0, "name"),
    ("categories", 0, "supercategory"),
    ("images",),
    ("annotations",),
    ("categories",),
]


@pytest.mark.parametrize("place", COCO_PLACES, ids=str)
def test_any_value_anywhere_in_coco_is_read_or_one_line(tmp_path, place):
    for value in ODD:
        result = masks(tmp_path, {"coco.json": changed(COCO, place, value)})
        assert isinstance(result, list) or "coco.json" in result, (value, result)


LABELME_PLACES: list[tuple[str | int, ...]] = [
    ("imagePath",),
    ("imageHeight",),
    ("shapes", 0, "label"),
    ("shapes", 0, "points"),
    ("shapes", 0, "points", 0),
    ("shapes", 0, "points", 0, 0),
    ("shapes", 0, "shape_type"),
    ("shapes", 0, "group_id"),
    ("shapes", 0, "mask"),
]


@pytest.mark.parametrize("place", LABELME_PLACES, ids=str)
@pytest.mark.parametrize("kind", ["rectangle", "circle", "mask"])
def test_any_value_anywhere_in_labelme_is_read_or_one_line(tmp_path, place, kind):
    content = changed(LABELME, ("shapes", 0, "shape_type"), kind)
    for value in ODD:
        result = masks(tmp_path, {"a.json": changed(content, place, value)})
        assert isinstance(result, list) or "a.json" in result, (value, result)


@pytest.mark.parametrize(
    "counts",
    [
        [2**62, 2**62, 2**62, 2**62, 600],
        [2**63 - 1, 2**63 - 1, 602],
        [2**64 - 1, 601],
        [10**400, 600],
        [700, -100],
        [float("nan")],
        ["a"],
        [[100], [500]],
        json.loads("[" * 90 + "]" * 90),
        "o" * 100_000,
        "\udc80",
        "é",
    ],
)
def test_run_lengths_that_turn_over_are_never_drawn(tmp_path, counts):
    content = changed(COCO, ("annotations", 0, "segmentation"), {"size": [20, 30], "counts": counts})
    result = masks(tmp_path, {"coco.json": content})
    assert isinstance(result, str) and "coco.json" in result


def png(width: int, height: int) -> str:
    """A PNG of one bit a pixel, all black, of which a kilobyte is 144 million pixels."""
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height)
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


@pytest.mark.parametrize(("size", "said"), [((12_000, 12_000), "its mask has 12000 x 12000 pixels"), ((10, 10), "")])
def test_a_mask_within_labelme_is_as_large_as_its_points(tmp_path, size, said):
    shape = {**LABELME["shapes"][0], "shape_type": "mask", "mask": png(*size)}
    result = masks(tmp_path, {"a.json": {**LABELME, "shapes": [shape]}})
    assert said in result if said else isinstance(result, list)


LINE = " .1 .1 .5 .1 .5 .5\n"
NAMES = "train: .\nnames: {0: cat}\n"


@pytest.mark.parametrize("yaml", [NAMES, ""], ids=["data.yaml", "none"])
@pytest.mark.parametrize("number", ["9" * 5000, "1" + 18 * "0", "999999", "-1", "²", "0x1"])
def test_a_class_of_any_number_is_one_line(tmp_path, yaml, number):
    result = masks(tmp_path, {"a.txt": "0" + LINE + number + LINE} | ({"data.yaml": yaml} if yaml else {}))
    assert "class" in result and isinstance(result, str)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("train: /\nnames: [cat]\n", "is the whole machine"),
        ("train: .\nnames: {999999999999: cat}\n", "names must be a list"),
        ('train: .\nnames: {0: a, "0": b}\n', "two names for one number"),
        ("train: .\nnames: {0: a, 0: b}\n", "names '0' twice"),
        ("train: .\nnames: 5\n", "names must be a list"),
        ("train: {a: b}\nnames: [cat]\n", "which is not there"),
    ],
)
def test_a_data_yaml_that_cannot_be_meant_is_one_line(tmp_path, yaml, said):
    assert said in masks(tmp_path, {"a.txt": "0" + LINE, "data.yaml": yaml})


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file of this system gives an error when it is read")
def test_a_list_that_cannot_be_read_is_one_line(tmp_path):
    result = masks(tmp_path, {"a.txt": "0" + LINE, "data.yaml": "train: /proc/self/mem\nnames: [cat]\n"})
    assert isinstance(result, str) and "/proc/self/mem" in result and "name a folder of photos" in result


@pytest.mark.parametrize("number", ["9" * 5000, "254", "²"])
def test_a_table_of_classes_with_any_number_is_one_line(tmp_path, number):
    (tmp_path / "_classes.csv").write_text(f"Pixel Value, Class\n0, background\n{number}, a\n")
    with pytest.raises(DataError, match=r"_classes\.csv has the line"):
        classes_beside(tmp_path / "_classes.csv")


def test_healthy_labels_are_drawn(tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "yolo").mkdir()
    for folder, files in (("coco", {"coco.json": COCO}), ("yolo", {"a.txt": "0" + LINE, "data.yaml": NAMES})):
        (mask,) = masks(tmp_path / folder, files)
        assert isinstance(mask, np.ndarray) and 40 < mask.sum() < 100
