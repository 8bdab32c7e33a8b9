"""The splits that people give, by lists or by the names of folders: taken, or told why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.drawn import drawn_set
from simclrseg.data.datasets.folder import image_folder
from simclrseg.data.splits import make_split
from simclrseg.errors import DataError
from tests.data.datasets.labels import FLAT, coco, labelme, put, yolo
from tests.data.datasets.labels import photos as same_photos
from tests.folders import write

PHOTOS = DatasetOptions(masks=False)


def photos(folder: Path, *names: str) -> None:
    """Photos that differ in their width."""
    for index, name in enumerate(names):
        same_photos(folder, name, size=(40, 60 + index))


def held(dataset: Dataset) -> dict[str, list[str]]:
    """The stems of each part."""
    return {split: [Path(dataset.keys[index]).stem for index in part] for split, part in dataset.official.items()}


def said(dataset: Dataset) -> str:
    return "\n".join(dataset.summary)


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "val.txt", "test.txt"),
        ("Train.txt", "Validation.TXT", "TEST.txt"),
        (
            "ImageSets/Segmentation/Train.txt",
            "ImageSets/Segmentation/Validation.txt",
            "ImageSets/Segmentation/Test.txt",
        ),
        ("imagesets/segmentation/train.txt", "imagesets/segmentation/val.txt", "imagesets/segmentation/test.txt"),
        ("splits/train.txt", "splits/val.txt", "splits/test.txt"),
        ("train_list.txt", "valid-images.txt", "testing_set.txt"),
        ("train2012.txt", "val2012.txt", "test2012.txt"),
        ("splits/train.txt", "val.txt", "splits/test.txt"),
    ],
)
@pytest.mark.parametrize("around", ["", "VOCdevkit/VOC2012"])
def test_lists_are_found_under_the_names_and_in_the_places_that_people_use(tmp_path, names, around):
    photos(tmp_path / around / "images", "a.png", "b.png", "c.png", "d.png")
    for name, stem in zip(names, "abc", strict=True):
        put(tmp_path / around / name, f"{stem}\n")
    dataset = image_folder(tmp_path, PHOTOS)
    assert held(dataset) == {"train": ["a"], "validation": ["b"], "test": ["c"]}
    assert "photos in no list: 1" in dataset.summary and ".txt" not in said(dataset)


@pytest.mark.parametrize(
    "line",
    [
        "cafe\u0301",
        "caf\u00e9.JPG",
        "./images/caf\u00e9.jpg",
        "images\\caf\u00e9.jpg",
        "D:\\pets\\images\\caf\u00e9.jpg",
        "/data/pets/images/caf\u00e9.jpg",
        "Images/CAF\u00c9.jpg",
        "caf\u00e9.png",
        "caf\u00e9.jpg,caf\u00e9.png",
        "caf\u00e9.jpg\tcaf\u00e9.png",
        "images/caf\u00e9.jpg masks/caf\u00e9.png",
        "'caf\u00e9.jpg'",
    ],
)
def test_names_in_lists_may_be_written_in_any_way(tmp_path, line):
    photos(tmp_path / "images", "caf\u00e9.jpg", "cafe.jpg")
    put(tmp_path / "test.txt", f"{line}\n")
    assert held(image_folder(tmp_path, PHOTOS)) == {"test": ["caf\u00e9"]}


@pytest.mark.parametrize("line", ["site2/a.jpg", "/data/site2/a.jpg", "elsewhere/images/a.jpg", "a.jpg.txt"])
def test_a_name_in_another_folder_is_not_taken_for_a_photo_of_that_name(tmp_path, line):
    photos(tmp_path / "site1", "a.jpg", "b.jpg")
    put(tmp_path / "test.txt", f"{line}\n")
    with pytest.raises(DataError, match=r"test\.txt names photos that are not there"):
        image_folder(tmp_path, PHOTOS)


def test_the_exact_name_is_taken_of_several_that_differ_in_case_and_folder(tmp_path):
    photos(tmp_path, "one/a.jpg", "two/A.jpg", "two/b.jpg")
    put(tmp_path / "test.txt", "A\ntwo/b.jpg\n")
    dataset = image_folder(tmp_path, PHOTOS)
    assert [dataset.keys[index] for index in dataset.official["test"]] == ["two/A.jpg", "two/b.jpg"]
    put(tmp_path / "test.txt", "a.JPG\n")
    with pytest.raises(DataError, match=r"names 'a\.JPG', which fits 2 photos: write the path and the suffix"):
        image_folder(tmp_path, PHOTOS)


def test_lists_of_several_folds_are_not_guessed_and_named(tmp_path):
    photos(tmp_path / "images", "a.png", "b.png")
    for fold, stem in (("fold1", "a"), ("fold2", "b")):
        put(tmp_path / fold / "test.txt", f"{stem}\n")
    dataset = image_folder(tmp_path, PHOTOS)
    assert not dataset.official
    line = "lists that are not read, for there are others of the same parts: fold1/test.txt, fold2/test.txt; copy the"
    assert line in said(dataset)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("notes/test.txt", "how the photos were taken\n", "lists that are not read, for it names none of the photos: "),
        ("splits/val.txt", "a\n", "lists that are not read, for those that it names are in others: splits/val.txt"),
        ("val.csv", "a.png,1\n", "lists that are not read: val.csv; write names of photos to train.txt, one a line"),
        ("split.csv", "a.png,train\n", "lists that are not read: split.csv; write names of photos to train.txt"),
        ("my_splits.json", "{}", "lists that are not read: my_splits.json; write names of photos to train.txt"),
        ("fold0_train.txt", "a\n", "lists that are not read: fold0_train.txt; write names of photos to train.txt"),
    ],
)
def test_other_files_called_like_lists_are_told_and_left_out(tmp_path, name, text, says):
    photos(tmp_path / "images", "a.png", "b.png")
    put(tmp_path / "train.txt", "a\n")
    put(tmp_path / name, text)
    dataset = image_folder(tmp_path, PHOTOS)
    assert held(dataset) == {"train": ["a"]} and says in said(dataset)


def test_a_list_that_was_not_fetched_is_named(tmp_path):
    photos(tmp_path, "a.png")
    put(tmp_path / "test.txt", f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\n")
    with pytest.raises(DataError, match=r"test\.txt is only a pointer of Git LFS: fetch the file itself"):
        image_folder(tmp_path, PHOTOS)


def test_lists_may_name_photos_that_are_not_read(tmp_path):
    photos(tmp_path, "a.png", "b.png")
    (tmp_path / "c.cr2").write_bytes(b"raw")
    put(tmp_path / "test.txt", "a.png\nc.cr2\n")
    dataset = image_folder(tmp_path, PHOTOS)
    assert held(dataset) == {"test": ["a"]} and "photos in lists that are no part of the set: 1 (c.cr2)" in said(
        dataset
    )


# Folders


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("images/training", "images/validation"), {"train": ["a"], "validation": ["b"]}),
        (("training/images", "testing/images"), {"train": ["a"], "test": ["b"]}),
        (("train_val/images", "TEST/images"), {"trainval": ["a"], "test": ["b"]}),
        (("Train/Rural", "Val/Urban"), {"train": ["a"], "validation": ["b"]}),
        (("training_set/cats", "test_set/cats"), {"train": ["a"], "test": ["b"]}),
        (("images/train2017", "images/val2017"), {"train": ["a"], "validation": ["b"]}),
        (("site1/train", "site2/test"), {"train": ["a"], "test": ["b"]}),
    ],
)
def test_folders_are_the_split_under_the_names_that_people_use(tmp_path, folders, expected):
    for folder, stem in zip(folders, "ab", strict=True):
        photos(tmp_path / folder, f"{stem}.png")
    assert held(image_folder(tmp_path, PHOTOS)) == expected


@pytest.mark.parametrize("order", ["{split}/{kind}", "{kind}/{split}"])
def test_classes_are_the_folders_beside_those_of_the_split(tmp_path, order):
    for number, (split, kind) in enumerate([("training", "cat"), ("training", "dog"), ("testing", "cat")]):
        photos(tmp_path / order.format(split=split, kind=kind), f"{number}.png")
    dataset = image_folder(tmp_path, PHOTOS)
    labels = {Path(key).stem: label for key, label in zip(dataset.keys, dataset.labels.tolist(), strict=True)}
    assert tuple(dataset.label_names) == ("cat", "dog")
    assert labels == {"0": 0, "1": 1, "2": 0} and held(dataset) == {"train": ["0", "1"], "test": ["2"]}


def test_folders_of_a_split_with_photos_outside_are_told(tmp_path):
    photos(tmp_path, "train/a.png", "test/b.png", "more/c.png")
    dataset = image_folder(tmp_path, PHOTOS)
    line = "no split: test/, train/, for 1 photos lie outside (c.png); move them, or write train.txt and test.txt"
    assert not dataset.official and line in dataset.summary
    put(tmp_path / "test.txt", "b\n")
    assert "no split" not in said(image_folder(tmp_path, PHOTOS))


# Labels of COCO, YOLO and LabelMe


def drawn(root: Path, form: str) -> Path:
    photos(root / "images", "a.png", "b.png", "c.png")
    for name in "abc":
        if form == "yolo":
            put(root / "labels" / f"{name}.txt", yolo())
        elif form == "labelme":
            put(root / "images" / f"{name}.json", labelme(f"{name}.png", {}, imageWidth=60 + "abc".index(name)))
    if form == "coco":
        content = coco(["a.png", "b.png"], [{"segmentation": [FLAT]}])
        for image in content["images"]:
            del image["width"]
        put(root / "annotations" / "instances_default.json", content)
    return root


@pytest.mark.parametrize("form", ["coco", "yolo", "labelme"])
@pytest.mark.parametrize("place", ["", "splits"])
def test_lists_beside_labels_are_the_split(tmp_path, form, place):
    drawn(tmp_path, form)
    put(tmp_path / place / "Train.txt", "images/a.png\nimages/c.png\n")
    put(tmp_path / place / "Test.txt", "b\n")
    dataset = drawn_set(tmp_path, DatasetOptions())
    assert dataset is not None
    assert held(dataset) == {"train": ["a"] if form == "coco" else ["a", "c"], "test": ["b"]}
    unlisted = "photos in lists that are no part of the set: 1 (images/c.png)"
    assert (unlisted in dataset.summary) == (form == "coco")
    put(tmp_path / place / "Test.txt", "b\nnobody\n")
    if place:
        dataset = drawn_set(tmp_path, DatasetOptions())
        assert dataset is not None and "Test.txt names photos that are not there: 1 (nobody)" in dataset.summary
    else:
        with pytest.raises(DataError, match=r"Test\.txt names photos that are not there: nobody"):
            drawn_set(tmp_path, DatasetOptions())


def test_labels_of_a_photo_called_test_are_no_list(tmp_path):
    photos(tmp_path, "test.png", "a.png")
    put(tmp_path / "test.txt", yolo())
    dataset = drawn_set(tmp_path, DatasetOptions())
    assert dataset is not None and not dataset.official and len(dataset) == 2


# Exact copies


@pytest.mark.parametrize("form", ["coco", "yolo", "labelme"])
def test_exact_copies_among_labelled_photos_are_said_and_kept_together(tmp_path, form):
    drawn(tmp_path, form)
    shutil.copy(tmp_path / "images" / "a.png", tmp_path / "images" / "b.png")
    if form == "labelme":
        put(tmp_path / "images" / "b.json", labelme("b.png", {}))
    dataset = drawn_set(tmp_path, DatasetOptions())
    assert dataset is not None and dataset.twins == [(0, 1)]
    assert "exact copies of other photos: 1 (a.png = b.png); a random split keeps them together" in dataset.summary


@pytest.mark.parametrize("form", ["masks", "coco"])
def test_versions_of_a_photo_that_roboflow_made_are_kept_together(tmp_path, form):
    names = [f"{photo}_jpg.rf.{letter * 32}" for photo in "pqr" for letter in "0af"]
    for number, name in enumerate(names):
        write(tmp_path / "images" / f"{name}.png", np.full((40, 60, 3), number, np.uint8))
        if form == "masks":
            write(tmp_path / "masks" / f"{name}.png", 255 * np.eye(40, 60, dtype=np.uint8))
    if form == "coco":
        put(tmp_path / "_annotations.coco.json", coco([f"{name}.png" for name in names], [{"segmentation": [FLAT]}]))
    dataset = drawn_set(tmp_path, DatasetOptions()) or image_folder(tmp_path, DatasetOptions())
    assert dataset.twins == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert "versions of other photos, by Roboflow's names: 6 (" in said(dataset)
    split = make_split(dataset.keys, official=dataset.official, twins=dataset.twins, test_split=1 / 3)
    assert tuple(sorted(split.test)) in dataset.twins and tuple(sorted(split.validation)) in dataset.twins


@pytest.mark.parametrize("form", ["masks", "yolo"])
def test_exact_copies_in_two_parts_are_named_as_what_spoils_the_scores(tmp_path, form):
    for part, name in (("train", "0"), ("test", "2")):
        photos(tmp_path / part / "images", f"{name}.png")
        if form == "yolo":
            put(tmp_path / part / "labels" / f"{name}.txt", yolo())
        else:
            write(tmp_path / part / "masks" / f"{name}.png", 255 * np.eye(40, 60, dtype=np.uint8))
    dataset = drawn_set(tmp_path, DatasetOptions()) or image_folder(tmp_path, DatasetOptions())
    assert held(dataset) == {"train": ["0"], "test": ["2"]}
    line = "exact copies of other photos: 1 (2.png = 0.png); the same photos are in train and test: 1 (2.png = 0.png), "
    assert line + "which makes scores too good" in said(dataset)
