"""A user's own folder, in each of its layouts and with each of its mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.folder import image_folder
from simclrseg.errors import DataError, ImageError
from simclrseg.labels.classes import numbered_classes, read_classes
from simclrseg.runs.claim import claim
from simclrseg.runs.run import record_facts
from tests.images.tiffs import tiff
from tests.no_files import put_no_files

ANYTHING = DatasetOptions()


def save(path, array, *, palette=False, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(array, np.uint8))
    if palette:
        picture.putpalette(bytes(range(255, -1, -1)) * 3)
    picture.save(path, **options)


def photos(folder, *names, size=(4, 6)):
    for name in names:
        save(folder / name, np.full((*size, 3), 90))


def pairs(root, *masks, **options):
    """images/0.jpg + masks/0.png, ...; each mask is an array, or values to fill one with."""
    for index, mask in enumerate(masks):
        mask = np.resize(np.asarray(mask), (4, 6)) if np.ndim(mask) < 2 else mask
        photos(root / "images", f"{index}.jpg")
        save(root / "masks" / f"{index}.png", mask, **options)
    return root


def test_photos_alone_are_found_in_every_folder(tmp_path):
    photos(tmp_path, "b.jpg", "a.PNG", "deep/er/c.webp")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "d.heic").touch()
    dataset = image_folder(tmp_path, ANYTHING)
    assert dataset.keys == ("a.PNG", "b.jpg", "deep/er/c.webp")
    assert not dataset.has_masks
    assert dataset.labels is None
    assert dataset.image(2).shape == (4, 6, 3)
    assert dataset.path(0) == tmp_path / "a.PNG"
    assert "left out: 1 .txt" in dataset.summary
    assert any("photos that cannot be read: 1 .heic (HEIC is not supported: `pip" in line for line in dataset.summary)
    with pytest.raises(DataError, match=r"a\.PNG .*has no mask"):
        dataset.mask(0)


def test_runs_that_lie_among_the_photos_are_no_part_of_them(tmp_path, caplog):
    caplog.set_level("INFO")
    photos(tmp_path, "a.jpg", "b.jpg", "mine/c.jpg")
    (tmp_path / "mine" / "environment.json").write_text('{"light": "sun"}')  # somebody else's
    before = image_folder(tmp_path, ANYTHING)
    run = claim(tmp_path / "runs", "pretrain", "here")
    record_facts(run, kind="pretrain")
    photos(run.folder, "curves.png", "deep/features.png")
    assert image_folder(tmp_path, ANYTHING).keys == before.keys == ("a.jpg", "b.jpg", "mine/c.jpg")
    assert "left out: 2 pictures in runs of this tool" in caplog.text
    assert image_folder(run.folder, ANYTHING).keys == ("curves.png", "deep/features.png")  # asked for


@pytest.mark.parametrize(("bands", "dtype"), [(13, np.uint16), (4, np.uint8)])
def test_pictures_that_are_no_photos_keep_their_bands(tmp_path, bands, dtype):
    root = pairs(tmp_path, [0, 1], [1, 0])
    pictures = np.random.default_rng(0).integers(0, 250, (3, 4, 6, bands)).astype(dtype)
    for number, picture in enumerate(pictures):
        (root / "images" / f"{number}.jpg").unlink(missing_ok=True)
        (root / "images" / f"{number}.tif").write_bytes(tiff(picture[:, :, : bands - 1] if number == 2 else picture))
    dataset = image_folder(root, ANYTHING)
    assert dataset.bands == tuple(f"band{number}" for number in range(1, bands + 1))
    assert (dataset.dtype, dataset.full_scale) == (dtype, np.iinfo(dtype).max)
    np.testing.assert_array_equal(dataset.image(1), pictures[1])
    assert dataset.mask(0).max() == 1
    bits = np.iinfo(dtype).bits
    assert f"pictures of {bands} bands of {bits} bits, as 0.tif is: all bands are learned from" in dataset.summary
    with pytest.raises(
        ImageError, match=rf"2\.tif: {bands - 1} bands of {bits} bits, but those of 0\.tif are {bands} "
    ):
        dataset.image(2)


@pytest.mark.parametrize("other", [b"", b"II*\0 cut short", "photo"])
def test_what_most_pictures_of_a_folder_are_decides(tmp_path, other):
    for number in range(1, 4):
        (tmp_path / f"{number}.tif").write_bytes(tiff(np.full((4, 6, 5), number, np.uint8)))
    if other == "photo":
        photos(tmp_path, "0.jpg")
    else:
        (tmp_path / "0.tif").write_bytes(other)
    dataset = image_folder(tmp_path, ANYTHING)
    assert len(dataset.bands) == 5
    assert dataset.image(2).max() == 2
    with pytest.raises(ImageError, match=r"0\.(tif|jpg)"):
        dataset.image(0)
    photos(tmp_path, *(f"more{number}.jpg" for number in range(4)))
    assert image_folder(tmp_path, ANYTHING).bands == ("red", "green", "blue")


def test_bands_of_whole_numbers_of_32_bits_are_refused_before_they_are_read(tmp_path):
    (tmp_path / "0.tif").write_bytes(tiff(np.zeros((4, 6, 5), np.uint32)))
    with pytest.raises(DataError, match=r"0\.tif has 5 bands of 32 bits, which are not read: save them with 8 or 16"):
        image_folder(tmp_path, ANYTHING)


@pytest.mark.parametrize("top", ["", "wrapped/twice/"])
def test_one_folder_a_class_gives_labels(tmp_path, top):
    photos(tmp_path, f"{top}cat/1.jpg", f"{top}cat/2.jpg", f"{top}dog/1.jpg")
    dataset = image_folder(tmp_path, ANYTHING)
    assert dataset.label_names == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 1]
    assert dataset.labels.dtype == np.int64


def test_folders_of_splits_are_splits_not_classes(tmp_path):
    photos(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "test/dog/3.jpg")
    dataset = image_folder(tmp_path, ANYTHING)
    assert dataset.official == {"test": (0,), "train": (1, 2), "validation": (3,)}
    assert [dataset.label_names[label] for label in dataset.labels] == ["dog", "cat", "dog", "cat"]


@pytest.mark.parametrize("name", ["empty", "text", "images"])
def test_a_folder_without_photos_is_refused(tmp_path, name):
    root = tmp_path / name
    root.mkdir()
    if name == "text":
        (root / "a.txt").touch()
    if name == "images":
        (root / "images").mkdir()
        photos(root / "masks", "a.png")
    with pytest.raises(DataError, match=r"holds no photos"):
        image_folder(root, ANYTHING)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255], {0: 0, 255: 1}),
        ([0, 1], {0: 0, 1: 1}),
        ([0, 1, 255], {0: 0, 1: 1, 255: 255}),
    ],
)
@pytest.mark.parametrize("palette", [False, True])
def test_two_classes_in_any_notation_are_background_and_foreground(tmp_path, values, expected, palette):
    dataset = image_folder(pairs(tmp_path, values, values, palette=palette), ANYTHING)
    assert dataset.classes == ("background", "foreground")
    assert len(dataset.colours) == 2
    stored = np.resize(values, (4, 6))
    np.testing.assert_array_equal(dataset.mask(1), np.vectorize(expected.get)(stored))
    assert dataset.mask(1).dtype == np.uint8


def test_an_empty_mask_among_others_is_just_background(tmp_path):
    dataset = image_folder(pairs(tmp_path, [0, 255], [0]), ANYTHING)
    assert not dataset.mask(1).any()


def test_grey_masks_saved_as_rgb_are_grey(tmp_path):
    grey = np.resize([0, 255], (4, 6))
    dataset = image_folder(pairs(tmp_path, np.dstack([grey] * 3), [0, 255]), ANYTHING)
    np.testing.assert_array_equal(dataset.mask(0), grey // 255)


def test_class_ids_keep_their_number_and_255_is_ignored(tmp_path):
    dataset = image_folder(pairs(tmp_path, [0, 1, 255], [2, 3], [0, 4], palette=True), ANYTHING)
    assert len(dataset.classes) == len(dataset.colours) == len(set(dataset.colours)) == 5
    assert set(np.unique(dataset.mask(0))) == {0, 1, 255}
    assert dataset.mask(1).max() == 3


def test_a_classes_file_names_class_ids(tmp_path):
    file = tmp_path / "classes.yaml"
    file.write_text("- sky\n- road\n- car\n- bus\n")
    dataset = image_folder(
        pairs(tmp_path / "set", [0, 1, 255], [0, 3]), DatasetOptions(classes=read_classes(str(file)))
    )
    assert dataset.classes == ("sky", "road", "car", "bus")  # 2 occurs in no mask: the file says there is such a class
    assert dataset.mask(1).max() == 3


def test_colours_become_class_ids(tmp_path):
    file = tmp_path / "classes.yaml"
    file.write_text("sky: [0, 0, 255]\nroad: '#804080'\nignore: [255, 255, 255]\n")
    mask = np.zeros((4, 6, 3), np.uint8)
    mask[:] = 0, 0, 255
    mask[1] = 128, 64, 128
    mask[2] = 255
    dataset = image_folder(pairs(tmp_path / "set", mask), DatasetOptions(classes=read_classes(str(file))))
    assert dataset.colours == ((0, 0, 255), (128, 64, 128))
    assert dataset.mask(0)[:, 0].tolist() == [0, 1, 255, 0]


def test_colours_without_a_classes_file_or_beyond_it_are_refused(tmp_path):
    mask = np.zeros((4, 6, 3), np.uint8)
    mask[0] = 9, 8, 7
    root = pairs(tmp_path / "set", mask)
    with pytest.raises(DataError, match=r"0\.png is an RGB mask .*\[9, 8, 7\].*--classes-file"):
        image_folder(root, ANYTHING)
    file = tmp_path / "classes.yaml"
    file.write_text("sky: [0, 0, 0]\nroad: [1, 1, 1]\n")
    with pytest.raises(DataError, match=r"0\.png has colours .*\[9, 8, 7\]"):
        image_folder(root, DatasetOptions(classes=read_classes(str(file))))


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ([[0, 255], [0, 255], [0, 7, 255]], r"2\.png has values 0, 7, 255 where 2 of 3 masks hold 0 and 255"),
        ([[0, 7]], r"0\.png has values 0, 7 but 1, 2, 3, 4, 5, 6 occur in no mask"),
        ([[0, 1], [1, 2, 3], [3, 9]], r"2\.png has values 3, 9 but 4, 5, 6, 7, 8 occur"),
        ([[0], [0]], "the masks hold 0 only"),
        ([np.arange(24)[None].repeat(3, 0).reshape(3, 24)], r"24 x 3 pixels but its photo 0\.jpg is 6 x 4"),
        ([np.zeros((6, 4))], r"4 x 6 pixels but its photo 0\.jpg is 6 x 4"),
    ],
)
def test_masks_that_do_not_fit_are_named_with_their_values(tmp_path, masks, reason):
    root = pairs(tmp_path, *masks)
    with pytest.raises(DataError, match=reason) as caught:
        image_folder(root, ANYTHING)
    assert "\n" not in str(caught.value)


def test_soft_masks_are_not_taken_for_classes(tmp_path):
    values = np.arange(100).reshape(10, 10)
    photos(tmp_path / "images", "0.jpg", size=(10, 10))
    save(tmp_path / "masks" / "0.png", values)
    with pytest.raises(DataError, match=r"100 values.*make soft masks 0/255"):
        image_folder(tmp_path, ANYTHING)


def test_jpeg_masks_get_the_advice_that_helps(tmp_path):
    photos(tmp_path / "images", "0.jpg", size=(16, 16))
    mask = np.zeros((16, 16))
    mask[3:9, 2:13] = 255
    save(tmp_path / "masks" / "0.jpg", mask, quality=60)
    with pytest.raises(DataError, match="save masks as PNG"):
        image_folder(tmp_path, ANYTHING)


def test_an_id_beyond_the_classes_file_is_refused(tmp_path):
    file = tmp_path / "classes.yaml"
    file.write_text("- sky\n- road\n")
    with pytest.raises(DataError, match=r"1\.png has values 2 but there are 2 classes"):
        image_folder(pairs(tmp_path / "set", [0, 1], [0, 2]), DatasetOptions(classes=read_classes(str(file))))


def test_photos_without_a_mask_are_kept(tmp_path):
    pairs(tmp_path, [0, 255])
    photos(tmp_path / "images", "lonely.jpg")
    dataset = image_folder(tmp_path, ANYTHING)
    assert [dataset.has_mask(index) for index in range(2)] == [True, False]
    assert "photos without a mask: 1 (lonely.jpg)" in dataset.summary


def test_what_is_no_file_is_left_out_with_its_mask_and_the_rest_goes_on(tmp_path, caplog):
    pairs(tmp_path, [0, 255], [0, 255])
    put_no_files(tmp_path / "images")
    (tmp_path / "images" / "away").symlink_to("/nowhere")
    for name in ("pipe", "gone_mask", "away/3"):
        save(tmp_path / "masks" / f"{name}.png", np.zeros((4, 6)))
    (tmp_path / "masks" / "1.png").unlink()
    (tmp_path / "masks" / "1.png").symlink_to("gone.png")
    dataset = image_folder(tmp_path, ANYTHING)
    assert dataset.keys == ("images/0.jpg", "images/1.jpg")
    assert [dataset.has_mask(index) for index in range(2)] == [True, False]
    assert [message.split("; ")[0] for message in caplog.messages] == [f"{tmp_path}: unreadable and left out: 7"]


def test_a_folder_of_nothing_but_links_to_nothing_is_refused(tmp_path):
    put_no_files(tmp_path)
    with pytest.raises(DataError, match=r"holds no photos \(no readable file\)"):
        image_folder(tmp_path, ANYTHING)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("masks", r"masks is no folder \(it is a link to nothing\)"),
        ("test.txt", r"test\.txt cannot be read as a list of photos \(it is a link to nothing\)"),
    ],
)
def test_masks_and_lists_that_have_gone_are_not_done_without(tmp_path, name, reason):
    photos(tmp_path, "images/a.jpg")
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(DataError, match=reason):
        image_folder(tmp_path, ANYTHING)


def test_masks_without_a_photo_are_an_error_that_names_them(tmp_path):
    pairs(tmp_path, [0, 255])
    save(tmp_path / "masks" / "stray.png", np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"masks without a photo .*: 1 of 2, masks/stray\.png"):
        image_folder(tmp_path, ANYTHING)


def test_a_mask_of_two_photos_is_left_out_and_two_masks_of_a_photo_are_refused(tmp_path):
    root = pairs(tmp_path / "one", [0, 1], [1, 0])
    photos(root / "images", "a.jpg", "a.png")
    save(root / "masks" / "a.png", np.zeros((4, 6)))
    dataset = image_folder(root, ANYTHING)
    assert [dataset.has_mask(index) for index in range(4)] == [True, True, False, False]
    assert "masks that fit several photos, and are left out: 1 (a.png)" in dataset.summary
    photos(tmp_path / "two" / "images", "a.jpg")
    save(tmp_path / "two" / "masks" / "a.png", np.zeros((4, 6)))
    save(tmp_path / "two" / "masks" / "a_mask.png", np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"two masks, a\.png and a_mask\.png"):
        image_folder(tmp_path / "two", ANYTHING)


def test_a_mask_fits_its_photo_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "images" / "a.jpg", np.zeros((4, 6, 3)), exif=exif.tobytes())
    save(tmp_path / "masks" / "a.png", np.resize([0, 255], (6, 4)))
    dataset = image_folder(tmp_path, ANYTHING)
    assert dataset.image(0).shape[:2] == dataset.mask(0).shape == (6, 4)
    save(tmp_path / "masks" / "a.png", np.resize([0, 255], (4, 6)))
    dataset = image_folder(tmp_path, ANYTHING)
    assert any("1 photos carry an EXIF orientation: their masks are read as drawn" in line for line in dataset.summary)
    assert dataset.mask(0).tolist() == np.rot90(np.resize([0, 1], (4, 6)), -1).tolist()


def test_pretraining_leaves_masks_unread(tmp_path):
    pairs(tmp_path, [0, 7], [1, 9])
    dataset = image_folder(tmp_path, DatasetOptions(masks=False))
    assert len(dataset) == 2
    assert not dataset.has_masks


def test_a_broken_mask_is_named(tmp_path):
    pairs(tmp_path, [0, 255])
    (tmp_path / "masks" / "0.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"0\.png"):
        image_folder(tmp_path, ANYTHING)


def test_lists_beside_the_photos_are_the_official_split(tmp_path):
    pairs(tmp_path, [0, 255], [0, 255], [0, 255], [0, 255], [0, 255])
    (tmp_path / "train.txt").write_text("\ufeff0\r\n1.jpg\r\n\r\n# a comment\r\n", encoding="utf-8")
    (tmp_path / "val.txt").write_text("images/2.jpg\n")
    (tmp_path / "test.txt").write_text("3 1 1 1\n")
    dataset = image_folder(tmp_path, ANYTHING)
    assert dataset.official == {"train": (0, 1), "validation": (2,), "test": (3,)}
    assert "photos in no list: 1" in dataset.summary


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ({"train": "0\nnobody\n"}, r"train\.txt names photos that are not there: nobody"),
        ({"train": "0\n1\n", "test": "1\n"}, r"1\.jpg in the lists of both train and test"),
        ({"val": "0\n", "valid": "1\n"}, "two lists for validation"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, lists, reason):
    photos(tmp_path, "0.jpg", "1.jpg")
    for name, text in lists.items():
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(DataError, match=reason):
        image_folder(tmp_path, ANYTHING)


def test_masks_without_photos_need_some(tmp_path):
    photos(tmp_path, "b.jpg", "masks/a.png")
    with pytest.raises(DataError, match="put the photos into images/"):
        image_folder(tmp_path, ANYTHING)


def test_a_classes_file_without_masks_is_refused(tmp_path):
    photos(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="leave --classes-file out"):
        image_folder(tmp_path, DatasetOptions(classes=numbered_classes(2)))


def test_other_folders_beside_images_are_named_as_left_out(tmp_path):
    photos(tmp_path, "images/a.jpg", "previews/a.png")
    dataset = image_folder(tmp_path, ANYTHING)
    assert dataset.keys == ("images/a.jpg",)
    assert "left out: pictures that are neither photos nor their masks: 1 in previews/" in dataset.summary


def test_voc_masks_are_understood_as_they_are(real_data, tmp_path):
    voc = real_data / "voc" / "VOCdevkit" / "VOC2012"
    (tmp_path / "images").symlink_to(voc / "JPEGImages")
    (tmp_path / "masks").symlink_to(voc / "SegmentationClass")
    dataset = image_folder(tmp_path, ANYTHING)
    assert len(dataset) == 240
    assert len(dataset.classes) == 21
    assert dataset.colours[15] == (192, 128, 128)  # a person, in VOC's own palette
    assert set(np.unique(dataset.mask(0))) <= {*range(21), 255}
