"""Masks under names of people's own: known by what they hold, never trained on as photos, and never guessed at."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.folder import image_folder
from simclrseg.errors import DataError
from simclrseg.targets.knobs import LabelledData
from simclrseg.targets.segment.examination import open_masks

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[:HEIGHT, :WIDTH]
DISC = (Y - 24) ** 2 + (X - 20) ** 2 < 100
OTHER_DISC = (Y - 24) ** 2 + (X - 45) ** 2 < 60
RNG = np.random.default_rng(0)
NUMBERS = range(6)
LINE_DRAWING = np.uint8(255) * np.uint8(abs(Y - X // 2 - 10) > 1)


def photo() -> np.ndarray:
    """Smooth colours under a grain."""
    smooth = cv2.GaussianBlur(RNG.normal(0, 60, (HEIGHT, WIDTH, 3)), (0, 0), 3) * 3
    return np.clip(smooth + 120 + RNG.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def binary(disc: np.ndarray = DISC, value: int = 255) -> np.ndarray:
    return np.uint8(value) * np.uint8(disc)


def colours() -> np.ndarray:
    return np.where(DISC[..., None], np.uint8([128, 64, 128]), np.uint8([60, 40, 222]))


def put(root: Path, name: str, pixels: np.ndarray) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / name)


def fill(root: Path, photos: str, *masks: str, pixels: np.ndarray | None = None) -> None:
    """Write six photos, and masks for each, under names in which x is the number."""
    for number in NUMBERS:
        put(root, photos.replace("x", f"{number}"), photo())
        for mask in masks:
            put(root, mask.replace("x", f"{number}"), binary() if pixels is None else pixels)


def alone(root: Path) -> Dataset:
    return image_folder(root, DatasetOptions(masks=False))


def chosen(root: Path, rules: str) -> Dataset:
    return open_masks(LabelledData.model_validate({"dataset": str(root), "masks": rules}))


@pytest.mark.parametrize(
    ("photos", "masks"),
    [
        ("JPEGImages/x.jpg", "SegmentationClassPNG/x.png"),
        ("Original/x.tif", "Ground Truth/x.tif"),
        ("PNG/Original/x.png", "PNG/Ground Truth/x.png"),
        ("Imgs/x.jpg", "GT/x.png"),
        ("leftImg8bit/train/aachen/x_leftImg8bit.png", "gtFine/train/aachen/x_gtFine_labelIds.png"),
        ("imagesTr/case_x_0000.png", "labelsTr/case_x.png"),
        ("x_sat.jpg", "x_mask.png"),
        ("ISIC2018_Task1-2_Training_Input/a_x.jpg", "ISIC2018_Task1_Training_GroundTruth/a_x_segmentation.png"),
        ("ISIC_Input/a_x.jpg", "ISIC_Segmentation/a_x_Segmentation.png"),
        ("701_StillsRaw_full/x.png", "LabeledApproved_full/x_L.png"),
        ("benign/benign (x).png", "benign/benign (x)_mask.png"),
        ("images/x_training.tif", "1st_manual/x_manual1.gif"),
        ("Train/Rural/images_png/x.png", "Train/Rural/masks_png/x.png"),
        ("train/sat/x.tiff", "train/map/x.tif"),
        ("x.bmp", "x.png"),
        ("images/x.jpg", "images/x_mask.png"),
        ("a-x.jpg", "a-x_lesion.png"),
        ("frame_x.jpg", "frame_mask_x.png"),
        ("images/site/day/x.jpg", "masks/site/day/x.png"),
    ],
)
def test_masks_of_any_name_are_read_and_never_trained_on_as_photos(tmp_path, photos, masks):
    fill(tmp_path, photos, masks)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert sorted(dataset.keys) == sorted(photos.replace("x", f"{number}") for number in NUMBERS)
    for index in NUMBERS:
        np.testing.assert_array_equal(dataset.mask(index), DISC)
    unread = alone(tmp_path)
    assert sorted(unread.keys) == sorted(dataset.keys)
    assert sum(line.startswith("left out: 6 masks ") for line in unread.summary) == 1


@pytest.mark.parametrize("masks", ["LabeledApproved_full/x_L.png", "labels_rgb/x.png", "photos/x_palette.png"])
def test_colours_in_place_of_ids_are_masks_as_well(tmp_path, masks):
    fill(tmp_path, "photos/x.png", masks, pixels=colours())
    assert alone(tmp_path).keys == tuple(f"photos/{number}.png" for number in NUMBERS)


def test_a_few_masks_among_many_photos_are_none_of_them(tmp_path):
    for number in range(20):
        put(tmp_path, f"p{number}_sat.jpg", photo())
    for number in range(2):
        put(tmp_path, f"p{number}_mask.png", binary())
    assert len(alone(tmp_path)) == 20
    dataset = image_folder(tmp_path, DatasetOptions())
    assert sum(dataset.has_mask(index) for index in range(20)) == 2


def test_what_is_drawn_of_photos_or_masks_is_left_out_and_counted(tmp_path):
    fill(tmp_path, "Data_Input/x.jpg", "Data_Input/x_areas.png", pixels=np.uint8(Y // 12 * 8 + X // 12))
    fill(tmp_path, "Data_Input/x.jpg", "Data_GroundTruth/x_segmentation.png")
    for masks in (True, False):
        dataset = image_folder(tmp_path, DatasetOptions(masks=masks))
        assert len(dataset) == 6
        line = "left out: pictures that bear photos' names and look like masks: 6 (0_areas.png, 1_areas.png and 4 more)"
        assert line in dataset.summary


def test_masks_whose_photos_bear_other_names_are_left_out_where_their_folder_says_masks(tmp_path):
    fill(tmp_path, "faces-img/x.jpg", "FaceMask-anno/000x_hair.png")
    dataset = alone(tmp_path)
    assert len(dataset) == 6
    assert "left out: pictures that look like masks, in folders that say so: 6 (FaceMask-anno/)" in dataset.summary


def test_masks_without_any_photo_are_no_photos_either(tmp_path):
    for number in NUMBERS:
        put(tmp_path, f"masks/00{number}.png", binary())
    with pytest.raises(DataError, match="has masks/ but no images/: put the photos into images/"):
        alone(tmp_path)
    for number in NUMBERS:
        put(tmp_path, f"Original/{number}.jpg", photo())
    assert alone(tmp_path).keys == tuple(f"Original/{number}.jpg" for number in NUMBERS)


@pytest.mark.parametrize(
    "folders",
    [
        ("mask", "no_mask", "with_mask"),
        ("masks", "gloves"),
        ("cats", "dogs", "label"),
        ("data/images/mask", "data/images/no_mask"),
        ("gt", "suv"),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_classes_with_a_word_of_masks_stay_classes_where_they_hold_photos(tmp_path, folders, suffix):
    for folder in folders:
        fill(tmp_path, f"{folder}/x{suffix}")
    dataset = alone(tmp_path)
    assert len(dataset) == 6 * len(folders)
    assert dataset.label_names == tuple(sorted(Path(folder).name for folder in folders))


@pytest.mark.parametrize("names", [("face/x.jpg", "face_mask/x.jpg"), ("x.jpg", "x_mask.jpg"), ("x.png", "mask/x.png")])
def test_photos_of_people_with_a_mask_beside_the_same_without_stay_photos(tmp_path, names):
    for name in names:
        fill(tmp_path, name)
    assert len(alone(tmp_path)) == 12


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("pixels", [binary(), colours()])
def test_masks_in_lossy_files_under_a_name_of_masks_are_no_photos(tmp_path, suffix, pixels):
    fill(tmp_path, "train/x.jpg", f"train_masks/x{suffix}", pixels=pixels)
    fill(tmp_path, "more/x.jpg", f"more/x_mask{suffix}", pixels=pixels)
    assert len(alone(tmp_path)) == 12


@pytest.mark.parametrize(
    ("other", "pixels"),
    [
        ("drawings", LINE_DRAWING),
        ("infrared", None),
        ("icons", colours()[:32, :32]),
        ("signs", binary()[:40]),
    ],
)
def test_drawings_icons_and_other_bands_of_photos_names_stay_photos(tmp_path, other, pixels):
    fill(tmp_path, "photos/x.png")
    for number in NUMBERS:
        put(tmp_path, f"{other}/{number}.png", photo()[:, :, 0] // 3 if pixels is None else pixels)
    assert len(alone(tmp_path)) == 12


def test_smooth_photos_in_a_folder_whose_name_tells_of_masks_are_read_with_them(tmp_path):
    smooth = cv2.GaussianBlur(RNG.normal(0, 900, (HEIGHT, WIDTH, 3)), (0, 0), 9)
    for number in NUMBERS:
        put(tmp_path, f"Dataset_with_GT/benign/{number}.png", np.clip(smooth + 120 + number, 0, 255).astype(np.uint8))
        put(tmp_path, f"Dataset_with_GT/benign/{number}_mask.png", binary())
    dataset = image_folder(tmp_path, DatasetOptions())
    assert len(dataset) == 6
    assert all(map(dataset.has_mask, NUMBERS))


def test_line_drawings_alone_are_photos(tmp_path):
    for number in NUMBERS:
        put(tmp_path, f"{number}.png", np.roll(LINE_DRAWING, number))
    assert len(alone(tmp_path)) == 6


@pytest.mark.parametrize(
    ("photos", "first", "second"),
    [
        ("images/x_training.tif", "mask/x_training_mask.gif", "1st_manual/x_manual1.gif"),
        ("images/x.JPG", "mask/x_mask.tif", "manual1/x.tif"),
        ("test/images/x_test.tif", "test/1st_manual/x_manual1.gif", "test/2nd_manual/x_manual2.gif"),
        ("JPEGImages/x.jpg", "SegmentationClass/x.png", "labels/x.png"),
        ("Original/x.jpg", "Ground Truth/x.png", "manual/x.png"),
        ("Original/x.jpg", "vessels/x.png", "lesions/x.png"),
    ],
)
def test_of_two_folders_that_fit_as_masks_none_is_taken_unless_it_is_named(tmp_path, photos, first, second):
    fill(tmp_path, photos, first)
    for number in NUMBERS:
        put(tmp_path, second.replace("x", f"{number}"), binary(OTHER_DISC))
    names = [Path(mask).parent.name for mask in (first, second)]
    with pytest.raises(DataError, match="has 2 folders that fit its photos as masks") as caught:
        image_folder(tmp_path, DatasetOptions())
    for mask, name in zip((first, second), names, strict=True):
        assert f"{Path(mask).parent}/" in str(caught.value)
        assert f"--masks {shlex.quote(f'folder:{name}')}" in str(caught.value)
    for name, disc in zip(names, (DISC, OTHER_DISC), strict=True):
        dataset = chosen(tmp_path, f"folder:{name}+foreground")
        np.testing.assert_array_equal(dataset.mask(0), disc)
        assert any(
            line.startswith("pairs of photo and mask: 6, the masks in ") and name in line for line in dataset.summary
        )
    assert len(alone(tmp_path)) == 6


def test_each_part_of_a_set_may_call_the_folder_of_masks_in_its_own_way(tmp_path):
    fill(tmp_path, "a/images/x.jpg", "a/masks/x.png")
    fill(tmp_path, "b/images/x.jpg", "b/1st_manual/x_manual1.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert len(dataset) == 12
    assert all(map(dataset.has_mask, range(12)))
    assert "pairs of photo and mask: 12, the masks in a/masks/, b/1st_manual/" in dataset.summary


def test_masks_in_one_folder_may_be_those_of_photos_in_several(tmp_path):
    fill(tmp_path, "part_1/a_x.jpg", "all_segmentations/a_x_segmentation.png")
    fill(tmp_path, "part_2/b_x.jpg", "all_segmentations/b_x_segmentation.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert len(dataset) == 12
    assert all(map(dataset.has_mask, range(12)))
    assert len(alone(tmp_path)) == 12


def test_a_folder_that_is_named_has_to_fit(tmp_path):
    fill(tmp_path, "images/x.jpg", "masks/x.png")
    with pytest.raises(
        DataError, match=r"--masks folder:manual: .* no such folder whose files bear the names"
    ) as caught:
        chosen(tmp_path, "folder:manual")
    assert caught.value.option == "masks"
    of_another_set = DatasetOptions(mask_folder="manual", of_model=True)
    assert image_folder(tmp_path, of_another_set).mask_path(0) == tmp_path / "masks" / "0.png"


@pytest.mark.parametrize("drawn", ["SegmentationObject", "masks_human", "instances", "semantic_rgb", "edges"])
def test_what_is_called_as_if_drawn_of_masks_is_no_second_folder_of_them(tmp_path, drawn):
    fill(tmp_path, "img/x.jpg", "SegmentationClass/x.png")
    for number in NUMBERS:
        put(tmp_path, f"{drawn}/{number}.png", colours() if drawn == "masks_human" else binary(OTHER_DISC))
    np.testing.assert_array_equal(image_folder(tmp_path, DatasetOptions()).mask(0), DISC)


def test_masks_are_known_though_most_are_empty(tmp_path):
    fill(tmp_path, "701_Stills/x.png", "LabeledApproved/x_L.png", pixels=np.zeros((HEIGHT, WIDTH), np.uint8))
    assert len(alone(tmp_path)) == 6
    fill(tmp_path, "more/x.png", "roads/x.png", pixels=np.zeros((HEIGHT, WIDTH), np.uint8))
    for number in range(20):
        put(tmp_path, f"more/{number + 6}.png", photo())
        put(tmp_path, f"roads/{number + 6}.png", binary() if number == 7 else np.zeros((HEIGHT, WIDTH), np.uint8))
    assert len(alone(tmp_path)) == 32


def test_masks_beside_their_photos_are_said_to_lie_there(tmp_path):
    fill(tmp_path, "x.jpg", "x_mask.png")
    assert (
        "pairs of photo and mask: 6, the masks beside their photos" in image_folder(tmp_path, DatasetOptions()).summary
    )


def test_of_cityscapes_the_ids_are_taken_and_not_what_is_drawn_of_them(tmp_path):
    for part, city in (("train", "ulm"), ("val", "bonn")):
        gt = f"gtFine/{part}/{city}/x_gtFine"
        fill(tmp_path, f"leftImg8bit/{part}/{city}/x_leftImg8bit.png", f"{gt}_labelIds.png")
        for number in NUMBERS:
            put(tmp_path, f"{gt}_color.png".replace("x", f"{number}"), colours())
            put(tmp_path, f"{gt}_instanceIds.png".replace("x", f"{number}"), binary().astype(np.uint16) * 26)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert {split: len(indices) for split, indices in dataset.official.items()} == {"train": 6, "validation": 6}
    assert {dataset.mask_path(index).name[1:] for index in range(12)} == {"_gtFine_labelIds.png"}
    assert any(
        "pictures that show the masks in another way: 24 (0_gtFine_color.png" in line for line in dataset.summary
    )
    for file in list(tmp_path.rglob("*_labelIds.png")):
        put(tmp_path, str(file.relative_to(tmp_path)).replace("labelIds", "labelTrainIds"), binary(OTHER_DISC, 1))
    np.testing.assert_array_equal(image_folder(tmp_path, DatasetOptions()).mask(0), OTHER_DISC)


def test_of_nnu_net_s_layout_the_test_part_without_labels_is_no_part_and_more_channels_are_named(tmp_path):
    fill(tmp_path, "imagesTr/a_x_0000.png", "labelsTr/a_x.png")
    fill(tmp_path, "imagesTs/b_x_0000.png")
    dataset = image_folder(tmp_path, DatasetOptions())
    assert "test: none of its 6 photos has a mask, so that it is no part" in dataset.summary
    assert len(dataset.official["train"]) == 6
    put(tmp_path, "imagesTr/a_0_0001.png", photo())
    with pytest.raises(DataError, match=r"a_0_0001\.png is another channel of a photo.*: save the channels of each"):
        image_folder(tmp_path, DatasetOptions())


def test_further_masks_of_a_photo_are_further_objects_of_it(tmp_path):
    fill(tmp_path, "benign/benign (x).png", "benign/benign (x)_mask.png")
    put(tmp_path, "benign/benign (2)_mask_1.png", binary(OTHER_DISC))
    dataset = image_folder(tmp_path, DatasetOptions())
    masks = {key: dataset.mask(index) for index, key in enumerate(dataset.keys)}
    np.testing.assert_array_equal(masks["benign/benign (2).png"], DISC | OTHER_DISC)
    np.testing.assert_array_equal(masks["benign/benign (3).png"], DISC)
    taken = "(benign (2)_mask.png and benign (2)_mask_1.png)"
    assert f"photos with several masks, which are taken together: 1 {taken}" in dataset.summary


def test_further_masks_of_the_same_object_are_refused(tmp_path):
    fill(tmp_path, "x.png", "x_mask_1.png", "x_mask_2.png")
    with pytest.raises(DataError, match=r"0_mask_1\.png and 0_mask_2\.png are two masks of the same object: keep one"):
        image_folder(tmp_path, DatasetOptions())
    assert len(alone(tmp_path)) == 6


def test_masks_of_several_people_beside_a_photo_are_refused(tmp_path):
    fill(tmp_path, "Image_xL.jpg", "Image_xL_1stHO.png", "Image_xL_2ndHO.png")
    with pytest.raises(DataError, match=r"has two masks, Image_0L_1stHO\.png and Image_0L_2ndHO\.png: keep one"):
        image_folder(tmp_path, DatasetOptions())
    assert len(alone(tmp_path)) == 6


def test_masks_are_called_as_imagej_calls_them(tmp_path):
    fill(tmp_path, "images/shot x.jpg")
    for number in NUMBERS:
        put(tmp_path, f"masks/Mask of shot {number}.tif", binary())
    dataset = image_folder(tmp_path, DatasetOptions())
    assert all(dataset.has_mask(index) for index in range(len(dataset))) and len(dataset) == len(NUMBERS)


def test_the_name_that_would_fit_ends_as_the_mask_does(tmp_path):
    fill(tmp_path, "images/shot_x.jpg")
    for number in NUMBERS:
        put(tmp_path, f"masks/Drawing of shot {number}.tif", binary())
    with pytest.raises(DataError, match=r"call the mask of images/shot_0\.jpg masks/shot_0\.tif"):
        image_folder(tmp_path, DatasetOptions())


def test_masks_that_no_photo_fits_are_named_beside_photos_and_a_name_that_would_fit(tmp_path):
    fill(tmp_path, "images/shot_x.jpg")
    for number in NUMBERS:
        put(tmp_path, f"masks/{number + 1}.png", binary())
    with pytest.raises(DataError) as caught:
        image_folder(tmp_path, DatasetOptions())
    for part in (
        "masks without a photo of their name: 6 of 6, masks/1.png, masks/2.png and 4 more",
        "photos without a mask: 6, images/shot_0.jpg, images/shot_1.jpg and 4 more",
        "call the mask of images/shot_0.jpg masks/shot_0.png",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    fill(tmp_path, "images/shot_x.jpg", "masks/shot_x.png")
    for number in NUMBERS:
        (tmp_path / f"masks/{number + 1}.png").unlink()
    assert all(map(image_folder(tmp_path, DatasetOptions()).has_mask, NUMBERS))


def scan() -> np.ndarray:
    """Lines of text on white paper."""
    ink = (Y % 8 < 2) & (RNG.random((HEIGHT, WIDTH // 4)).repeat(4, 1) < 0.6)
    return np.uint8(255) * np.uint8(~ink)


def icon() -> np.ndarray:
    """A disc in a colour of its own."""
    middle = (Y - RNG.integers(16, 32)) ** 2 + (X - RNG.integers(16, 48)) ** 2 < 100
    ground, colour = RNG.integers(0, 255, (2, 3), np.uint8)
    return np.where(middle[..., None], colour, ground)


def product() -> np.ndarray:
    """A smooth thing on white."""
    return np.where(DISC[..., None], cv2.GaussianBlur(photo(), (0, 0), 6), np.uint8(255))


def noise(most: int) -> np.ndarray:
    return RNG.integers(0, most + 1, (HEIGHT, WIDTH), np.uint8)


def channel() -> np.ndarray:
    """Noise in the dark, and a bright speck."""
    pixels = noise(16)
    pixels[20, 20] = 250
    return pixels


@pytest.mark.parametrize(
    ("folders", "suffix", "draw"),
    [
        (("invoice", "letter", "manual"), ".png", scan),
        (("invoice", "letter", "manual"), ".jpg", scan),
        (("hat", "mask", "shoe"), ".png", icon),
        (("bottles", "labels"), ".jpg", product),
        (("brightfield", "dapi", "gfp"), ".png", channel),
        (("chairs", "matte"), ".png", icon),
        (("cotton", "damask"), ".png", icon),
        (("masked", "unmasked"), ".png", icon),
    ],
)
@pytest.mark.parametrize("parts", [("",), ("train/", "test/")])
def test_classes_of_flat_pictures_stay_classes_whatever_their_names_say(tmp_path, folders, suffix, draw, parts):
    for part in parts:
        for folder in folders:
            for number in range(8):
                put(tmp_path, f"{part}{folder}/00{number}{suffix}", draw())
    assert len(alone(tmp_path)) == 8 * len(folders) * len(parts)
    dataset = image_folder(tmp_path, DatasetOptions())
    assert not dataset.has_masks
    assert dataset.label_names == folders


@pytest.mark.parametrize("folders", [("hats", "shoes", "mask"), ("hats", "labels")])
def test_a_flat_class_under_other_names_than_its_grainy_siblings_is_one_where_folders_are_labels(tmp_path, folders):
    for folder in folders:
        for number in NUMBERS:
            put(tmp_path, f"{folder}/{folder}-{number}.png", icon() if folder == folders[-1] else photo())
    assert image_folder(tmp_path, DatasetOptions(masks=False, labels=True)).label_names == tuple(sorted(folders))


def test_running_numbers_do_not_make_a_flat_class_the_masks_of_two_that_are_alike(tmp_path):
    for number in NUMBERS:
        for folder in ("hat", "shoe"):
            put(tmp_path, f"{folder}/00{number}.png", photo())
        put(tmp_path, f"mask/00{number}.png", binary())
    assert not image_folder(tmp_path, DatasetOptions()).has_masks
    assert image_folder(tmp_path, DatasetOptions(masks=False, labels=True)).label_names == ("hat", "mask", "shoe")


def test_masks_beside_photos_and_what_was_measured_of_these_are_masks_still(tmp_path):
    fill(tmp_path, "Original/x.jpg", "Masks/x.png")
    for number in NUMBERS:
        put(tmp_path, f"depth/{number}.png", photo()[:, :, 0])
    dataset = image_folder(tmp_path, DatasetOptions())
    assert sum(dataset.has_mask(index) for index in range(len(dataset))) == 6


@pytest.mark.parametrize("other", ["predictions", "depth", "bbox", "skeletons", "masks_old"])
def test_a_folder_whose_name_says_nothing_of_masks_is_no_rival_of_one_whose_name_does(tmp_path, other):
    fill(tmp_path, "images/x.jpg", "masks/x.png")
    for number in NUMBERS:
        put(tmp_path, f"{other}/{number}.png", binary(OTHER_DISC))
    np.testing.assert_array_equal(image_folder(tmp_path, DatasetOptions()).mask(0), DISC)


def test_a_further_folder_of_masks_does_not_stop_what_was_trained_on_the_first(tmp_path):
    fill(tmp_path, "images/x.jpg", "mask/x.png")
    for number in NUMBERS:
        put(tmp_path, f"1st_manual/{number}.png", binary(OTHER_DISC))
    data = LabelledData(dataset=str(tmp_path))
    with pytest.raises(DataError, match="has 2 folders that fit"):
        open_masks(data)
    np.testing.assert_array_equal(open_masks(data, settled=True).mask(0), DISC)


@pytest.mark.parametrize(
    ("first", "second"),
    [("photo/x.png", "cartoon/x.png"), ("x.png", "x_thumb.png"), ("x.png", "x_logo.png"), ("x.jpg", "x.png")],
)
def test_flat_pictures_in_colours_of_their_own_stay_photos(tmp_path, first, second):
    for number in range(8):
        put(tmp_path, first.replace("x", f"00{number}"), photo())
        put(tmp_path, second.replace("x", f"00{number}"), icon())
    assert len(alone(tmp_path)) == 16


def posterized() -> np.ndarray:
    """Areas in four levels a channel."""
    smooth = cv2.GaussianBlur(RNG.normal(0, 900, (HEIGHT, WIDTH, 3)), (0, 0), 6) + 120
    return np.clip(smooth, 0, 255).astype(np.uint8) // 64 * 64


@pytest.mark.parametrize(
    ("first", "second", "draw"),
    [
        ("photo/x.png", "cartoon/x.png", posterized),
        ("x.png", "x_thumb.png", lambda: posterized()[::2, ::2]),
        ("x.png", "x_logo.png", lambda: binary()[::2, ::2]),
        ("hat/x.png", "mask/x.png", lambda: icon()[::2, ::2]),
        ("hat/h-x.png", "mask/m-x.png", scan),
    ],
)
def test_flat_pictures_in_many_colours_of_another_size_or_on_paper_stay_photos(tmp_path, first, second, draw):
    for number in range(12):
        put(tmp_path, first.replace("x", f"00{number}", 1), photo())
        put(tmp_path, second.replace("x", f"00{number}", 1), draw())
    assert len(alone(tmp_path)) == 24


@pytest.mark.parametrize("masks", ["classes/x.png", "x_areas.png"])
def test_flat_pictures_in_the_colours_of_many_classes_are_masks(tmp_path, masks):
    palette = RNG.integers(0, 255, (12, 3), np.uint8)
    for number in range(40):
        put(tmp_path, f"{'photos/' if '/' in masks else ''}{number}.png", photo())
        ids = np.where(DISC, RNG.integers(1, 12), np.where(OTHER_DISC, RNG.integers(1, 12), 0))
        put(tmp_path, masks.replace("x", f"{number}"), palette[ids])
    assert len(alone(tmp_path)) == 40


def test_masks_in_black_and_white_with_blended_edges_are_known(tmp_path):
    blended = cv2.GaussianBlur(binary(), (0, 0), 1)
    fill(tmp_path, "photos/x.png", "lesions/x.png", pixels=blended)
    assert len(alone(tmp_path)) == 6


@pytest.mark.parametrize(
    ("photos", "masks", "where"),
    [
        ("photos/x.jpg", "manual/x.png", "in manual/"),
        ("x.jpg", "x_areas.png", "beside their photos, as 0_areas.png"),
    ],
)
def test_masks_that_are_left_out_are_said_with_where_they_are(tmp_path, photos, masks, where):
    fill(tmp_path, photos, masks)
    assert f"left out: 6 masks {where}, for photos alone are looked at" in alone(tmp_path).summary


def advised(root: Path, rules: str | None) -> str:
    """The first value of --masks that an error or a line on these masks advises, as a shell takes it."""
    try:
        text = "\n".join(open_masks(LabelledData(dataset=str(root), masks=rules)).summary)
    except DataError as error:
        text = error.remedy
    words = shlex.split(text[text.index("pass --masks") :].replace(", ", " ").replace("`", ""))
    return words[2]


@pytest.mark.parametrize("rules", [None, "inverted"])
def test_what_is_advised_keeps_what_was_asked_for_and_leads_to_the_end(tmp_path, rules):
    fill(tmp_path, "images/x.png")
    for number in NUMBERS:
        put(tmp_path, f"gt of A/{number}.jpg", binary())
        put(tmp_path, f"gt of B/{number}.png", binary(OTHER_DISC))
    first = advised(tmp_path, rules)
    assert first == "folder:gt of A" + ("+inverted" if rules else "")
    second = advised(tmp_path, first)
    assert second == first + "+threshold:128"
    inside = np.asarray(chosen(tmp_path, second).mask(0) == 1)
    assert (inside != (DISC ^ bool(rules))).mean() < 0.01


def test_what_a_line_advises_keeps_the_folder(tmp_path):
    white = np.full_like(binary(), 255)
    white[:, :2] = 0
    fill(tmp_path, "images/x.jpg", "gt_a/x.png", "gt_b/x.png", pixels=white)
    assert advised(tmp_path, "folder:gt_b") == "folder:gt_b+inverted"
    assert chosen(tmp_path, "folder:gt_b+inverted").mask(0).mean() < 0.1


def test_what_is_drawn_of_masks_in_folders_beside_theirs_is_no_photo(tmp_path):
    fill(tmp_path, "training/images/x.jpg")
    for number in NUMBERS:
        for folder in ("labels", "instances", "panoptic"):
            put(tmp_path, f"training/v1.2/{folder}/other_{number}.png", binary(DISC, 20))
    assert [Path(key).parent.name for key in alone(tmp_path).keys] == ["images"] * 6


def test_masks_beside_photos_that_have_a_mark_too_are_no_photos(tmp_path):
    fill(tmp_path, "plant00x_rgb.png", "plant00x_label.png", "plant00x_fg.png", "plant00x_centers.png")
    assert [key for key in alone(tmp_path).keys if not key.endswith("_rgb.png")] == []


def test_no_folder_is_advised_that_would_do_for_one_photo_alone(tmp_path):
    fill(tmp_path, *(f"IMD00x/IMD00x_{what}/IMD00x{end}.png" for what, end in (("photo", ""), ("lesion", "_lesion"))))
    for number in NUMBERS:
        put(tmp_path, f"IMD00{number}/IMD00{number}_roi/IMD00{number}_roi.png", binary())
    with pytest.raises(
        DataError, match=r"has 2 folders that fit its photos as masks, [^;]*[;:] move the others away, or"
    ):
        image_folder(tmp_path, DatasetOptions())
