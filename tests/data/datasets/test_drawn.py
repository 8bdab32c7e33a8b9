"""Labels of COCO, YOLO and LabelMe, as the tools export them and with the mistakes that people make."""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference
from pydantic import ValidationError

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.drawn import Drawn, drawn_set
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError
from simclrseg.labels.classes import numbered_classes
from simclrseg.metadata import IGNORE
from simclrseg.runs.names import dataset_label
from simclrseg.targets.knobs import LabelledData
from tests.data.datasets.labels import BOX, FLAT, INSIDE, SIZE, coco, labelme, photos, put, yolo
from tests.folders import write
from tests.images.odd import orientation_exif
from tests.images.tiffs import tiff

ANYTHING = DatasetOptions()


def opened(path: Path) -> Drawn:
    dataset = drawn_set(path, ANYTHING)
    assert dataset is not None
    return dataset


def expected(label: int = 1) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[INSIDE] = label
    return mask


def coco_set(root: Path, objects, names=None, other=None) -> Path:
    """A folder with a.png and b.png in images/, and a COCO file."""
    photos(root / "images", "a.png", "b.png")
    put(root / "annotations" / "instances_default.json", coco(["a.png", "b.png"], objects, names) | (other or {}))
    return root


# What every form has in common


@pytest.fixture(params=["coco", "yolo", "labelme"])
def one_square(request, tmp_path) -> Path:
    """A set of each form: a square in a.png, nothing in b.png."""
    if request.param == "coco":
        return coco_set(tmp_path, [{"segmentation": [FLAT]}])
    photos(tmp_path / "images", "a.png", "b.png")
    if request.param == "yolo":
        put(tmp_path / "labels" / "a.txt", yolo())
        put(tmp_path / "data.yaml", {"train": "images", "names": ["pet"]})
    else:
        put(tmp_path / "images" / "a.json", labelme("a.png", {}))
        put(tmp_path / "images" / "b.json", labelme("b.png"))
    return tmp_path


def test_a_folder_of_any_form_is_read_as_masks(one_square):
    dataset = open_dataset(str(one_square))
    assert isinstance(dataset, Drawn) and dataset.has_masks and dataset.name == one_square.name
    assert dataset.keys == ("images/a.png", "images/b.png") and dataset.classes == ("background", "pet")
    assert (dataset.mask(0) == expected()).all() and not dataset.mask(1).any()
    assert dataset.has_mask(0) and dataset.has_mask(1) and dataset.image(0).shape == (*SIZE, 3)
    assert "objects: 1 of 1 class (pet); smaller ones lie on top" in dataset.summary
    assert "photos without an object, which are background: 1" in dataset.summary


def test_pretraining_and_folders_of_masks_take_no_notice_of_labels(one_square):
    bare = open_dataset(str(one_square), DatasetOptions(masks=False))
    assert len(bare) == 2 and not bare.has_masks
    photos(one_square / "train" / "SegmentationClass", "a.png", "b.png")
    assert drawn_set(one_square, ANYTHING) is None


@pytest.mark.parametrize("given", [{"classes": numbered_classes(2)}, {"mask_rules": {"threshold": 128}}])
def test_what_is_for_masks_is_refused_beside_labels(one_square, given):
    with pytest.raises(DataError, match=r"--(classes-file|masks) is for folders of masks; .* holds labels of [A-Z]"):
        open_dataset(str(one_square), DatasetOptions(**given))


def test_a_folder_without_labels_is_none(tmp_path):
    photos(tmp_path, "a.png")
    put(tmp_path / "a.json", {"camera": "a phone"})
    put(tmp_path / "notes.json", ["of a walk"])
    put(tmp_path / "a.txt", "a note of 5 words")
    put(tmp_path / "classes.yaml", {"background": None, "pet": None})
    assert drawn_set(tmp_path, ANYTHING) is None


@pytest.mark.parametrize("form", ["coco", "labelme"])
@pytest.mark.parametrize("size", [(60, 40), (80, 60)])
def test_labels_for_another_size_are_named(tmp_path, form, size):
    photos(tmp_path, "a.png", size=size)
    put(tmp_path / "x.json", coco(["a.png"], [{"segmentation": [FLAT]}]) if form == "coco" else labelme("a.png", {}))
    says = rf"x\.json: a\.png has 60 x 40 pixels there, but is {size[1]} x {size[0]}. take the photos"
    with pytest.raises(DataError, match=says):
        opened(tmp_path)


def carrying(folder: Path, orientations: Mapping[str, int], stored: tuple[int, int] = SIZE) -> None:
    """Photos with an EXIF orientation, stored as (height, width)."""
    for name, orientation in orientations.items():
        Image.new("RGB", stored[::-1]).save(folder / name, exif=orientation_exif(orientation))


@pytest.mark.parametrize("form", ["coco", "run lengths", "labelme"])
def test_labels_in_the_size_in_which_a_photo_is_stored_are_turned_with_it(tmp_path, form):
    carrying(tmp_path, {"a.png": 6, "b.png": 8})
    if form == "labelme":
        for name in ("a", "b"):
            put(tmp_path / f"{name}.json", labelme(f"{name}.png", {}))
    else:
        runs = {"size": list(SIZE), "counts": reference.encode(np.asfortranarray(expected()))["counts"].decode()}
        shape = runs if form == "run lengths" else [FLAT]
        content = coco(["a.png", "b.png"], [{"segmentation": shape, "image_id": image} for image in (0, 1)])
        if form == "run lengths":  # which have the size themselves
            for image in content["images"]:
                del image["height"]
        put(tmp_path / "x.json", content)
    dataset = opened(tmp_path)
    assert (dataset.mask(0) == np.rot90(expected(), -1)).all() and (dataset.mask(1) == np.rot90(expected())).all()
    assert dataset.image(0).shape[:2] == dataset.mask(0).shape
    assert any("as it is stored, and turned with it: 2 (a.png, b.png)" in line for line in dataset.summary)


def test_photos_whose_labels_fit_both_ways_are_read_as_the_others_are(tmp_path):
    carrying(tmp_path, {"a.png": 6, "b.png": 3, "c.png": 1})
    content = coco(["a.png", "b.png", "c.png"], [{"segmentation": [FLAT], "image_id": image} for image in range(3)])
    dataset = opened(put(tmp_path / "x.json", content))
    assert (dataset.mask(0) == np.rot90(expected(), -1)).all()
    assert (dataset.mask(1) == np.rot90(expected(), 2)).all() and (dataset.mask(2) == expected()).all()
    carrying(tmp_path, {"c.png": 6}, stored=SIZE[::-1])
    with pytest.raises(DataError, match=r"x\.json: b\.png has an EXIF orientation, and its labels fit it as it"):
        opened(tmp_path / "x.json")


@pytest.mark.parametrize("sizes", [True, False])
def test_points_tell_how_labels_are_drawn_too_and_must_fit_their_size(tmp_path, sizes):
    carrying(tmp_path, {"a.png": 6}, stored=SIZE[::-1])
    low = [50, 5, 58, 5, 58, 38]  # in 60 x 40 as it is shown, not in 40 x 60 as it is stored
    content = coco(["a.png"], [{"segmentation": [low]}])
    content["images"][0] |= {"height": 60, "width": 40} if sizes else {"height": 0, "width": 0}
    put(tmp_path / "x.json", content)
    if sizes:
        with pytest.raises(DataError, match=r"a\.png has 40 x 60 pixels there, but points that lie outside of these"):
            opened(tmp_path)
    else:
        assert opened(tmp_path).mask(0)[10, 55] == 1
        carrying(tmp_path, {"a.png": 6})  # the other way round
        assert opened(tmp_path).mask(0)[55, 30] == 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_labels_are_for_photos_as_they_are_shown_and_a_line_says_so(tmp_path, orientation):
    stored = SIZE if orientation == 3 else SIZE[::-1]
    Image.new("RGB", stored[::-1]).save(tmp_path / "a.png", exif=orientation_exif(orientation))
    dataset = opened(put(tmp_path / "x.json", coco(["a.png"], [{"segmentation": [FLAT]}])))
    assert (dataset.mask(0) == expected()).all()
    assert any("labels are taken as drawn on the photo as it is shown: 1 (a.png)" in line for line in dataset.summary)


