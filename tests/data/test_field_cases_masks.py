"""Folders of masks as people have them, each read as its row in the folder's README says, or named."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.splits import make_split
from simclrseg.errors import DataError, ImageError
from simclrseg.images.decode import read_image
from simclrseg.inference.inputs import find_images
from simclrseg.inference.jobs import plan_outputs
from simclrseg.targets.knobs import LabelledData
from simclrseg.targets.segment.examination import examine_masks, open_masks


def opened(folder: Path, **data: object) -> Dataset:
    classes = folder / "classes.yaml"
    named = {"classes_file": str(classes)} if classes.is_file() else {}
    return open_masks(LabelledData.model_validate({"dataset": str(folder), **named, **data}))


def truth(field_cases: Path, key: str, count: int) -> np.ndarray:
    """(H, W) of 0 and 1 by the number in an image's name."""
    number = "".join(character for character in Path(key).stem if character.isdigit())
    return np.asarray(Image.open(field_cases / "truth" / f"{count}" / f"p{number}.png")) // 255


def halves(pet: np.ndarray) -> np.ndarray:
    """The pet's left half is class 1, its right half class 2."""
    return pet * np.where(np.arange(pet.shape[1]) < pet.shape[1] // 2, 1, 2).astype(np.uint8)


def said(dataset: Dataset) -> str:
    return "\n".join(dataset.summary)


BINARY = {
    "06-mask-16bit-binary": (12, {}),
    "11-split-first": (14, {}),
    "12-voc-layout": (14, {}),
    "12b-imgs-masks": (14, {}),
    "13-image-mask-singular": (14, {}),
    "13b-images-labels": (14, {}),
    "15-name-camvid": (14, {}),
    "15-name-double": (14, {}),
    "15-name-isic": (14, {}),
    "15-name-label": (14, {}),
    "15-name-seg": (14, {}),
    "16-nfd-nfc": (14, {}),
    "18-nas-litter": (14, {}),
    "22-alpha-mask": (14, {"masks": "alpha"}),
    "22b-alpha-cutout": (14, {"masks": "alpha"}),
    "22c-layer-black-on-transparent": (14, {"masks": "alpha"}),
    "24-imagej-inverting-lut": (14, {}),
    "31b-antialiased-grey": (12, {"masks": "threshold:128"}),
    "03-mixed-01-0255": (12, {"masks": "foreground"}),
    "03c-one-0255": (12, {"masks": "foreground"}),
}


@pytest.mark.parametrize("name", BINARY)
def test_masks_of_two_classes_are_read_as_what_they_mean(field_cases, name):
    count, data = BINARY[name]
    dataset = opened(field_cases / name, **data)
    assert len(dataset) == count
    assert len(dataset.classes) == 2
    for index, key in enumerate(dataset.keys):
        np.testing.assert_array_equal(dataset.mask(index), truth(field_cases, key, count), err_msg=key)


def test_palettes_in_an_order_of_their_own_are_read_by_colour(field_cases):
    dataset = opened(field_cases / "01-palette-first-seen")
    assert "by the palettes' colours" in said(dataset)
    for index, key in enumerate(dataset.keys):
        expected = truth(field_cases, key, 12)
        expected[0, 0] |= int(Path(key).stem[1:]) % 3 == 0
        np.testing.assert_array_equal(dataset.mask(index), expected, err_msg=key)


@pytest.mark.parametrize("name", ["01b-quantize", "08-palette-vs-classes-file", "09-grey-colours"])
def test_colours_that_a_classes_file_names_say_the_class(field_cases, name):
    dataset = opened(field_cases / name)
    assert len(dataset.classes) == 3
    for index, key in enumerate(dataset.keys):
        np.testing.assert_array_equal(dataset.mask(index), halves(truth(field_cases, key, 12)), err_msg=key)


def test_class_ids_in_colours_of_sixteen_bits_keep_all_of_them(field_cases):
    dataset = opened(field_cases / "06b-rgb48-colours")
    for index, key in enumerate(dataset.keys):
        np.testing.assert_array_equal(dataset.mask(index), halves(truth(field_cases, key, 12)), err_msg=key)


def test_a_folder_for_each_class_of_masks_gives_its_classes(field_cases):
    dataset = opened(field_cases / "32-one-folder-a-class")
    assert dataset.classes == ("background", "left", "right")
    for index, key in enumerate(dataset.keys):
        np.testing.assert_array_equal(dataset.mask(index), halves(truth(field_cases, key, 12)), err_msg=key)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("03-mixed-01-0255", r"p\d\d\.png has values 0, .* where 6 of 12 masks hold .*--masks foreground"),
        ("03c-one-0255", r"p\d\d\.png has values 0, 255 where 11 of 12 masks hold ids.*--masks foreground"),
        ("04-jpeg-ids", r"p00\.jpg is a lossy file, which cannot hold class ids .*save masks as PNG$"),
        ("04b-jpeg-01", r"p00\.jpg is a lossy file, which cannot hold class ids"),
        ("05-exif-180", r"12 photos carry an EXIF orientation.*--masks upright .*--masks stored"),
        ("06d-mask-16bit-256", r"p\d\d\.png has values 0, "),
        ("22-alpha-mask", r"p00\.png hides 83% of its pixels by its alpha channel.*--masks alpha"),
        ("22b-alpha-cutout", r"p00\.png hides .*--masks alpha"),
        ("22c-layer-black-on-transparent", r"p00\.png hides .*--masks alpha"),
        ("26-off-by-one", r"p00\.png is 80 x 52 pixels but its photo p00\.jpg is 80 x 53"),
        ("31-antialiased-rgb", r"p00\.png has colours that no class .*smooth edges"),
        ("31b-antialiased-grey", r"p\d\d\.png has values .*--masks threshold:128"),
    ],
)
def test_masks_that_say_nothing_for_certain_are_named_with_the_rule_that_reads_them(field_cases, name, message):
    with pytest.raises(DataError, match=message) as caught:
        opened(field_cases / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("rule", "turned"), [("upright", False), ("stored", True)])
