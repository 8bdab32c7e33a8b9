"""Folders in the layouts, and files under the names, that people use for images and their masks."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest

from simclrseg.data.cache import cached
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.folder import image_folder
from simclrseg.data.split_file import split_json
from simclrseg.data.split_file import test_hash as hash_of_test
from simclrseg.data.splits import make_split
from simclrseg.errors import DataError
from simclrseg.labels.classes import numbered_classes, read_classes
from tests.folders import write

PHOTO = np.full((4, 6, 3), 90, np.uint8)
MASK = np.uint8(255) * (np.arange(24).reshape(4, 6) % 6 < 3)


def grainy(seed):
    """A photo that looks like one."""
    return np.random.default_rng(seed).integers(0, 255, (*MASK.shape, 3)).astype(np.uint8)


def put(root, *names):
    """Masks where the name says so, else photos; each photo is another."""
    for number, name in enumerate(names):
        is_mask = any(word in name.lower() for word in ("mask", "seg", "label", "_l.", ".jpg.png", "gt"))
        write(root / name, MASK if is_mask else PHOTO + np.uint8(number))
    return root


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("x.jpg", "x_mask.png"),
        ("x.jpg", "x-mask.png"),
        ("x.jpg", "mask_x.png"),
        ("X.JPG", "x_MASK.PNG"),
        ("x.jpg", "x_seg.png"),
        ("x.tif", "x_cp_masks.png"),
        ("x.ome.tiff", "x_mask.png"),
        ("x.jpg", "x_label.png"),
        ("x.jpg", "x_segmentation.png"),
        ("x.jpg", "x_L.png"),
        ("x.png", "x.jpg.png"),
        ("x.jpg", "x.jpg.png"),
        ("x.jpg", "x.jpg_mask.png"),
        ("x.jpg", "x.mask.png"),
        ("image_x.jpg", "mask_x.png"),
        ("x-img.jpg", "x-mask.png"),
    ],
)
@pytest.mark.parametrize(("images", "masks"), [("", ""), ("images/", "masks/"), ("sub/", "sub/"), ("", "Masks/")])
def test_a_mask_belongs_to_the_photo_whose_name_it_bears(tmp_path, images, masks, photo, mask):
    for name in ("one", "two"):
        put(tmp_path, images + photo.replace("x", name).replace("X", name.upper()), masks + mask.replace("x", name, 1))
    dataset = image_folder(tmp_path, DatasetOptions())
    assert len(dataset) == 2
    assert dataset.mask(1).tolist() == (MASK // 255).tolist()
    alone = image_folder(tmp_path, DatasetOptions(masks=False))
    assert alone.keys == dataset.keys
    assert any(line.startswith("left out: 2 masks ") for line in alone.summary)


def test_masks_of_which_each_fits_several_photos_are_refused_with_the_names(tmp_path):
    put(tmp_path, "images/a.jpg", "images/a.png", "images/b.jpg", "images/b.png", "masks/a.png", "masks/b.png")
    reason = r"none of its 2 masks fits one photo alone, a\.png fits images/a\.jpg and images/a\.png; keep one photo"
    with pytest.raises(DataError, match=reason):
        image_folder(tmp_path, DatasetOptions())
    assert len(image_folder(tmp_path, DatasetOptions(masks=False))) == 4
    put(tmp_path, "images/c.jpg", "masks/c.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert [dataset.has_mask(index) for index in range(len(dataset))] == [False] * 4 + [True]
    assert "masks that fit several photos, and are left out: 2 (a.png, b.png)" in dataset.summary


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        *(("x.ome.tif", mask) for mask in ("x.tif", "x.ome.tif", "x.png", "x.ome.png", "x.ome_mask.png")),
        ("x.ome.tif", "x.ome_cp_masks.png"),
        ("x.OME.TIF", "x.tif"),
        ("x.tif", "x.ome.tif"),
        ("x.png", "x_mask.ome.tiff"),
    ],
)
def test_the_mask_of_an_ome_tiff_may_leave_ome_out(tmp_path, photo, mask):
    for name in ("one", "two"):
        put(tmp_path, f"images/{photo.replace('x', name)}", f"masks/{mask.replace('x', name)}")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert len(dataset) == 2 and dataset.mask(1).tolist() == (MASK // 255).tolist()
    assert len(image_folder(tmp_path, DatasetOptions(masks=False))) == 2


def test_a_name_of_its_own_comes_before_one_without_ome(tmp_path):
    for name in ("one", "two"):
        put(tmp_path, f"images/{name}.tif", f"images/{name}.ome.tif", f"masks/{name}.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert [key for index, key in enumerate(dataset.keys) if dataset.has_mask(index)] == [
        "images/one.tif",
        "images/two.tif",
    ]


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_letters_are_the_same(tmp_path, form, other):
    name = "Kätzchen"
    put(tmp_path, f"images/{unicodedata.normalize(form, name)}.jpg", f"masks/{unicodedata.normalize(other, name)}.png")
    assert image_folder(tmp_path, DatasetOptions()).has_mask(0)


def test_capitals_tell_photos_apart_where_there_are_both(tmp_path):
    put(tmp_path, "images/a.jpg", "images/A.jpg", "masks/A.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert {key: dataset.has_mask(index) for index, key in enumerate(dataset.keys)} == {
        "images/A.jpg": True,
        "images/a.jpg": False,
    }


def test_numbers_behind_image_and_mask_need_no_dash(tmp_path):
    put(tmp_path, "images/image1.jpg", "images/image12.jpg", "masks/mask1.png", "masks/mask12.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert [dataset.mask_path(index).name for index in range(2)] == ["mask1.png", "mask12.png"]


def test_a_folder_for_each_picture_holds_its_objects(tmp_path):
    for name in "ab":
        put(tmp_path, f"{name}/images/{name}.png", f"{name}/masks/1.png")
        write(tmp_path / name / "masks" / "2.png", 255 - MASK if name == "a" else MASK * 0)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.classes == ("background", "foreground")
    assert dataset.mask(0).all()
    assert dataset.mask(1).tolist() == (MASK // 255).tolist()
    kept = cached(dataset, range(2), where="ram", masks=True)
    before = kept.mask(1)
    for file in (tmp_path / "b" / "masks").iterdir():
        file.unlink()
    assert (kept.mask(1) == before).all()


def test_a_folder_for_each_picture_holds_its_mask_and_what_is_drawn_of_it(tmp_path):
    put(tmp_path, *(f"{name}_json/{file}.png" for name in "ab" for file in ("img", "label", "label_viz")))
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == ("a_json/img.png", "b_json/img.png")
    assert dataset.mask(0).tolist() == (MASK // 255).tolist()


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("image.png", "gt.png"),
        ("image.jpg", "masks.png"),
        ("Image.jpg", "Ground_Truth.png"),
        ("rgb.png", "label.png"),
        ("original.jpg", "mask.png"),
        ("photo.jpg", "segmentation.png"),
    ],
)
def test_a_folder_for_each_picture_holds_it_and_its_mask_under_the_usual_names(tmp_path, photo, mask):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        write(tmp_path / name / photo, rng.integers(0, 256, (4, 6, 3), np.uint8))
        write(tmp_path / name / mask, MASK)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == (f"one/{photo}", f"two/{photo}") and dataset.mask(1).tolist() == (MASK // 255).tolist()
    assert image_folder(tmp_path, DatasetOptions(masks=False)).keys == dataset.keys


def test_photos_called_image_and_mask_in_folders_of_classes_stay_photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        for picture in ("image", "mask"):
            write(tmp_path / name / f"{picture}.png", rng.integers(0, 256, (32, 32, 3), np.uint8))
    dataset = image_folder(tmp_path, DatasetOptions())
    assert len(dataset) == 4 and not dataset.has_masks and tuple(dataset.label_names) == ("one", "two")


def test_folders_that_stand_in_one_of_their_own_name_are_one(tmp_path):
    put(tmp_path, "images/images/a.jpg", "images/images/b/c.jpg", "masks/masks/a.png", "masks/masks/b/c.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == ("images/images/a.jpg", "images/images/b/c.jpg")
    assert dataset.has_mask(0) and dataset.has_mask(1) and dataset.mask(0).tolist() == (MASK // 255).tolist()


def test_masks_in_one_folder_are_of_photos_in_several_if_each_name_is_of_one(tmp_path):
    put(tmp_path, "images/site1/a.jpg", "images/site2/b.jpg", "images/site2/c.jpg", "masks/a.png", "masks/b_mask.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert [dataset.has_mask(index) for index in range(3)] == [True, True, False]
    (tmp_path / "masks").rename(tmp_path / "of them")
    (tmp_path / "masks").mkdir()
    (tmp_path / "of them").rename(tmp_path / "masks" / "export")
    assert image_folder(tmp_path, DatasetOptions()).has_mask(1)
    put(tmp_path, "images/site1/b.jpg")
    with pytest.raises(DataError, match=r"masks without a photo of their name: 2 of 2, masks/export/a\.png"):
        image_folder(tmp_path, DatasetOptions())


@pytest.mark.parametrize(
    ("mask", "classes"),
    [
        (MASK // 255 + (np.arange(24).reshape(4, 6) < 6), ("class_0", "class_1", "class_2")),
        (MASK, ("background", "semantic")),
        (MASK // 255, ("background", "semantic")),
    ],
)
def test_one_folder_in_that_of_the_masks_is_a_class_only_where_masks_hold_one(tmp_path, mask, classes):
    put(tmp_path, "images/a.jpg", "images/b.jpg")
    for name in "ab":
        write(tmp_path / "annotations" / "semantic" / f"{name}.png", np.asarray(mask, np.uint8))
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.classes == classes
    assert dataset.mask(0).tolist() == (mask if len(classes) > 2 else MASK // 255).tolist()


def test_folders_of_ids_in_that_of_the_masks_are_named_and_one_may_be_chosen(tmp_path):
    put(tmp_path, "images/a.jpg", "images/b.jpg")
    ids = MASK // 255 + (np.arange(24).reshape(4, 6) < 6).astype(np.uint8)
    for kind in ("panels", "semantic"):
        for name in "ab":
            write(tmp_path / "annotations" / kind / f"{name}.png", ids if kind == "semantic" else ids[::-1])
    with pytest.raises(DataError, match=r"pass --masks folder:panels or --masks folder:semantic, if one of them holds"):
        image_folder(tmp_path, DatasetOptions())
    dataset = image_folder(tmp_path, DatasetOptions(mask_folder="semantic"))
    assert dataset.mask(0).tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("x.jpg", "x_mask.png"),
        ("x.jpg", "x.png"),
        ("x/image.jpg", "x/mask.png"),
        ("PNG/Original/x.jpg", "PNG/Ground Truth/x.png"),
        ("images/x.jpg", "masks/x.png"),
        ("rgb/x.jpg", "other/x.png"),
    ],
)
def test_masks_of_photos_that_are_not_read_are_left_out_with_them(tmp_path, photo, mask):
    rng = np.random.default_rng(0)
    where = np.kron(MASK, np.ones((8, 8), np.uint8))
    for number in range(6):
        write(tmp_path / photo.replace("x", str(number)), rng.integers(0, 256, (32, 48, 3), np.uint8))
        write(tmp_path / mask.replace("x", str(number)), where)
    for number in (1, 2):
        file = tmp_path / photo.replace("x", str(number))
        file.rename(file.with_suffix(".ARW"))
    dataset, alone = (image_folder(tmp_path, DatasetOptions(masks=masks)) for masks in (True, False))
    assert alone.keys == dataset.keys == tuple(photo.replace("x", str(number)) for number in (0, 3, 4, 5))
    assert all(dataset.has_mask(index) for index in range(4)) and (dataset.mask(1) == where // 255).all()
    for summary in (dataset.summary, alone.summary):
        assert any(line.startswith("photos that cannot be read: 2 .arw (a camera's raw photo") for line in summary)


def test_a_raw_photo_beside_its_developed_one_is_no_photo_that_is_lost(tmp_path):
    put(tmp_path, "images/a.jpg", "images/b.png", "masks/a.png", "masks/b.png")
    for name in "ab":
        (tmp_path / "images" / f"{name}.dng").write_bytes(b"raw")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == ("images/a.jpg", "images/b.png") and dataset.has_mask(0) and dataset.has_mask(1)
    assert not any("cannot be read" in line for line in dataset.summary)


def test_photos_that_are_not_read_are_no_photos_that_masks_lack(tmp_path):
    put(tmp_path, "images/a.jpg", "masks/a.png", "masks/b.png")
    (tmp_path / "images" / "b.CR2").write_bytes(b"raw")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == ("images/a.jpg",)
    told = "photos that cannot be read: 1 .cr2 (a camera's raw photo is not read: develop it to JPEG or TIFF)"
    assert told in dataset.summary
    (tmp_path / "images" / "a.jpg").rename(tmp_path / "images" / "a.nef")
    with pytest.raises(DataError, match=r"images: its photos cannot be read: 1 \.nef, 1 \.cr2 \(a camera's raw photo"):
        image_folder(tmp_path, DatasetOptions())


def test_a_folder_for_each_class_may_stand_in_each_split(tmp_path):
    for part in ("train", "val"):
        put(tmp_path, f"{part}/images/{part}.jpg", f"{part}/masks/cat/{part}.png", f"{part}/masks/dog/{part}.png")
        write(tmp_path / part / "masks" / "dog" / f"{part}.png", 255 - MASK)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.classes == ("background", "cat", "dog")
    assert dataset.mask(0).tolist() == (2 - MASK // 255).tolist()
    assert dataset.official == {"train": (0,), "validation": (1,)}


def test_a_class_that_is_called_mask_stays_a_class(tmp_path):
    put(tmp_path, "mask/1.jpg", "mask/2.jpg", "without/3.jpg")
    assert image_folder(tmp_path, DatasetOptions(masks=False)).label_names == ("mask", "without")


def test_photos_of_the_left_and_the_right_eye_are_no_masks(tmp_path):
    put(tmp_path, "1_l.jpg", "1_r.jpg", "2_l.jpg", "2_r.jpg")
    assert len(image_folder(tmp_path, DatasetOptions())) == 4


def test_masks_beside_photos_of_their_very_name_are_known_by_what_they_hold(tmp_path):
    put(tmp_path / "masks_too", *(f"{number}{suffix}" for number in range(3) for suffix in (".jpg", ".png")))
    assert len(image_folder(tmp_path / "masks_too", DatasetOptions())) == 6
    for number in range(3):
        write(tmp_path / "masks_too" / f"{number}.png", MASK)
    dataset = image_folder(tmp_path / "masks_too", DatasetOptions())
    assert dataset.keys == ("0.jpg", "1.jpg", "2.jpg")
    assert dataset.mask(2).tolist() == (MASK // 255).tolist()


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{}_images", "{}_masks"),
        ("{}", "{}_masks"),
        ("{}", "{}annot"),
        ("images/{}", "labels/{}"),
        ("img_dir/{}", "ann_dir/{}"),
        ("{}/imgs", "{}/GT"),
    ],
)
def test_folders_of_splits_may_bear_the_word(tmp_path, images, masks):
    for part in ("train", "val"):
        put(tmp_path, f"{images.format(part)}/x.jpg")
        write(tmp_path / masks.format(part) / "x.png", MASK if part == "train" else 255 - MASK)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.official == {"train": (0,), "validation": (1,)}
    assert [dataset.mask(index)[0, 0] for index in range(2)] == [1, 0]


def test_classes_that_end_in_such_a_word_stay_classes(tmp_path):
    put(tmp_path, "with_mask/1.jpg", "without_mask/2.jpg", "cat_images/3.jpg")
    names = ("cat_images", "with_mask", "without_mask")
    assert image_folder(tmp_path, DatasetOptions(masks=False)).label_names == names


def test_masks_elsewhere_than_their_photos_are_no_photos(tmp_path):
    put(tmp_path, "photos/images/a.jpg", "drawn/masks/a.png")
    dataset = image_folder(tmp_path, DatasetOptions(masks=False))
    assert dataset.keys == ("photos/images/a.jpg",)
    line = "left out: pictures that look like masks, in folders that say so: 1 (drawn/masks/)"
    assert line in dataset.summary
    with pytest.raises(DataError, match=r"photos lie in photos/ and masks in drawn/masks/, .*; put both folders"):
        image_folder(tmp_path, DatasetOptions())


def test_what_lies_beside_images_and_masks_is_neither_wherever_they_lie(tmp_path):
    put(tmp_path, "ds0/img/a.jpg", "ds0/masks_machine/a.png", "ds0/masks_human/a.png", "ds1/img/b.jpg", "ds2/c.jpg")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == ("ds0/img/a.jpg", "ds1/img/b.jpg", "ds2/c.jpg")
    assert any("neither photos nor their masks: 1 in ds0/" in line for line in dataset.summary)


def test_of_several_folders_of_masks_one_is_taken_and_the_others_are_said(tmp_path):
    put(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "SegmentationClass/a.png", "SegmentationClass/b.png")
    put(tmp_path, "SegmentationObject/a.png", "SegmentationObject/b.png", "labels/a.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.mask_path(0) == tmp_path / "SegmentationClass" / "a.png"
    assert any("2 in SegmentationObject/, 1 in labels/" in line for line in dataset.summary)
    assert "pairs of photo and mask: 2, the masks in SegmentationClass/" in dataset.summary


def test_names_in_other_bytes_are_opened_split_and_recorded(tmp_path):
    put(tmp_path, *(f"{folder}/{n}.jpg.png" for folder in ("images", "masks") for n in range(8)))
    for folder, suffix in (("images", b".jpg"), ("masks", b".png")):
        for number in range(8):
            below = os.fsencode(tmp_path / folder)
            os.rename(below + b"/%d.jpg.png" % number, below + b"/Caf\xe9%d" % number + suffix)
            if folder == "images":
                write(tmp_path / "images" / "x.png", PHOTO + np.uint8(number))
                os.rename(below + b"/x.png", below + b"/Caf\xe9%d" % number + suffix)
    dataset = image_folder(tmp_path, DatasetOptions())
    split = make_split(dataset.keys, official={})
    assert all(dataset.has_mask(index) for index in range(8))
    assert len(split_json(dataset, split, hash_of_test(dataset, split.test))["train"]) == len(split.train)


def test_copies_join_the_groups_that_they_are_of():
    keys = [f"{group}/{number}" for group in "abcdef" for number in range(3)]
    twins = [(0, 5), (5, 17), (8, 9)]
    split = make_split(keys, official={}, group_by="^.", twins=twins)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    home = {keys[index][0]: part for part, indices in parts.items() for index in indices}
    assert home["a"] == home["b"] == home["f"]
    assert home["c"] == home["d"]


def test_what_is_amiss_with_masks_does_not_stop_those_who_ask_for_photos_alone(tmp_path):
    put(tmp_path, "images/a.jpg", "masks/a.png", "masks/a_mask.png", "masks/stray.png")
    dataset = image_folder(tmp_path, DatasetOptions(masks=False))
    assert dataset.keys == ("images/a.jpg",)
    assert "left out: 3 masks in masks/, for photos alone are looked at" in dataset.summary


def test_a_part_without_masks_is_no_part_of_the_split(tmp_path):
    for number in range(10):
        put(tmp_path, f"train/images/{number}.jpg", f"train/masks/{number}.png", f"test/images/{number}.jpg")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert list(dataset.official) == ["train"]
    assert "test: none of its 10 photos has a mask, so that it is no part" in dataset.summary
    usable = [index for index in range(20) if dataset.has_mask(index)]
    split = make_split(dataset.keys, official=dataset.official, usable=usable)
    assert sorted([*split.train, *split.validation, *split.test]) == usable
    assert split.test


def test_lists_of_voc_s_layout_are_the_split(tmp_path):
    put(tmp_path, *(f"JPEGImages/{n}.jpg" for n in "abc"), *(f"SegmentationClass/{n}.png" for n in "abc"))
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, text in {"train": "a\nb\n", "val": "c\n", "trainval": "a\nb\nc\n"}.items():
        (tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
    official = image_folder(tmp_path, DatasetOptions()).official
    assert (official["train"], official["validation"]) == ((0, 1), (2,))


def test_a_mask_without_a_photo_is_named_in_any_layout(tmp_path):
    put(
        tmp_path,
        "train/images/a.jpg",
        "train/masks/a.png",
        "train/masks/stray.png",
        "val/images/b.jpg",
        "val/masks/b.png",
    )
    with pytest.raises(DataError, match=r"1 of 3, train/masks/stray\.png"):
        image_folder(tmp_path, DatasetOptions())


def test_folders_of_which_no_photo_is_in_two_are_no_classes(tmp_path):
    for number in range(6):
        write(tmp_path / "images" / f"{number}.png", np.full((8, 8, 3), 40 * number, np.uint8))
        write(tmp_path / "masks" / ("train" if number < 4 else "val") / f"{number}.png", np.eye(8, dtype=np.uint8))
    with pytest.raises(DataError, match="masks without a photo of their name: 6 of 6"):
        image_folder(tmp_path, DatasetOptions())


def roboflow_masks(root, ids=(0, 1, 2), table="Pixel Value, Class\n0, background\n1, cat\n2, dog\n"):
    """What Roboflow exports as masks for semantic segmentation."""
    for part in ("train", "valid", "test"):
        for number in range(2):
            stem = f"IMG_{number}_jpg.rf.{part}0a"
            write(root / part / f"{stem}.jpg", np.full((8, 8, 3), 90, np.uint8))
            write(root / part / f"{stem}_mask.png", np.resize(np.array(ids, np.uint8), (8, 8)))
        (root / part / "_classes.csv").write_text(table)
    (root / "README.roboflow.txt").write_text("A walk")
    return root


def test_masks_that_roboflow_exports_have_its_splits_and_the_names_of_its_classes(tmp_path):
    dataset = image_folder(roboflow_masks(tmp_path), DatasetOptions())
    assert dataset.classes == ("background", "cat", "dog")
    assert {split: len(part) for split, part in dataset.official.items()} == {"train": 2, "validation": 2, "test": 2}
    assert all(key.endswith("0a.jpg") and dataset.has_mask(index) for index, key in enumerate(dataset.keys))
    assert (dataset.mask(0) == np.resize([0, 1, 2], (8, 8))).all()
    assert "masks: class ids 0 to 2 (background, cat, dog)" in dataset.summary
    assert not any("csv" in line for line in dataset.summary)
    photos = image_folder(tmp_path, DatasetOptions(masks=False))
    assert len(photos) == 6 and any(line.startswith("left out: 6 masks beside") for line in photos.summary)
    own = image_folder(tmp_path, DatasetOptions(classes=numbered_classes(3)))
    assert own.classes == ("class_0", "class_1", "class_2")


def test_a_class_that_no_mask_holds_and_a_number_without_a_name_are_classes_too(tmp_path):
    table = "Pixel Value,Class\n 3,dog\n 1,cat\n"
    dataset = image_folder(roboflow_masks(tmp_path, ids=(0, 1), table=table), DatasetOptions())
    assert dataset.classes == ("background", "cat", "class_2", "dog")


def cvat_masks(root, label_map="# label:color_rgb:parts:actions\npet:128,0,0::\nbackground:0,0,0::\n"):
    """What CVAT exports as segmentation masks."""
    for number in range(4):
        mask = np.zeros((8, 8, 3), np.uint8)
        mask[:4, :, 0] = 128
        write(root / "JPEGImages" / f"{number}.jpg", np.full((8, 8, 3), 90, np.uint8))
        for folder in ("SegmentationClass", "SegmentationObject"):
            write(root / folder / f"{number}.png", mask)
    (root / "labelmap.txt").write_text(label_map)
    return root


def test_masks_that_cvat_exports_have_the_colours_and_names_of_its_classes(tmp_path):
    dataset = image_folder(cvat_masks(tmp_path), DatasetOptions())
    assert dataset.classes == ("background", "pet")
    assert (dataset.mask(0) == np.repeat([1, 0], 32).reshape(8, 8)).all()
    assert "masks: RGB, 2 classes by colour (background, pet)" in dataset.summary
    (tmp_path / "labelmap.txt").write_text("pet:0,128,0::\nbackground:0,0,0::\n")
    with pytest.raises(DataError, match=r"0\.png has colours that no class has: \[128, 0, 0\]; add them, or correct"):
        image_folder(tmp_path, DatasetOptions())


def test_a_label_map_of_something_else_says_nothing_of_masks(tmp_path):
    with pytest.raises(DataError, match=r"is an RGB mask .*: give the colours of the classes in a --classes-file"):
        image_folder(cvat_masks(tmp_path, label_map="0 pet\n1 cat\n"), DatasetOptions())


def test_a_file_of_classes_with_the_masks_needs_no_option(tmp_path, caplog):
    cvat_masks(tmp_path)
    (tmp_path / "labelmap.txt").rename(tmp_path / "classes.yaml")
    (tmp_path / "classes.yaml").write_text("background: [0, 0, 0]\npet: [128, 0, 0]\n")
    assert image_folder(tmp_path, DatasetOptions()).classes == ("background", "pet")
    assert (
        image_folder(tmp_path, DatasetOptions(classes=read_classes('{a: "#000000", b: "#800000"}'))).classes[1] == "b"
    )
    (tmp_path / "classes.yaml").write_text("nc: 2\nnames: [pet, cat]\n")
    with pytest.raises(DataError, match="is an RGB mask"):
        image_folder(tmp_path, DatasetOptions())
    assert "classes.yaml gives" in caplog.text or "classes.yaml: the colour of 'names'" in caplog.text
    assert caplog.text.rstrip().endswith("it is left aside")


def test_a_table_of_something_else_says_nothing_of_masks(tmp_path):
    dataset = image_folder(roboflow_masks(tmp_path, table="filename, cat, dog\na.jpg, 1, 0\n"), DatasetOptions())
    assert dataset.classes == ("class_0", "class_1", "class_2") and "left out: 3 .csv" in dataset.summary


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("Pixel Value, Class\n0, background\n300, cat\n", "has the line '300, cat': write a number from 0 to 253"),
        ("Pixel Value, Class\n0, background\n1\n", "has the line '1': write a number"),
        ("Pixel Value, Class\n1, cat\n1, dog\n", "has two lines for 1 or 'dog': keep one"),
        ("Pixel Value, Class\n0, background\n", "names no class but the background"),
        ("", "cannot be read as a table of classes"),
    ],
)
def test_what_is_wrong_in_a_table_of_classes_is_named(tmp_path, table, says):
    with pytest.raises(DataError, match=rf"_classes\.csv {says}") as raised:
        image_folder(roboflow_masks(tmp_path, table=table), DatasetOptions())
    assert "\n" not in str(raised.value)


def test_tables_that_differ_and_masks_that_hold_more_are_named(tmp_path):
    roboflow_masks(tmp_path, ids=(0, 1, 2, 3))
    with pytest.raises(DataError, match=r"_mask\.png has values 3 but there are 3 classes, ids 0 to 2: add the others"):
        image_folder(tmp_path, DatasetOptions())
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n1, dog\n2, cat\n3, cow\n")
    with pytest.raises(DataError, match=r"_classes\.csv and .*valid/_classes\.csv name different classes: pass the"):
        image_folder(tmp_path, DatasetOptions())


@pytest.mark.skipif(os.sep == "\\", reason="no name holds a backslash")
@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("set\\train\\images", "set\\train\\masks")])
def test_backslashes_in_names_are_folders_as_zips_of_windows_mean_them(tmp_path, images, masks):
    put(tmp_path, *(f"{images}\\{name}.jpg" for name in "ab"), *(f"{masks}\\{name}.png" for name in "ab"))
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == (f"{images}\\a.jpg", f"{images}\\b.jpg")
    assert dataset.mask(1).tolist() == (MASK // 255).tolist()
    assert image_folder(tmp_path, DatasetOptions(masks=False)).keys == dataset.keys


def test_a_mark_in_front_goes_before_a_letter_behind_that_may_be_part_of_the_name(tmp_path):
    names = ("s1", "s1_L", "s1_R", "s2_L")
    for number, name in enumerate(names):
        write(tmp_path / "images" / f"{name}.jpg", grainy(number))
        if name != "s1":
            write(tmp_path / "masks" / f"mask_{name}.png", MASK)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert [key for index, key in enumerate(dataset.keys) if not dataset.has_mask(index)] == ["images/s1.jpg"]
    assert dataset.mask_path(1) == tmp_path / "masks" / "mask_s1_L.png"


def test_a_photo_that_has_a_mask_of_its_own_is_no_mask_of_another(tmp_path):
    for number, name in enumerate(("b", "b_1", "b_L", "b_R")):
        write(tmp_path / f"{name}.jpg", grainy(number))
        write(tmp_path / f"{name}_mask.png", MASK)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert dataset.keys == ("b.jpg", "b_1.jpg", "b_L.jpg", "b_R.jpg")
    assert dataset.mask_path(2) == tmp_path / "b_L_mask.png"


@pytest.mark.parametrize("parts", [("",), ("train", "test")])
@pytest.mark.parametrize(
    ("folders", "taken"),
    [(("depth", "rgb", "thermal"), "rgb"), (("enhanced", "raw"), "raw"), (("after", "before"), ""), (("A", "B"), "")],
)
def test_of_several_pictures_that_a_mask_fits_a_name_says_which_is_the_photo_or_none_is_taken(
    tmp_path, folders, taken, parts
):
    for part in parts:
        for name in ("x", "y", "z"):
            write(tmp_path / part / "labels" / f"{name}.png", MASK)
            for folder in folders:
                write(tmp_path / part / folder / f"{name}.png", grainy(ord(name)))
    if taken:
        dataset = image_folder(tmp_path, DatasetOptions())
        assert len(dataset) == 3 * len(parts)
        assert all(f"{taken}/" in key and dataset.has_mask(index) for index, key in enumerate(dataset.keys))
        line = next(
            line for line in dataset.summary if line.startswith("left out: other pictures of the same photos, in ")
        )
        assert all((f"{folder}/" in line) is (folder != taken) for folder in folders)
        assert not any("neither photos nor" in line for line in dataset.summary)
        return
    with pytest.raises(
        DataError, match=r"labels/ fit the pictures in \S+ and \S+ alike; call the folder to learn from"
    ):
        image_folder(tmp_path, DatasetOptions())
    assert len(image_folder(tmp_path, DatasetOptions(masks=False))) >= 3 * len(parts)


@pytest.mark.parametrize(("other", "colour"), [("annotations", True), ("masks_corrected", False)])
def test_other_masks_of_the_same_photos_are_told_with_the_way_to_take_them(tmp_path, other, colour):
    drawn = np.dstack([MASK, 0 * MASK, 0 * MASK]) if colour else MASK.T.reshape(MASK.shape)
    for number, name in enumerate("abc"):
        write(tmp_path / "images" / f"{name}.jpg", grainy(number))
        write(tmp_path / "masks" / f"{name}.png", MASK)
        write(tmp_path / other / f"{name}.png", drawn)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert f"left out: other masks of the photos, in {other}/, which --masks folder:{other} takes" in dataset.summary
    assert not any("neither photos nor" in line for line in dataset.summary)


def paired(dataset):
    """The folder of each photo that has a mask, and of that."""
    found = [(key, dataset.mask_path(index)) for index, key in enumerate(dataset.keys) if dataset.has_mask(index)]
    return {(key.rpartition("/")[0], mask.parent.name) for key, mask in found}, len(found)


@pytest.mark.parametrize(
    ("folders", "pairs"),
    [
        (("rgb", "thermal", "masks", "thermal_masks"), {("rgb", "masks"), ("thermal", "thermal_masks")}),
        (("left", "right", "labels", "labels_right"), {("left", "labels"), ("right", "labels_right")}),
        (("", "night", "masks", "night_masks"), {("", "masks"), ("night", "night_masks")}),
        (("siteA", "siteB", "siteA_masks", "siteB_masks"), {("siteA", "siteA_masks"), ("siteB", "siteB_masks")}),
        (("scene", "depth", "labels"), {("scene", "labels")}),
        (("input", "clahe", "labels"), {("input", "labels")}),
        (("data", "predictions", "labels"), {("data", "labels")}),
        (("colour_photos", "nir_photos", "labels"), {("colour_photos", "labels")}),
    ],
)
def test_each_folder_of_masks_has_its_photos_where_names_say_which(tmp_path, folders, pairs):
    for place, folder in enumerate(folders):
        for number, name in enumerate("xyz"):
            is_mask = "masks" in folder or "labels" in folder
            pixels = MASK if is_mask else grainy(10 * place + number)
            write(tmp_path / folder / f"{name}.png", pixels)
    assert paired(image_folder(tmp_path, DatasetOptions())) == (pairs, 3 * len(pairs))


def test_photos_that_no_mask_fits_stay_photos_beside_another_folder(tmp_path):
    for number, name in enumerate("xyzuvw"):
        write(tmp_path / "unlabelled" / f"{name}.png", grainy(10 + number))
        if name in "xyz":
            write(tmp_path / "rgb" / f"{name}.png", grainy(number))
            write(tmp_path / "masks" / f"{name}.png", MASK)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert paired(dataset) == ({("rgb", "masks")}, 3)
    assert [key for key in dataset.keys if key.startswith("unlabelled")] == [f"unlabelled/{name}.png" for name in "uvw"]


@pytest.mark.parametrize("name", ["seg01", "label_01", "l_1"])
def test_a_letter_behind_is_a_mark_where_it_alone_finds_a_photo(tmp_path, name):
    write(tmp_path / "images" / f"{name}.jpg", grainy(1))
    write(tmp_path / "masks" / f"{name}_L.png", MASK)
    assert paired(image_folder(tmp_path, DatasetOptions())) == ({("images", "masks")}, 1)


def test_a_mask_with_a_mark_is_a_mask_though_another_name_begins_with_its(tmp_path):
    write(tmp_path / "x.jpg", grainy(1))
    write(tmp_path / "x_mask.png", MASK)
    write(tmp_path / "x_mask_L.png", MASK)
    with pytest.raises(DataError, match="has two masks"):
        image_folder(tmp_path, DatasetOptions())


def test_a_folder_for_each_picture_is_no_class(tmp_path):
    for number in range(4):
        write(tmp_path / f"p{number}" / "image.png", grainy(number))
        write(tmp_path / f"p{number}" / "mask.png", MASK)
    assert image_folder(tmp_path, DatasetOptions(masks=False, labels=True)).label_names == ()