@pytest.mark.parametrize("form", ["coco", "labelme"])
@pytest.mark.parametrize("shift", [-100, 100, 1e300])
def test_an_object_outside_of_its_image_is_named(tmp_path, form, shift):
    photos(tmp_path, "a.png")
    points = [[x + shift, y] for x, y in BOX]
    flat = [value for point in points for value in point]
    content = coco(["a.png"], [{"segmentation": [flat]}]) if form == "coco" else labelme("a.png", {"points": points})
    put(tmp_path / "x.json", content)
    with pytest.raises(DataError, match=r"x\.json: an object at x .*, y 5 to 25, outside of a\.png, 60 x 40 pixels"):
        opened(tmp_path)


def test_points_between_0_and_1_are_no_pixels(tmp_path):
    coco_set(tmp_path, [{"segmentation": [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]}])
    with pytest.raises(DataError, match="all points lie between 0 and 1, and COCO counts pixels"):
        opened(tmp_path)


@pytest.mark.parametrize("suffix", ["HEIC", "cr2"])
@pytest.mark.parametrize("form", ["coco", "yolo", "yolo lists", "labelme"])
def test_photos_that_are_not_read_are_told_with_what_helps_and_nothing_is_said_to_be_missing(
    tmp_path, monkeypatch, form, suffix
):
    monkeypatch.setattr("simclrseg.images.listing.READS_HEIC", False)
    monkeypatch.setattr("simclrseg.images.listing.IMAGE_SUFFIXES", frozenset({".png"}))
    photos(tmp_path / "images", "a.png", "c.png")
    (tmp_path / "images" / f"b.{suffix}").write_bytes(b"not read")
    (tmp_path / "images" / f"c.{suffix}").write_bytes(b"the same as c.png")
    if form == "coco":
        put(tmp_path / "x.json", coco(["a.png", f"b.{suffix}", f"c.{suffix}"], [{"segmentation": [FLAT]}]))
    for name in "abc":
        if form.startswith("yolo"):
            put(tmp_path / "labels" / f"{name}.txt", yolo())
        elif form == "labelme":
            put(tmp_path / "images" / f"{name}.json", labelme("c.png" if name == "c" else f"{name}.{suffix}", {}))
    if form == "yolo lists":
        put(tmp_path / "train.txt", f"images/a.png\nimages/b.{suffix}\nimages/c.png\n")
        put(tmp_path / "data.yaml", {"train": "train.txt", "names": ["pet"]})
    dataset = opened(tmp_path)
    assert dataset.keys == ("images/a.png", "images/c.png") and (dataset.mask(0) == expected()).all()
    said = "\n".join(dataset.summary)
    reason = "HEIC is not supported: `pip install 'simclrseg[heic]'`" if suffix == "HEIC" else "a camera's raw photo"
    assert f"photos that cannot be read: 1 .{suffix.lower()} ({reason}" in said
    assert "not there" not in said and "without their photo" not in said
    for name in ("a.png", "c.png"):
        (tmp_path / "images" / name).unlink()
    with pytest.raises(DataError, match=rf"its photos cannot be read: [12] \.{suffix.lower()} \({reason[:20]}"):
        opened(tmp_path)


# COCO


def test_polygons_and_both_run_lengths_are_read_crowds_too(tmp_path):
    theirs = reference.encode(np.asfortranarray(expected()))["counts"].decode()
    plain = [10 * 40 + 5, *[20, 20] * 19, 20, 30 * 40 - 25 + 20 - 5 + 10]
    plain[-1] = 40 * 60 - sum(plain[:-1])
    for number, segmentation in enumerate(
        [[FLAT], FLAT, {"size": list(SIZE), "counts": theirs}, {"size": list(SIZE), "counts": plain}]
    ):
        root = coco_set(tmp_path / str(number), [{"segmentation": segmentation, "iscrowd": number % 2}])
        assert (opened(root).mask(0) == expected()).all(), segmentation


def test_categories_are_classes_in_the_order_of_the_file_and_the_smaller_object_is_on_top(tmp_path):
    categories = {7: "road", 3: "car", 9: "background", 4: "__ignore__"}
    everything = [0, 0, 60, 0, 60, 40, 0, 40]
    squares = [[x, 30, x + 4, 30, x + 4, 34, x, 34] for x in (0, 10)]
    root = coco_set(
        tmp_path,
        [
            {"category_id": 3, "segmentation": [FLAT]},
            {"category_id": 7, "segmentation": [everything]},
            {"category_id": 9, "segmentation": squares[:1]},
            {"category_id": 4, "segmentation": squares[1:]},
        ],
        categories,
    )
    dataset, mask = opened(root), expected(2)
    mask[mask == 0] = 1
    mask[30:34, :4], mask[30:34, 10:14] = 0, IGNORE
    assert dataset.classes == ("background", "road", "car") and (dataset.mask(0) == mask).all()


def roboflow(root: Path) -> Path:
    for part in ("train", "valid", "test"):
        names = [f"{part}-1_png.rf.0a.png", "same.png"]
        photos(root / part, *names)
        content = coco(
            names, [{"category_id": 1, "image_id": 1, "segmentation": [FLAT]}], {0: "pets", 1: "cat", 2: "dog"}
        )
        for category in content["categories"]:
            category["supercategory"] = "none" if category["name"] == "pets" else "pets"
        put(root / part / "_annotations.coco.json", content)
    return root


def test_an_export_of_roboflow_has_its_splits_and_no_class_for_its_project(tmp_path):
    dataset = opened(roboflow(tmp_path))
    assert dataset.classes == ("background", "cat", "dog")
    held = {split: [dataset.keys[index] for index in indices] for split, indices in dataset.official.items()}
    folders = {"train": "train", "validation": "valid", "test": "test"}
    assert held == {split: [f"{name}/{name}-1_png.rf.0a.png", f"{name}/same.png"] for split, name in folders.items()}
    assert all((dataset.mask(index) == expected(index % 2)).all() for index in range(6))


def test_a_category_around_others_is_a_class_where_objects_are_of_it(tmp_path):
    roboflow(tmp_path)
    for part, category in (("train", 0), ("valid", 1)):
        file = tmp_path / part / "_annotations.coco.json"
        content = json.loads(file.read_text())
        content["annotations"][0]["category_id"] = category
        put(file, content)
    dataset = opened(tmp_path)
    assert dataset.classes == ("background", "pets", "cat", "dog")
    held = {split: dataset.mask(indices[1]).max() for split, indices in dataset.official.items()}
    assert held == {"train": 1, "validation": 2, "test": 2}


@pytest.mark.parametrize("images", [2, 0])
def test_a_split_without_an_object_is_background_beside_others(tmp_path, images):
    roboflow(tmp_path)
    file = tmp_path / "valid" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    put(file, content | {"annotations": [], "images": content["images"][:images]})
    dataset = opened(tmp_path)
    assert dataset.classes == ("background", "cat", "dog")
    held = {split: [dataset.mask(index).any() for index in indices] for split, indices in dataset.official.items()}
    assert held == {"train": [False, True], "test": [False, True]} | ({"validation": [False] * 2} if images else {})


