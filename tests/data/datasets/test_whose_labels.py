"""Labels go to the photo that they name, and to no other of the same file name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.drawn import Drawn, drawn_set
from simclrseg.errors import DataError
from simclrseg.labels.fitting import Images
from tests.data.datasets.labels import FLAT, coco, labelme, photos, put, yolo


def opened(path: Path) -> Drawn:
    dataset = drawn_set(path, DatasetOptions())
    assert dataset is not None
    return dataset


def squares(*images: int) -> list[dict]:
    return [{"image_id": image, "segmentation": [FLAT]} for image in images]


def guesses(dataset: Drawn) -> list[str]:
    return [line for line in dataset.summary if line.startswith("photos found by the last part of their name")]


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, of Python and of C."""
    count = 0

    def called(frame: object, event: str, of: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    ("image", "name", "source"),
    [
        ("images/{video}/{frame}.jpg", "{video}/{frame}.jpg", "coco.json"),
        ("images/{video}/{frame}.jpg", "{frame}", "images/{video}/{frame}.json"),
        ("images/{video}/{frame}.jpg", "{frame}", "json/{video}/{frame}.json"),
        ("{video}/frames/{frame}.jpg", "{frame}", "{video}/json/{frame}.json"),
        ("{video}/frames/{frame}.jpg", "frames/{frame}.jpg", "{video}/coco.json"),
        ("{video}/frames/{frame}.jpg", "D:\\set\\{video}\\frames\\{frame}.jpg", "coco.json"),
    ],
)
def test_of_many_folders_with_the_same_names_none_is_compared_with_all(tmp_path, image, name, source):
    counts = []
    for videos in (6, 24):
        frames = [{"video": f"video_{video}", "frame": frame} for video in range(videos) for frame in ("0001", "0002")]
        root = tmp_path / str(videos)
        wanted = [root / image.format(**one) for one in frames]
        for path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        images, names = Images(root), [(name.format(**one), root / source.format(**one)) for one in frames]
        assert images.find(names) == wanted
        counts.append(calls(partial(images.find, names)))
    assert counts[1] < 4.4 * counts[0]  # of four times the names


# COCO


def test_labels_of_a_missing_photo_do_not_go_to_one_of_its_name_in_another_folder(tmp_path):
    photos(tmp_path, "images/train/a.png", "images/val/b.png")
    put(tmp_path / "x.json", coco(["images/train/a.png", "images/train/b.png"], squares(0, 1)))
    dataset = opened(tmp_path)
    assert dataset.keys == ("images/train/a.png",) and dataset.mask(0).any()
    assert "x.json lists photos that are not there: 1 (images/train/b.png)" in dataset.summary
    assert "photos that are not listed, and left out: 1 (b.png)" in dataset.summary


def test_a_bare_name_means_a_photo_near_its_file(tmp_path):
    for part, names in (("train", ["a.png", "b.png"]), ("valid", ["c.png"])):
        put(tmp_path / part / "_annotations.coco.json", coco(names, squares(*range(len(names)))))
    photos(tmp_path, "train/a.png", "valid/b.png", "valid/c.png")
    dataset = opened(tmp_path)
    assert dataset.keys == ("train/a.png", "valid/c.png")
    assert "_annotations.coco.json lists photos that are not there: 1 (b.png)" in dataset.summary


def test_a_folder_that_names_mean_is_not_that_of_others(tmp_path):
    photos(tmp_path, "site1/a.png", "site1/b.png")
    put(tmp_path / "x.json", coco(["site1/a.png", "site2/b.png"], squares(0, 1)))
    dataset = opened(tmp_path)
    assert dataset.keys == ("site1/a.png",) and not guesses(dataset)
    assert "x.json lists photos that are not there: 1 (site2/b.png)" in dataset.summary


def test_a_photo_goes_to_the_name_that_fits_it_best(tmp_path):
    photos(tmp_path, "new/a.png")
    put(tmp_path / "x.json", coco(["old/a.png", "a.png"], squares(0)))
    dataset = opened(tmp_path)
    assert dataset.keys == ("new/a.png",) and not dataset.mask(0).any()
    assert "x.json lists photos that are not there: 1 (old/a.png)" in dataset.summary


def test_paths_from_elsewhere_and_from_here_may_mean_one_folder(tmp_path):
    photos(tmp_path / "pets", "images/a.png", "images/b.png")
    put(tmp_path / "pets" / "x.json", coco(["images/a.png", "D:\\pets\\images\\b.png"], squares(1)))
    dataset = opened(tmp_path / "pets")
    assert dataset.keys == ("images/a.png", "images/b.png") and dataset.mask(1).any()


def test_what_label_studio_puts_before_names_is_left_out_of_all_or_none(tmp_path):
    photos(tmp_path, "images/0a1b2c3d-a.png", "images/b.png")
    put(tmp_path / "x.json", coco(["images/0a1b2c3d-a.png", "images/4e5f6a7b-b.png"], squares(0, 1)))
    dataset = opened(tmp_path)
    assert dataset.keys == ("images/0a1b2c3d-a.png",)
    assert "x.json lists photos that are not there: 1 (images/4e5f6a7b-b.png)" in dataset.summary


