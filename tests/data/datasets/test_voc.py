"""Pascal VOC, Oxford's border as a class, and classes chosen of many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.derived import choose_classes
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.datasets.voc import voc
from simclrseg.data.split_file import test_hash as hash_of_test
from simclrseg.data.splits import make_split
from simclrseg.errors import DataError, UnknownName


@pytest.fixture
def small_voc(tmp_path: Path) -> Path:
    """Four photos: two of the list train, one of val, and one in no list and without a mask."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (6, 4)).save(base / "JPEGImages" / f"2007_{number:06d}.jpg")
    for number in range(3):
        mask = Image.frombytes("P", (6, 4), bytes([(0, 20, 255)[number]] * 24))
        mask.putpalette([number % 256 for number in range(768)])
        mask.save(base / "SegmentationClass" / f"2007_{number:06d}.png")
    (base / "ImageSets/Segmentation/train.txt").write_text("2007_000000\n2007_000001\n")
    (base / "ImageSets/Segmentation/val.txt").write_text("2007_000002\n")
    return tmp_path


def test_every_photo_is_there_and_the_list_val_is_the_test_list(small_voc):
    dataset = voc(small_voc, DatasetOptions())
    assert len(dataset) == 4
    assert dataset.official == {"train": (0, 1), "test": (2,)}
    assert [dataset.has_mask(index) for index in range(4)] == [True, True, True, False]
    assert [np.unique(dataset.mask(index)).tolist() for index in range(3)] == [[0], [20], [255]]
    assert len(dataset.classes) == len(dataset.colours) == 21
    assert (dataset.classes[0], dataset.classes[15], dataset.colours[15]) == ("background", "person", (192, 128, 128))


def test_a_mask_with_another_class_id_is_named(small_voc):
    file = small_voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    Image.fromarray(np.array([[0, 21, 255, 200]], np.uint8)).save(file)
    with pytest.raises(
        DataError, match=r"2007_000001\.png has values \[21, 200\]; a mask of VOC has the class ids 0 to"
    ):
        voc(small_voc, DatasetOptions()).mask(1)


def test_lists_without_their_photos_are_no_voc(small_voc):
    for photo in (small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir():
        photo.unlink()
    with pytest.raises(DataError, match="no photo of the lists is in"):
        voc(small_voc, DatasetOptions())


def test_the_real_photos_have_masks_of_their_size(real_data, monkeypatch):
    monkeypatch.setenv("SIMCLRSEG_DATA", str(real_data))
    dataset = open_dataset("voc")
    assert (len(dataset), len(dataset.official["train"]), len(dataset.official["test"])) == (240, 123, 117)
    for index in range(0, 240, 30):
        assert dataset.image(index).shape[:2] == dataset.mask(index).shape
    split = make_split(dataset.keys, official=dataset.official)
    assert split.test == dataset.official["test"]


def test_oxfords_border_can_be_a_class(real_data, monkeypatch):
    monkeypatch.setenv("SIMCLRSEG_DATA", str(real_data))
    three = open_dataset("oxford_pets", DatasetOptions(border="class"))
    ignored = open_dataset("oxford_pets", DatasetOptions(border="ignore"))
    assert three.classes == ("background", "pet", "border")
    mask = three.mask(0)
    assert set(np.unique(mask)) == {0, 1, 2}
    np.testing.assert_array_equal(np.where(mask == 2, 255, mask), ignored.mask(0))


def test_classes_that_are_not_chosen_become_background_and_ignored_pixels_stay_ignored(small_voc):
    dataset = voc(small_voc, DatasetOptions())
    chosen = choose_classes(dataset, ["tvmonitor", "background", "cat"])
    assert chosen.classes == ("background", "tvmonitor", "cat")
    assert chosen.colours[1:] == (dataset.colours[20], dataset.colours[8])
    assert [np.unique(chosen.mask(index)).tolist() for index in range(3)] == [[0], [1], [255]]
    assert np.unique(choose_classes(dataset, ["cat"]).mask(1)).tolist() == [0]
    assert not chosen.has_mask(3) and chosen.path(3) == dataset.path(3)


def test_scores_on_chosen_classes_are_not_taken_for_scores_on_others(small_voc):
    dataset = voc(small_voc, DatasetOptions())
    hashes = {hash_of_test(choose_classes(dataset, names), (2,)) for names in (["cat"], ["dog"], ["cat", "dog"])}
    assert len({*hashes, hash_of_test(dataset, (2,))}) == 4


def test_a_misspelt_class_gets_a_suggestion(small_voc):
    with pytest.raises(UnknownName, match=r"unknown class of voc 'persn': did you mean 'person'\?"):
        choose_classes(voc(small_voc, DatasetOptions()), ["persn"])