def test_the_files_of_coco_itself_are_two_splits_beside_others(tmp_path):
    for part, name in (("train", "000001.png"), ("val", "000002.png")):
        photos(tmp_path / f"{part}2017", name)
        content = coco([name], [{"segmentation": [FLAT]}])
        put(tmp_path / "annotations" / f"instances_{part}2017.json", content)
        put(tmp_path / "annotations" / f"captions_{part}2017.json", coco([name], [{"caption": "a square"}]))
    dataset = opened(tmp_path)
    assert dataset.keys == ("train2017/000001.png", "val2017/000002.png")
    assert dataset.official == {"train": (0,), "validation": (1,)}
    alone = opened(tmp_path / "annotations" / "instances_val2017.json")
    assert alone.keys == ("val2017/000002.png",) and not alone.official and alone.name == tmp_path.name


@pytest.mark.parametrize(
    "name",
    [
        "images/3f2a1b9c-a.png",
        "C:\\label-studio\\upload\\1\\3f2a1b9c-a.png",
        "/data/upload/1/a.png",
        "/data/local-files/?d=pets%2Fa.png",
        "../images/a.png",
    ],
)
def test_label_studio_names_images_in_its_own_ways(tmp_path, name):
    photos(tmp_path / "images", "a.png")
    put(tmp_path / "result.json", coco([name], [{"segmentation": [FLAT]}], {0: "pet"}))
    dataset = opened(tmp_path / "result.json")
    assert dataset.keys == ("images/a.png",) and (dataset.mask(0) == expected()).all()
    guessed = [line for line in dataset.summary if line.startswith("photos found by the last part of their name")]
    assert bool(guessed) == ("images" not in name)


@pytest.mark.parametrize("name", ["CAFE\u0301.PNG", "caf\u00e9.png", "caf\u00e9", "./caf\u00e9.png"])
def test_a_name_is_the_same_in_any_case_and_either_form_of_its_letters(tmp_path, name):
    photos(tmp_path, "caf\u00e9.png", "caf\u00e9.png.jpg")
    put(tmp_path / "x.json", coco([name], [{"segmentation": [FLAT]}]))
    assert opened(tmp_path).keys == ("caf\u00e9.png",)


@pytest.mark.parametrize("name", [".", "/", "..", "a/", ""])
def test_a_name_that_is_none_finds_no_image(tmp_path, name):
    photos(tmp_path, "b.png")
    put(tmp_path / "x.json", coco([name], [{"segmentation": [FLAT]}]))
    says = "none of its 1 photos is below" if name else "its images have no file_name"
    with pytest.raises(DataError, match=rf"x\.json: {says}"):
        opened(tmp_path)


def test_lvis_names_its_images_by_where_they_can_be_fetched(tmp_path):
    photos(tmp_path, "train2017/0 1.png", "val2017/0 1.png")
    content = coco([""], [{"segmentation": [FLAT]}])
    del content["images"][0]["file_name"]
    content["images"][0]["coco_url"] = "http://images.cocodataset.org/val2017/0%201.png"
    put(tmp_path / "lvis_v1_val.json", content)
    dataset = opened(tmp_path)
    assert dataset.keys == ("val2017/0 1.png",) and (dataset.mask(0) == expected()).all()


def test_two_files_of_the_same_photos_are_named_with_what_helps(tmp_path):
    coco_set(tmp_path, [{"segmentation": [FLAT]}])
    put(tmp_path / "annotations" / "instances_old.json", coco(["a.png"], [{"segmentation": [FLAT]}]))
    says = r"instances_default\.json and .*instances_old\.json both have labels of a\.png: give the right one as"
    with pytest.raises(DataError, match=says):
        opened(tmp_path)
    assert len(opened(tmp_path / "annotations" / "instances_default.json")) == 2


def test_two_images_that_a_name_may_mean_are_named(tmp_path):
    photos(tmp_path, "one/a.png", "two/a.png")
    put(tmp_path / "x.json", coco(["two/a.png", "one/a.png"], [{"segmentation": [FLAT]}]))
    assert opened(tmp_path).keys == ("two/a.png", "one/a.png")
    put(tmp_path / "x.json", coco(["three/a.png"], [{"segmentation": [FLAT]}]))
    with pytest.raises(DataError, match=r"x\.json names 'three/a\.png', which fits .*one/a\.png and .*two/a\.png"):
        opened(tmp_path)


def test_pictures_of_other_bands_are_read_with_all_of_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 250, (*SIZE, 5)).astype(np.uint16)
    put(tmp_path / "x.json", coco(["a.tif"], [{"segmentation": [FLAT]}]))
    (tmp_path / "a.tif").write_bytes(tiff(pixels))
    dataset = opened(tmp_path)
    assert len(dataset.bands) == 5 and (dataset.image(0) == pixels).all() and (dataset.mask(0) == expected()).all()


def test_what_a_coco_file_lists_and_is_not_there_is_counted(tmp_path):
    other = {"image_id": 55, "segmentation": [FLAT]}
    coco_set(tmp_path, [{"segmentation": [FLAT]}, {"segmentation": [FLAT], "id": 0}, other])
    (tmp_path / "images" / "b.png").rename(tmp_path / "images" / "c.png")
    dataset = opened(tmp_path)
    assert len(dataset) == 1 and "photos that are not listed, and left out: 1 (c.png)" in dataset.summary
    name = "instances_default.json"
    assert f"{name} lists photos that are not there: 1 (b.png)" in dataset.summary
    assert f"{name} has objects of photos that it does not list, by image_id: 1 (55)" in dataset.summary
    assert f"{name}: objects with the id of another, which are read too: 1" in dataset.summary


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        ({"segmentation": [[1, 1, 5, 5]]}, "object 0 of a.png: a polygon of 2 points encloses nothing"),
        ({"segmentation": [[1, 1, 5, 5, 9]]}, "5 numbers are no pairs of x and y"),
        ({"segmentation": [[1, 1, 5, float("nan"), 9, 9]]}, "its points are not all numbers"),
        ({"segmentation": [[1, 1, 5, "x", 9, 9]]}, "its points are not all numbers"),
        ({"segmentation": [[1, 1, 5, float("inf"), 9, 9]]}, "its points are not all numbers"),
        ({"segmentation": [FLAT], "category_id": 5}, "no category has the id 5"),
        ({"segmentation": [FLAT], "category_id": [5]}, r"no category has the id \[5\]"),
        (
            {"segmentation": {"size": [60, 40], "counts": [2400]}},
            "run lengths for 40 x 60 pixels, but a.png is 60",
        ),
        ({"segmentation": {"size": [40, 60]}}, "run lengths need size and counts"),
        ({"segmentation": [], "bbox": [1, 1, 5, 5]}, "holds boxes for detection, and no segmentation"),
        ({"keypoints": [1, 1, 2]}, "holds keypoints, and no segmentation"),
        ({"segments_info": []}, "holds panoptic labels"),
        ({"caption": "a pet"}, "holds captions"),
        ({"segmentation": [FLAT], "image_id": "0"}, "no object belongs to one of its photos"),
    ],
)
def test_what_is_wrong_in_a_coco_file_is_named(tmp_path, annotation, says):
    with pytest.raises(DataError, match=rf"instances_default\.json.*{says}") as raised:
        opened(coco_set(tmp_path, [annotation]))
    assert "\n" not in str(raised.value) and raised.value.path.name == "instances_default.json"