def test_a_path_that_leads_to_a_photo_means_no_copy_of_it(tmp_path):
    photos(tmp_path, "train/a.png", "old/train/a.png")
    put(tmp_path / "x.json", coco(["train/a.png"], squares(0)))
    assert opened(tmp_path).keys == ("train/a.png",)


def test_a_path_of_another_place_finds_the_only_photo_of_its_name_and_a_line_says_so(tmp_path):
    photos(tmp_path, "pictures/a.png", "pictures/b.png")
    put(tmp_path / "x.json", coco(["D:\\old\\a.png", "D:\\old\\b.png"], squares(0)))
    dataset = opened(tmp_path)
    assert dataset.keys == ("pictures/a.png", "pictures/b.png") and dataset.mask(0).any()
    assert guesses(dataset) == [
        "photos found by the last part of their name, in another folder: 2 (D:\\old\\a.png, D:\\old\\b.png)"
    ]


@pytest.mark.parametrize("around", ["", "images/"])
@pytest.mark.parametrize("year", ["", "2017"])
def test_files_of_parts_find_photos_of_one_name_in_the_folders_of_their_parts(tmp_path, around, year):
    for part, labelled in (("train", [0]), ("val", [])):
        photos(tmp_path, *(f"{around}{part}{year}/{name}" for name in ("a.png", "b.png")))
        content = coco(["a.png", "b.png"], squares(*labelled))
        put(tmp_path / "annotations" / f"instances_{part}{year}.json", content)
    dataset = opened(tmp_path)
    assert dataset.official == {"train": (0, 1), "validation": (2, 3)}
    assert dataset.keys == tuple(f"{around}{part}{year}/{name}.png" for part in ("train", "val") for name in "ab")
    assert [bool(dataset.mask(index).any()) for index in range(4)] == [True, False, False, False]


# YOLO


def test_photos_of_one_name_in_two_parts_have_their_own_labels(tmp_path):
    for part in ("train", "val"):
        photos(tmp_path / "images" / part, "a.png")
    put(tmp_path / "labels" / "val" / "a.txt", yolo())
    put(tmp_path / "data.yaml", {"train": "images/train", "val": "images/val", "names": ["pet"]})
    dataset = opened(tmp_path)
    assert dataset.keys == ("images/train/a.png", "images/val/a.png")
    assert dataset.official == {"train": (0,), "validation": (1,)}
    assert not dataset.mask(0).any() and dataset.mask(1).any()


# LabelMe


@pytest.mark.parametrize("path", ["gone.png", "C:\\photos\\gone.png", "../first/gone.png", "/data/first/gone.png"])
def test_a_file_belongs_to_the_photo_beside_it_where_its_path_is_of_another_time(tmp_path, path):
    photos(tmp_path, "first/gone.png", "second/a.png", "second/b.png")
    put(tmp_path / "first" / "gone.json", labelme("gone.png"))
    put(tmp_path / "second" / "a.json", labelme(path, {}))
    if path.startswith("../"):
        (tmp_path / "first" / "gone.png").rename(tmp_path / "first" / "other.png")
        (tmp_path / "first" / "gone.json").unlink()
    dataset = opened(tmp_path)
    drawn = [key for index, key in enumerate(dataset.keys) if dataset.has_mask(index) and dataset.mask(index).any()]
    assert drawn == ["second/a.png"]
    line = f"photos found by the name of their file, whose imagePath is of another place or time: 1 ({path})"
    assert line in dataset.summary and not guesses(dataset)


@pytest.mark.parametrize("photo_folder", ["", "photos"])
def test_files_that_name_other_photos_than_their_own_are_refused(tmp_path, photo_folder):
    photos(tmp_path / photo_folder, "1.png", "2.png", "3.png")
    for number in (2, 3):  # renamed, and what is inside left as it was
        put(tmp_path / f"{number}.json", labelme(f"{photo_folder}/{number - 1}.png".lstrip("/"), {}))
    with pytest.raises(
        DataError,
        match=r"2\.json is named after 2\.png, but its imagePath is .*1\.png, another photo "
        r"\(files with such an imagePath: 2\): rename it, or correct its imagePath",
    ):
        opened(tmp_path)


def test_a_file_whose_photo_is_gone_takes_none_of_another_folder(tmp_path):
    photos(tmp_path, "first/1.png", "second/1.png", "second/2.png")
    put(tmp_path / "second" / "1.json", labelme("1.png"))
    for number in (1, 2):
        put(tmp_path / "first" / f"{number}.json", labelme(f"{number}.png", {}))
    dataset = opened(tmp_path)
    assert dataset.keys == ("first/1.png", "second/1.png", "second/2.png")
    assert dataset.mask(0).any() and not dataset.mask(1).any() and not dataset.has_mask(2)
    assert "LabelMe files without their photo: 1 (2.json)" in dataset.summary


def test_folders_of_files_are_those_of_photos_by_their_names(tmp_path):
    photos(tmp_path, "photos/one/1.png", "photos/two/1.png")
    put(tmp_path / "json" / "one" / "1.json", labelme("1.png", {}))
    put(tmp_path / "json" / "two" / "1.json", labelme("1.png"))
    dataset = opened(tmp_path)
    assert dataset.keys == ("photos/one/1.png", "photos/two/1.png")
    assert dataset.mask(0).any() and not dataset.mask(1).any()