def test_an_orientation_that_fits_both_ways_is_asked_for(field_cases, rule, turned):
    dataset = opened(field_cases / "05-exif-180", masks=rule)
    for index, key in enumerate(dataset.keys):
        expected = truth(field_cases, key, 12)
        np.testing.assert_array_equal(dataset.mask(index), expected[::-1, ::-1] if turned else expected)


def test_numbers_of_objects_are_suspected_and_taken_together(field_cases):
    folder = field_cases / "07-instance-ids"
    assert "pass --masks foreground" in said(opened(folder))
    dataset = opened(folder, masks="foreground")
    assert dataset.classes == ("background", "foreground")
    for index, key in enumerate(dataset.keys):
        stored = np.asarray(Image.open(folder / "masks" / f"{Path(key).stem}.png"))
        np.testing.assert_array_equal(dataset.mask(index), stored > 0)


def test_dark_objects_on_white_are_suspected_and_turned(field_cases):
    folder = field_cases / "23-black-on-white"
    assert "foreground is 97% of the masks: if that is the background, pass --masks inverted" in said(opened(folder))
    dataset = opened(folder, masks="inverted")
    assert "if that is" not in said(dataset)
    np.testing.assert_array_equal(dataset.mask(0), np.asarray(Image.open(folder / "masks" / "p00.png")) == 0)


def test_an_inverting_table_is_said(field_cases):
    assert "7 of 14 masks have an inverting table" in said(opened(field_cases / "24-imagej-inverting-lut"))


def test_splits_first_are_the_split(field_cases):
    dataset = opened(field_cases / "11-split-first")
    assert {part: len(indices) for part, indices in dataset.official.items()} == {
        "train": 9,
        "validation": 2,
        "test": 3,
    }


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("11-split-first", 14),
        ("12-voc-layout", 14),
        ("12b-imgs-masks", 14),
        ("13-image-mask-singular", 14),
        ("13b-images-labels", 14),
        ("15-name-double", 14),
        ("32-one-folder-a-class", 12),
    ],
)
def test_a_mask_is_never_learned_from_as_a_photo(field_cases, name, count):
    dataset = open_dataset(str(field_cases / name), DatasetOptions(masks=False))
    assert len(dataset) == count
    assert not dataset.has_masks
    files = 2 * count if name.endswith("a-class") else count
    assert any(line.startswith(f"left out: {files} masks ") for line in dataset.summary)


def test_litter_of_network_disks_is_left_out_and_counted(field_cases, caplog):
    with caplog.at_level(logging.INFO):
        dataset = opened(field_cases / "18-nas-litter")
    assert len(dataset) == 14
    assert "left out: 28 pictures in @eaDir, 14 ._ files, 1 picture in #recycle" in caplog.text


def test_copies_are_said_and_stay_together(field_cases):
    dataset = opened(field_cases / "19-copies")
    assert "exact copies of other photos: 14 (p00 - Copy.jpg = p00.jpg)" in said(dataset)
    for seed in range(5):
        split = make_split(dataset.keys, official={}, seed=seed, twins=dataset.twins)
        for part in (split.train, split.validation, split.test):
            names = [dataset.keys[index].replace(" - Copy", "") for index in part]
            assert all(names.count(name) == 2 for name in names)


def test_a_phone_s_folder_counts_what_it_leaves_out(field_cases, caplog):
    unread: dict[Path, str] = {}
    with caplog.at_level(logging.INFO):
        found = find_images([str(field_cases / "40-phone-folder")], unread=unread)
    assert len(found) == 3
    assert sorted(path.suffix for path in unread) == [".DNG"] + 4 * [".HEIC"]
    assert "left out: 1 .aae, 1 .mov" in caplog.text


def test_a_file_of_another_kind_than_its_suffix_says_is_read_by_its_content(field_cases):
    folder = field_cases / "40b-heic-as-jpg"
    assert [read_image(folder / name).shape for name in ("IMG_2.jpg", "IMG_3.jpg", "IMG_4.png")]
    with pytest.raises(ImageError, match=r"IMG_1\.jpg: HEIC is not supported: .*convert it"):
        read_image(folder / "IMG_1.jpg")


def test_photos_of_one_name_get_a_mask_each(field_cases):
    images = find_images([str(field_cases / "41-same-stem")])
    jobs = plan_outputs(images, {"mask": ".png"}, "out", one=False)
    assert sorted(str(job.targets["mask"]) for job in jobs) == [
        *(f"out/p0.{suffix}.png" for suffix in ("jpg", "png")),
        *(f"out/p{number}.png" for number in (1, 2, 3)),
    ]


def test_no_foreground_in_validation_or_test_is_said(field_cases, caplog):
    dataset = opened(field_cases / "30-mostly-empty")
    examine_masks(dataset, dataset, make_split(dataset.keys, official={}), threads=1)
    assert "validation masks hold background only" in caplog.text
    assert "test masks hold background only" in caplog.text


def test_other_masks_have_another_hash_even_if_their_pixels_are_as_many(field_cases):
    before, after = field_cases / "30-mostly-empty", field_cases / "60-resume"
    hashes = set()
    for folder in (before, after):
        dataset = opened(folder)
        split = make_split(dataset.keys, official={})
        hashes.add(examine_masks(dataset, dataset, split, threads=1)[1])
    assert len(hashes) == 2