def test_run_lengths_that_do_not_fill_the_image_are_named_when_they_are_drawn(tmp_path):
    dataset = opened(coco_set(tmp_path, [{"segmentation": {"size": [40, 60], "counts": [400, 7]}}]))
    with pytest.raises(DataError, match=r"instances_default\.json: an object of images/a\.png: .* cover 407 pixels"):
        dataset.mask(0)


def test_a_single_box_among_polygons_is_not_taken_for_background(tmp_path):
    coco_set(tmp_path, [{"segmentation": [FLAT]}, {"segmentation": [], "bbox": [1, 1, 5, 5]}])
    with pytest.raises(DataError, match=r"object 1 of a\.png has no segmentation; correct or delete it"):
        opened(tmp_path)


def ids(count: int, start: int = 0) -> list[dict]:
    return [{"id": start, "name": f"c{number}", "file_name": f"{number}.png"} for number in range(count)]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"images": ids(2)}, "two of its images have the id 0"),
        ({"categories": ids(2, start=1)}, "two of its categories have the id 1"),
        ({"images": [{"file_name": "a.png"}]}, "one of its images has no id"),
        ({"images": {"a": 1}}, "no lists of images and annotations"),
        ({"annotations": []}, "holds no objects, and no segmentation"),
        ({"images": [{"id": 0, "file_name": "x.png"}]}, r"none of its 1 photos is below .* \(x\.png\)"),
        ({"images": [{"id": n, "file_name": "a.png"} for n in (0, 1)]}, "lists a.png twice"),
        ({"categories": [{"id": n, "name": f"c{n}"} for n in range(1, 300)]}, "has 299 classes: 253 are possible"),
    ],
)
def test_lists_that_do_not_fit_together_are_named(tmp_path, other, says):
    with pytest.raises(DataError, match=rf"instances_default\.json.*{says}"):
        opened(coco_set(tmp_path, [{"segmentation": [FLAT]}], other=other))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", "{", r"x\.json, line 1, column 2: not JSON"),
        ("x.json", [{"id": 1}], r"x\.json is a list, such as the JSON of Label Studio.*: export as COCO"),
        ("x.json", {"a": 1}, r"x\.json is no COCO file"),
        ("x.json", labelme("a.png", {}), r"x\.json holds the labels of one photo: name its folder"),
        (
            "x.yaml",
            {"background": None},
            r"x\.yaml is no data\.yaml of YOLO: it has no names; if it is a config, give it as --config",
        ),
        ("x.yaml", "{", r"x\.yaml, line 1, column 2: not YAML"),
        ("x.txt", "", r"x\.txt is no folder: give the one that holds the photos, a COCO file or a data\.yaml"),
    ],
)
def test_a_file_that_holds_no_set_is_named_as_what_it_is(tmp_path, name, content, says):
    with pytest.raises(DataError, match=says):
        open_dataset(str(put(tmp_path / name, content)))


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 123\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (POINTER, "is only a pointer of Git LFS: fetch the file itself with `git lfs pull`"),
        ("<!DOCTYPE html>\n<html><body>Sign in: here</body></html>\n", "is a web page: the download went wrong"),
    ],
)
@pytest.mark.parametrize("name", ["x.json", "a.json", "a.txt", "data.yaml", "classes.txt"])
def test_a_file_that_was_not_fetched_is_named_as_what_it_is(tmp_path, name, content, says):
    photos(tmp_path, "a.png", "b.png")
    if not name.endswith(".json"):
        put(tmp_path / "b.txt", yolo())
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name} {says}$") as raised:
        opened(tmp_path)
    assert raised.value.path.name == name


def test_labels_of_which_none_was_fetched_are_named(tmp_path):
    photos(tmp_path / "images", "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(POINTER)
    with pytest.raises(DataError, match=r"labels/a\.txt is only a pointer of Git LFS"):
        opened(tmp_path)


def test_a_file_is_opened_from_where_it_lies(tmp_path, monkeypatch):
    coco_set(tmp_path, [{"segmentation": [FLAT]}])
    for folder, name in (
        (tmp_path, "annotations/instances_default.json"),
        (tmp_path / "annotations", "instances_default.json"),
    ):
        monkeypatch.chdir(folder)
        dataset = opened(Path(name))
        assert dataset.keys == ("images/a.png", "images/b.png") and dataset.name == tmp_path.name
    (tmp_path / "annotations").rename(tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere" / "instances_default.json").keys == ("images/a.png", "images/b.png")


def test_commands_take_a_file_of_labels_and_name_their_run_after_its_folder(tmp_path):
    file = coco_set(tmp_path / "pets", [{"segmentation": [FLAT]}]) / "annotations" / "instances_default.json"
    assert LabelledData(dataset=str(file)).name == str(file) and dataset_label(str(file)) == "pets"
    assert dataset_label(str(put(tmp_path / "cats" / "data.yaml", {}))) == "cats"
    with pytest.raises(ValidationError, match="no folder: give the one that holds the photos, a COCO file or"):
        LabelledData(dataset=str(put(tmp_path / "x.txt", "")))
    bare = open_dataset(str(file), DatasetOptions(masks=False))
    assert len(bare) == 2 and not bare.has_masks and not bare.has_mask(0)


# YOLO


def yolo_set(root: Path, line: str = "", **other) -> Path:
    for part in ("train", "valid"):
        photos(root / part / "images", f"{part}.png")
        put(root / part / "labels" / f"{part}.txt", line or yolo(label=1))
    # as Roboflow writes it, though the folders lie beside the file
    content = {"train": "../train/images", "val": "../valid/images", "names": ["cat", "dog"], "nc": 2}
    put(root / "data.yaml", content | other)
    return root


@pytest.mark.parametrize("named", ["", "data.yaml"])
def test_an_export_of_roboflow_to_yolo_is_read(tmp_path, named):
    dataset = opened(yolo_set(tmp_path) / named)
    assert dataset.keys == ("train/images/train.png", "valid/images/valid.png")
    assert dataset.classes == ("background", "cat", "dog") and dataset.name == tmp_path.name
    assert dataset.official == {"train": (0,), "validation": (1,)}
    assert (dataset.mask(1) == expected(2)).all()


def test_labels_are_found_though_the_whole_set_lies_in_a_folder_called_images(tmp_path):
    dataset = opened(yolo_set(tmp_path / "images"))
    assert (dataset.mask(0) == expected(2)).all() and (dataset.mask(1) == expected(2)).all()


def test_points_that_rounding_has_moved_out_of_the_photo_are_drawn(tmp_path):
    dataset = opened(yolo_set(tmp_path, "1 -0.005 -0.009 1.005 0 1.009 1 0 1.005"))
    assert (dataset.mask(0) == 2).all()


def test_names_may_be_a_mapping_and_splits_lists_of_images_as_cvat_writes_them(tmp_path):
    photos(tmp_path / "images" / "train", "a.png", "b.png")
    put(tmp_path / "labels" / "train" / "a.txt", yolo(label="3.0") + "\n")
    put(tmp_path / "train.txt", "data/images/train/a.png\n./images/train/b.png\n")
    put(tmp_path / "data.yaml", {"path": "/elsewhere", "train": "train.txt", "names": {3: "pet", "4": "no one"}})
    dataset = opened(tmp_path)
    assert dataset.classes == ("background", "pet", "no one") and not dataset.official
    assert (dataset.mask(0) == expected()).all() and not dataset.mask(1).any() and dataset.has_mask(1)
    assert "photos without a file of labels, which are background: 1 (b.png)" in dataset.summary


@pytest.mark.parametrize(
    ("other", "official", "says"),
    [
        ({"val": "train/images"}, {}, "data.yaml: validation and train are the same photos"),
        ({"test": "valid/images"}, {"train": (0,), "test": (1,)}, "validation and test are the same photos"),
        ({"test": "../test/images"}, {"train": (0,), "validation": (1,)}, "test is ../test/images, which is not there"),
        (
            {"train": "/content/x/train/images", "val": "C:\\x\\valid\\images"},
            {"train": (0,), "validation": (1,)},
            "2 of 2",
        ),
        ({"val": "", "train": ["train/images", "valid/images"]}, {}, "objects: 2 of 2 classes (cat, dog)"),
    ],
)
def test_splits_that_are_none_are_told_and_left_out(tmp_path, other, official, says):
    dataset = opened(yolo_set(tmp_path, **other))
    assert dataset.official == official and says in "\n".join(dataset.summary)


@pytest.mark.parametrize("path", [None, ".", "/elsewhere/pets", "D:\\pets", "../datasets/pets", "here"])
@pytest.mark.parametrize(
    ("folders", "named"),
    [
        ("images/train", "images/train"),
        ("images/train", "../images/train"),
        ("images/train", "D:\\pets\\images\\train"),
        ("Images/Train", "images/train"),
        ("train/Images", "../train/images"),
        ("images", "/elsewhere/pets/images"),
        ("images/train", "train.txt"),
        ("Images", "/elsewhere/pets/train.txt"),
    ],
)
def test_paths_of_another_machine_and_names_in_another_case_find_the_folders(tmp_path, path, folders, named):
    photos(tmp_path / folders, "a.png", "b.png")
    labels = folders.replace("Images", "Labels").replace("images", "labels").replace("Train", "TRAIN")
    put(tmp_path / labels / "A.TXT", yolo())
    put(tmp_path / "Train.txt", "".join(f"/elsewhere/pets/{folders}/{name}.png\n" for name in "abc"))
    content = {"train": named, "names": ["pet"]} | ({"path": path} if path else {})
    put(tmp_path / "data.yaml", content | ({"path": str(tmp_path)} if path == "here" else {}))
    dataset = opened(tmp_path)
    assert dataset.keys == (f"{folders}/a.png", f"{folders}/b.png")
    assert (dataset.mask(0) == expected()).all() and not dataset.mask(1).any()
    lost = "names photos that are not there: 1 (/elsewhere/pets/"
    assert any(lost in line for line in dataset.summary) == named.endswith(".txt")


@pytest.mark.parametrize("key", ["val", "valid", "validation"])
def test_the_validation_part_has_several_names(tmp_path, key):
    yolo_set(tmp_path)
    put(tmp_path / "data.yaml", {"train": "train/images", key: "valid/images", "names": ["cat", "dog"]})
    assert opened(tmp_path).official == {"train": (0,), "validation": (1,)}


def test_a_file_of_labels_that_two_photos_would_have_is_named(tmp_path):
    photos(tmp_path / "images", "a.png", "a.jpg")
    put(tmp_path / "labels" / "a.txt", yolo())
    with pytest.raises(DataError, match=r"labels/a\.txt would be the labels of both .*a\.jpg and .*a\.png: rename or"):
        opened(tmp_path)


def test_lists_of_classes_that_differ_are_named(tmp_path):
    for part, classes in (("train", "cat\ndog\n"), ("val", "dog\ncat\n")):
        photos(tmp_path / "images" / part, "a.png")
        put(tmp_path / "labels" / part / "a.txt", yolo())
        put(tmp_path / "labels" / part / "classes.txt", classes)
    with pytest.raises(DataError, match=r"train/classes\.txt and .*val/classes\.txt name different classes: keep the"):
        opened(tmp_path)
    put(tmp_path / "labels" / "val" / "Classes.txt", (tmp_path / "labels" / "train" / "classes.txt").read_text())
    (tmp_path / "labels" / "val" / "classes.txt").unlink()
    dataset = opened(tmp_path)
    assert dataset.classes == ("background", "cat", "dog") and dataset.official == {"train": (0,), "validation": (1,)}


@pytest.mark.parametrize("where", ["", "labels", None])
def test_without_a_data_yaml_the_names_are_in_classes_txt(tmp_path, where):
    photos(tmp_path / "images", "a.png", "b.png")
    put(tmp_path / "labels" / "a.txt", yolo(label=1))
    if where is not None:
        put(tmp_path / where / "classes.txt", "cat\ndog\n")
    dataset = opened(tmp_path)
    assert dataset.classes == (("background", "class_1", "class_2") if where is None else ("background", "cat", "dog"))
    assert (dataset.mask(0) == expected(2)).all()


@pytest.mark.parametrize("given", ["", "data.yaml"])
def test_a_data_yaml_without_the_places_of_images_names_the_classes(tmp_path, given):
    for part in ("train", "val"):
        photos(tmp_path / "images" / part, f"{part}.png")
        put(tmp_path / "labels" / part / f"{part}.txt", yolo(label=1))
    put(tmp_path / "data.yaml", {"nc": 2, "names": ["cat", "dog"]})
    dataset = opened(tmp_path / given)
    assert dataset.classes == ("background", "cat", "dog") and (dataset.mask(0) == expected(2)).all()
    assert dataset.official == {"train": (0,), "validation": (1,)}
    put(tmp_path / "classes.txt", "dog\ncat\n")
    with pytest.raises(DataError, match=r"data\.yaml and .*classes\.txt name different classes: keep the right one"):
        opened(tmp_path / given)
    put(tmp_path / "data.yaml", {"kpt_shape": [3, 2], "names": ["cat", "dog"]})
    with pytest.raises(DataError, match=r"data\.yaml names keypoints"):
        opened(tmp_path / given)


@pytest.mark.parametrize(("names", "said"), [("[cat, no]", "1 for false"), ("{0: cat, 1: }", "1 for null")])
def test_a_name_that_yaml_takes_for_none_is_named(tmp_path, names, said):
    yolo_set(tmp_path)
    put(tmp_path / "data.yaml", f"train: train/images\nnames: {names}\n")
    with pytest.raises(DataError, match=rf"data\.yaml: YAML takes the name of class {said}; put it in quotes"):
        opened(tmp_path)
    put(tmp_path / "data.yaml", "train: train/images\nnames: [cat, 'no']\n")
    assert opened(tmp_path).classes == ("background", "cat", "no")


def test_of_two_files_of_sets_none_is_taken_by_chance(tmp_path):
    yolo_set(tmp_path)
    (tmp_path / "data.yaml").unlink(missing_ok=True)
    for name, classes in (("b", ["dog", "cat"]), ("a", ["cat", "dog"])):
        put(tmp_path / f"{name}.yaml", {"train": "train/images", "names": classes})
    with pytest.raises(DataError, match=r"/a\.yaml and .*/b\.yaml are of two sets: give the right one as --dataset"):
        opened(tmp_path)
    assert opened(tmp_path / "b.yaml").classes == ("background", "dog", "cat")
    put(tmp_path / "a.yaml", (tmp_path / "b.yaml").read_text())
    assert opened(tmp_path).classes == ("background", "dog", "cat")


@pytest.mark.parametrize("coding", ["utf-16", "latin-1"])
def test_names_of_classes_that_are_no_utf_8_are_not_guessed(tmp_path, coding):
    photos(tmp_path, "a.png")
    put(tmp_path / "a.txt", yolo())
    (tmp_path / "classes.txt").write_bytes("Bär\r\nBör\r\n".encode(coding))  # alike but for what is lost
    with pytest.raises(DataError, match=r"classes\.txt cannot be read: .*; save it as UTF-8"):
        opened(tmp_path)


def test_the_names_of_darknet_are_those_of_the_classes(tmp_path):
    photos(tmp_path, "a.png")
    put(tmp_path / "a.txt", yolo())
    put(tmp_path / "obj.names", "cat\ndog\n")
    assert opened(tmp_path).classes == ("background", "cat", "dog")


@pytest.mark.parametrize(("count", "dimensions"), [(9, 2), (2, 3), (9, 3)])
def test_poses_are_not_drawn_as_polygons(tmp_path, count, dimensions):
    rng = np.random.default_rng(0)
    for number in range(6):
        photos(tmp_path, f"{number}.png")
        middle, size = rng.uniform(0.35, 0.65, 2), rng.uniform(0.2, 0.6, 2)
        keypoints = middle + size * rng.uniform(-0.5, 0.5, (count, 2))
        keypoints[number % count] = 0  # not in sight
        if dimensions == 3:
            keypoints = np.column_stack([keypoints, (keypoints[:, 0] > 0) * rng.integers(1, 3, count)])
        numbers = " ".join(f"{value:.5f}" for value in (*middle, *size, *keypoints.ravel()))
        put(tmp_path / f"{number}.txt", f"0 {numbers}\n")
    says = rf"0\.txt, line 1: a box and {count} keypoints of a pose, not a polygon; export for segmentation"
    with pytest.raises(DataError, match=says):
        opened(tmp_path)


@pytest.mark.parametrize("corners", [4, 5, 16])
def test_polygons_of_as_many_corners_are_drawn_and_a_line_says_what_else_they_may_be(tmp_path, corners):
    turns = 2 * np.pi * np.arange(corners) / corners
    for number in range(3):
        photos(tmp_path, f"{number}.png")
        put(tmp_path / f"{number}.txt", yolo(zip(30 + 10 * np.cos(turns), 20 + 10 * np.sin(turns), strict=True)))
    dataset = opened(tmp_path)
    area = corners / 2 * 100 * np.sin(2 * np.pi / corners)
    assert dataset.mask(2).sum() == pytest.approx(area, abs=24)
    line = f"polygons: all 3 have {corners} points; if they are boxes with {corners - 2} keypoints, export again"
    assert (line in dataset.summary) == (corners > 4)
    put(tmp_path / "data.yaml", {"names": ["cell"]})
    assert line not in opened(tmp_path).summary


def test_labels_may_lie_beside_their_images(tmp_path):
    photos(tmp_path, "a.png")
    put(tmp_path / "a.txt", yolo())
    put(tmp_path / "gone.txt", yolo())
    dataset = opened(tmp_path)
    assert (dataset.mask(0) == expected()).all() and dataset.classes == ("background", "foreground")
    assert "files of labels without their photo: 1 (gone.txt)" in dataset.summary


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5 0.2 0.2", r"a box, not a polygon; export for segmentation \(.*2 of 2\)"),
        ("0 0.5 0.5 0.2 0.2 0.3 0.3 0.3", "7 numbers are no pairs"),
        ("0 0.5 0.5", "a polygon of 1 points encloses nothing"),
        ("0 0.1 0.1 0.2 nan 0.3 0.3", "not all numbers"),
        ("0 0.1 0.1 0.2 x 0.3 0.3", "not all numbers"),
        ("7 0.1 0.1 0.2 0.1 0.3 0.3", r"no class has the number 7 \(0 cat, 1 dog\)"),
        ("-1 0.1 0.1 0.2 0.1 0.3 0.3", "no class has the number -1"),
        ("0 10 10 20 10 20 20", "points reach from 10 to 20, not from 0 to 1 of the photo"),
    ],
)
def test_what_is_wrong_in_a_file_of_yolo_is_named_with_its_line(tmp_path, line, says):
    with pytest.raises(DataError, match=rf"train\.txt, line 1: .*{says}") as raised:
        opened(yolo_set(tmp_path, line))
    assert raised.value.path.name == "train.txt" and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"names": "pet"}, r"data\.yaml: names must be a list"),
        ({"names": {"cat": 0}}, r"data\.yaml: names must be a list"),
        ({"train": "nowhere"}, r"data\.yaml: train is nowhere, which is not there"),
        ({"kpt_shape": [17, 3]}, r"data\.yaml names keypoints"),
        ({"names": ["background"]}, r"data\.yaml names no class but the background: there is nothing to learn"),
    ],
)
def test_what_is_wrong_in_a_data_yaml_is_named(tmp_path, other, says):
    with pytest.raises(DataError, match=says):
        opened(yolo_set(tmp_path, **other))


def test_images_without_any_labels_are_not_all_background(tmp_path):
    yolo_set(tmp_path)
    for file in tmp_path.glob("*/labels/*.txt"):
        file.unlink()
    with pytest.raises(DataError, match=r"none of the 2 photos has a file of labels, .*train.labels.train\.txt"):
        opened(tmp_path)


# LabelMe


def labelme_set(root: Path, *shapes, **other) -> Path:
    photos(root, "a.png")
    put(root / "a.json", labelme("a.png", *shapes, **other))
    return root


def png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_the_photos_inside_of_labelmes_files_are_in_memory_one_at_a_time(tmp_path):
    size = 1 << 20
    for number in range(16):
        photos(tmp_path, f"{number}.png")
        put(tmp_path / f"{number}.json", labelme(f"{number}.png", {}, imageData="A" * size))
    tracemalloc.start()
    try:
        assert len(opened(tmp_path)) == 16
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * size  # of one file its bytes, its text and what it holds


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"shape_type": "rectangle", "points": [[30, 25], [10, 5]]},
        {"shape_type": "rectangle", "points": BOX},
        {"shape_type": "rotation", "points": BOX, "direction": 0},
        {"shape_type": "quadrilateral", "points": BOX},
        {"shape_type": "mask", "points": [[10, 5], [29, 24]], "mask": png(np.ones((20, 20), np.uint8))},
        {"shape_type": "mask", "points": [[10, 5], [29, 24]], "mask": png(np.full((20, 20), 255, np.uint8))},
    ],
)
def test_shapes_of_labelme_are_drawn(tmp_path, shape):
    assert (opened(labelme_set(tmp_path, shape)).mask(0) == expected()).all()


def test_a_circle_is_drawn_around_its_middle(tmp_path):
    mask = opened(labelme_set(tmp_path, {"shape_type": "circle", "points": [[30, 20], [30, 30]]})).mask(0)
    rows, columns = np.mgrid[:40, :60] + 0.5
    assert abs((mask > 0) ^ ((rows - 20) ** 2 + (columns - 30) ** 2 < 100)).sum() <= 4
    half = opened(labelme_set(tmp_path, {"shape_type": "circle", "points": [[0, 20], [0, 30]]})).mask(0)
    assert half.sum() == pytest.approx(50 * np.pi, abs=6)


def test_labels_are_classes_by_name_and_those_of_labelme_mean_what_they_say(tmp_path):
    corners = [[[x, 0], [x + 4, 0], [x + 4, 4], [x, 4]] for x in (0, 10, 20)]
    labels = ("_background_", "__ignore__", "ant")
    others = [{"label": label, "points": points} for label, points in zip(labels, corners, strict=True)]
    mask = expected(2)
    mask[:4, 10:14], mask[:4, 20:24] = IGNORE, 1
    dataset = opened(labelme_set(tmp_path, {}, *others))
    assert dataset.classes == ("background", "ant", "pet") and (dataset.mask(0) == mask).all()


def test_a_group_is_one_object_whose_size_is_that_of_its_parts(tmp_path):
    right = [[x + 30, y] for x, y in BOX]
    over = {
        "label": "zoo",
        "points": [[5, 5], [31, 5], [31, 25], [5, 25]],
    }  # 26 x 20, less than both squares, more than one
    grouped = [{"group_id": 4}, {"group_id": 4, "points": right}]
    assert opened(labelme_set(tmp_path, *grouped, over)).mask(0)[10, 20] == 2
    assert opened(labelme_set(tmp_path, {}, {"points": right}, over)).mask(0)[10, 20] == 1


def test_an_image_without_its_file_is_unlabelled_and_a_file_without_its_image_counted(tmp_path):
    labelme_set(tmp_path, {})
    photos(tmp_path, "b.png")
    put(tmp_path / "gone.json", labelme("gone.png", {}))
    dataset = opened(tmp_path)
    assert dataset.keys == ("a.png", "b.png") and dataset.has_mask(0) and not dataset.has_mask(1)
    with pytest.raises(DataError, match=r"b\.png .*has no mask"):
        dataset.mask(1)
    assert "photos without a JSON file, which are unlabelled: 1 (b.png)" in dataset.summary
    assert "LabelMe files without their photo: 1 (gone.json)" in dataset.summary


@pytest.mark.parametrize("form", ["yolo", "labelme"])
@pytest.mark.parametrize("home", ["gt_masks", "train_masks"])
def test_masks_that_lie_beside_labelled_photos_are_no_photos_without_labels(tmp_path, form, home):
    rng = np.random.default_rng(0)
    for stem in "abcde":
        write(tmp_path / "photos" / f"{stem}.png", rng.integers(0, 256, (*SIZE, 3), np.uint8))
        write(tmp_path / home / f"{stem}.png", expected(255))
        if form == "yolo":
            put(tmp_path / "photos" / f"{stem}.txt", yolo())
        else:
            put(tmp_path / "photos" / f"{stem}.json", labelme(f"{stem}.png", {}))
    write(tmp_path / "photos" / "f.png", rng.integers(0, 256, (*SIZE, 3), np.uint8))  # which has neither
    dataset = opened(tmp_path)
    assert [key.rpartition("/")[2] for key in dataset.keys] == [f"{stem}.png" for stem in "abcdef"]
    assert all("photos" in str(dataset.path(index)) for index in range(6))
    shown = f"{home}/a.png, {home}/b.png, {home}/c.png and 2 more"
    assert f"pictures that look like masks of the photos, and are left out: 5 ({shown})" in dataset.summary


@pytest.mark.parametrize("path", ["..\\photos\\a.png", "../photos/a.png", "old name.png"])
def test_files_may_lie_in_a_folder_of_their_own(tmp_path, path):
    photos(tmp_path / "photos", "a.png")
    put(tmp_path / "labels" / "a.json", labelme(path, {}))
    dataset = opened(tmp_path)
    assert dataset.keys == ("photos/a.png",) and (dataset.mask(0) == expected()).all()


def test_folders_named_after_splits_are_the_splits(tmp_path):
    for part in ("train", "val", "test"):
        labelme_set(tmp_path / part, {})
    dataset = opened(tmp_path)
    held = {split: [dataset.keys[index] for index in indices] for split, indices in dataset.official.items()}
    assert held == {"train": ["train/a.png"], "validation": ["val/a.png"], "test": ["test/a.png"]}


@pytest.mark.parametrize("parts", [("train", "val"), ("train",)])
def test_a_folder_called_test_without_labels_is_no_test_part(tmp_path, parts):
    for part in parts:
        labelme_set(tmp_path / part, {})
    photos(tmp_path, "test/a.png", "test/b.png", "train/unlabelled.png")
    dataset = opened(tmp_path)
    assert "test: none of its 2 photos has labels, so that it is no part" in dataset.summary
    held = {split: [dataset.keys[index] for index in indices] for split, indices in dataset.official.items()}
    expected = {"train": ["train/a.png", "train/unlabelled.png"], "validation": ["val/a.png"]}
    assert held == (expected if len(parts) > 1 else {})
    assert [key for index, key in enumerate(dataset.keys) if dataset.has_mask(index)] == [f"{p}/a.png" for p in parts]


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"shape_type": "linestrip"}, r"shape 1 \(pet\): a linestrip encloses nothing; draw a polygon"),
        ({"shape_type": "point", "points": [[1, 1]]}, "a point encloses nothing"),
        ({"shape_type": "cube"}, "cube is not read"),
        ({"points": BOX[:2]}, "a polygon of 2 points encloses nothing"),
        ({"points": [[1, 1], [2, float("nan")], [3, 3]]}, "not all numbers"),
        ({"points": [[1, 1], [2], [3, 3]]}, "no pairs of x and y"),
        ({"points": None}, "no pairs of x and y"),
        ({"shape_type": "circle"}, "a circle has two points, not 4"),
        ({"shape_type": "rectangle", "points": BOX[:3]}, "a rectangle has two points, not 3"),
        ({"shape_type": "mask", "points": BOX[:2], "mask": "no"}, "its mask is no PNG"),
    ],
)
def test_what_is_wrong_in_a_labelme_file_is_named(tmp_path, shape, says):
    with pytest.raises(DataError, match=rf"a\.json.*{says}") as raised:
        opened(labelme_set(tmp_path, shape))
    assert raised.value.path.name == "a.json" and "\n" not in str(raised.value)


# Whatever is in the files


def test_damaged_labels_are_read_or_named_and_never_a_traceback(tmp_path):
    rng = np.random.default_rng(0)
    photos(tmp_path, "a.png")
    good = coco(["a.png"], [{"segmentation": [FLAT]}, {"segmentation": {"size": [40, 60], "counts": [2400]}}])
    circle = {"shape_type": "circle", "points": BOX[:2]}
    texts = {
        "x.json": put(tmp_path / "x.json", good).read_bytes(),
        "a.json": put(tmp_path / "a.json", labelme("a.png", {}, circle)).read_bytes(),
        "a.txt": put(tmp_path / "a.txt", yolo()).read_bytes(),
    }
    outcomes = {"read": 0, "named": 0}
    for name in texts:
        (tmp_path / name).unlink()
    for name, text in texts.items():
        for _ in range(60):
            damaged = bytearray(text)
            for place in rng.integers(0, len(text), rng.integers(1, 4)):
                damaged[place] = rng.choice(list(b'0123456789.-,[]{}":enul \xff'))
            (tmp_path / name).write_bytes(damaged)
            try:
                dataset = drawn_set(tmp_path, ANYTHING)
                if dataset is not None:
                    [dataset.mask(index) for index in range(len(dataset)) if dataset.has_mask(index)]
                outcomes["read"] += 1
            except DataError:
                outcomes["named"] += 1
        (tmp_path / name).unlink()
    assert min(outcomes.values()) > 20


@pytest.mark.parametrize("form", ["coco", "labelme"])
@pytest.mark.parametrize("write", [float, str, "{}.0".format])
def test_a_size_may_stand_in_a_file_as_a_number_of_any_kind_or_as_text(tmp_path, form, write):
    height, width = map(write, SIZE)
    sides = {"height": height, "width": width} if form == "coco" else {"imageHeight": height, "imageWidth": width}
    content = coco(["a.png"], [{"segmentation": [FLAT]}]) if form == "coco" else labelme("a.png", {})
    (content["images"][0] if form == "coco" else content).update(sides)
    put(tmp_path / "x.json", content)
    photos(tmp_path, "a.png")
    assert (opened(tmp_path).mask(0)[INSIDE] == 1).all()
    photos(tmp_path, "a.png", size=(20, 30))
    with pytest.raises(DataError, match=r"a\.png has 60 x 40 pixels there, but is 30 x 20"):
        opened(tmp_path)


def test_photos_that_were_converted_since_are_told_by_their_suffix(tmp_path):
    photos(tmp_path / "images", "a.png", "b.png")
    file = put(tmp_path / "x.json", coco(["a.tif", "b.tif"], [{"segmentation": [FLAT]}]))
    with pytest.raises(DataError, match=r"none of its 2 photos .* give each file_name .*, as a\.png has"):
        opened(tmp_path)
    put(file, coco(["a.png", "b.png"], [{"segmentation": [FLAT]}]))
    assert len(opened(tmp_path)) == 2


@pytest.mark.parametrize("called", ["test", "train", "validation data"])
def test_the_name_of_the_whole_folder_is_no_split_of_its_files(tmp_path, called):
    folder = tmp_path / called
    photos(folder / "images", "a.png", "b.png", "c.png")
    for split, name in (("train", "a.png"), ("val", "b.png"), ("test", "c.png")):
        put(folder / f"instances_{split}.json", coco([name], [{"segmentation": [FLAT]}]))
    dataset = opened(folder)
    parts = {split: [Path(dataset.keys[index]).name for index in part] for split, part in dataset.official.items()}
    assert parts == {"train": ["a.png"], "validation": ["b.png"], "test": ["c.png"]}


def test_blanks_around_a_label_make_no_class_of_their_own(tmp_path):
    photos(tmp_path, "a.png")
    put(tmp_path / "a.json", labelme("a.png", {"label": "pet "}, {"label": " pet"}, {"label": "pet"}))
    assert opened(tmp_path).classes == ("background", "pet")


def grain(folder: Path, *names: str) -> None:
    """Photos that look like some."""
    for number, name in enumerate(names):
        write(folder / name, np.random.default_rng(number).integers(0, 255, (*SIZE, 3)).astype(np.uint8))


@pytest.mark.parametrize("form", ["COCO", "YOLO", "LabelMe"])
@pytest.mark.parametrize(("masks", "labels"), [(2, 6), (6, 6), (3, 3)])
def test_labels_beside_masks_are_told_and_a_choice_is_asked_for_where_they_are_of_other_photos(
    tmp_path, form, masks, labels
):
    names = [f"p{number}" for number in range(6)]
    grain(tmp_path / "images", *(f"{name}.jpg" for name in names))
    for name in names[:masks]:
        write(tmp_path / "masks" / f"{name}.png", np.uint8(255) * (np.arange(60) % 60 < 20)[None].repeat(40, 0))
    if form == "COCO":
        put(tmp_path / "result.json", coco([f"{name}.jpg" for name in names[:labels]], [{"segmentation": [FLAT]}]))
    for name in names[:labels]:
        if form == "YOLO":
            put(tmp_path / "labels" / f"{name}.txt", yolo())
        elif form == "LabelMe":
            put(tmp_path / "images" / f"{name}.json", labelme(f"{name}.jpg", {}))
    if form == "YOLO":
        put(tmp_path / "data.yaml", {"names": ["pet"], "train": "images"})
    if masks == labels:
        dataset = open_dataset(str(tmp_path))
        assert sum(map(dataset.has_mask, range(6))) == masks
        assert any(
            line.startswith(f"labels of {form}, which are left aside, for there are") for line in dataset.summary
        )
        return
    reason = (
        rf"holds masks, and labels of {form} in \S+, of photos without a mask \(images/p2\.jpg\) too: .*--masks fol"
    )
    with pytest.raises(DataError, match=reason):
        open_dataset(str(tmp_path))
    masked = open_dataset(str(tmp_path), DatasetOptions(mask_folder="masks"))
    assert sum(map(masked.has_mask, range(6))) == 2
    if form != "LabelMe":
        assert open_dataset(str(tmp_path / ("result.json" if form == "COCO" else "data.yaml"))).classes[1] == "pet"


def test_a_data_yaml_beside_masks_is_no_labels(tmp_path):
    grain(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    write(tmp_path / "masks" / "a.png", np.uint8(255) * (np.arange(60) % 60 < 20)[None].repeat(40, 0))
    put(tmp_path / "data.yaml", {"names": ["pet"], "train": "images"})
    with pytest.raises(DataError, match="none of the 3 photos has a file of labels"):
        open_dataset(str(tmp_path / "data.yaml"))
    assert not any("labels of" in line for line in open_dataset(str(tmp_path)).summary)


@pytest.mark.parametrize("copies", [False, True])
def test_photos_may_lie_with_their_labels_in_a_folder_that_is_called_as_one_of_masks(tmp_path, copies):
    grain(tmp_path / "labels", "a.jpg", "b.jpg")
    for name in "ab":
        put(tmp_path / "labels" / f"{name}.json", labelme(f"{name}.jpg", {}))
    if copies:
        grain(tmp_path / "images", "a.jpg", "b.jpg")
    dataset = open_dataset(str(tmp_path))
    assert [key for index, key in enumerate(dataset.keys) if dataset.has_mask(index)] == [
        "labels/a.jpg",
        "labels/b.jpg",
    ]


@pytest.mark.parametrize("name", ["p{}", "mask_{}"])
@pytest.mark.parametrize("other", ["{}.png", "{}.json"])
def test_masks_go_before_labels_whatever_their_names_and_what_lies_beside_them(tmp_path, name, other):
    photo = name.replace("mask", "img")
    for number in "123":
        grain(tmp_path / "images", f"{photo.format(number)}.jpg")
        mask = name.format(number)
        write(tmp_path / "masks" / f"{mask}.png", np.uint8(255) * (np.arange(60) % 60 < 20)[None].repeat(40, 0))
        if other.endswith("json"):
            put(tmp_path / "masks" / f"{mask}.json", labelme(f"{photo.format(number)}.jpg", {}))
    dataset = open_dataset(str(tmp_path))
    assert (len(dataset), dataset.classes) == (3, ("background", "foreground"))
    assert all(map(dataset.has_mask, range(3)))


def test_a_picture_beside_labels_that_is_no_mask_of_a_photo_does_not_hide_them(tmp_path):
    names = ["a.jpg", "b.jpg", "c.jpg"]
    grain(tmp_path / "images", *names)
    put(tmp_path / "annotations" / "instances_default.json", coco(names, [{"segmentation": [FLAT]}]))
    write(tmp_path / "annotations" / "legend.png", np.zeros((8, 8), np.uint8))
    assert len(open_dataset(str(tmp_path))) == 3


TILTED = [[10, 5], [30, 8], [28, 25], [10, 22]]


@pytest.mark.parametrize(
    ("outline", "objects", "told"),
    [(BOX, 3, True), (BOX, 2, False), ([*BOX, [8, 15]], 3, False), (TILTED, 3, False)],
)
def test_objects_that_are_all_upright_boxes_are_told(tmp_path, outline, objects, told):
    photos(tmp_path, "a.jpg")
    put(tmp_path / "a.json", labelme("a.jpg", *({"points": outline} for _ in range(objects))))
    line = f"{objects} of {objects} objects are upright boxes: if they are drawn around things, so are the masks"
    assert any(said.startswith(line) for said in open_dataset(str(tmp_path)).summary) is told
