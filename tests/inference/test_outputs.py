"""What is written of a picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.images.decode import read_picture
from simclrseg.images.matting import cut_out
from simclrseg.inference import OUTPUTS
from simclrseg.inference.outputs import Strip, Subject, class_colours
from simclrseg.inference.tiling import to_mask
from simclrseg.metadata import ModelMetadata
from tests.folders import write
from tests.labels.run_lengths import decoded

BINARY = ModelMetadata(
    task="segmentation", encoder="resnet18", image_size=16, classes=("background", "cat"), threshold=0.5
)
EACH = BINARY.model_copy(update={"threshold": None})  # two classes with a probability each, as `ce` trains them
THREE = BINARY.model_copy(update={"classes": ("background", "cat", "dog"), "threshold": None})
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 20, 3)).astype(np.uint8)
SCENES = {
    "two": (BINARY, RNG.random((12, 20), np.float32)),
    "each": (EACH, RNG.dirichlet([1, 1], (12, 20)).transpose(2, 0, 1).astype(np.float32)),
    "three": (THREE, RNG.dirichlet([1, 1, 1], (12, 20)).transpose(2, 0, 1).astype(np.float32)),
}


def written(kind: str, scene: str, *, rows: int = 5) -> tuple[bytes, np.ndarray]:
    """The file, and the mask that was written."""
    metadata, probability = SCENES[scene]
    mask = to_mask(probability, metadata.threshold)
    file = io.BytesIO()
    output = OUTPUTS[kind](file, Subject("a.jpg", mask.shape, metadata))
    for top in range(0, 12, rows):
        below = slice(top, top + rows)
        output.add(Strip(top, IMAGE[below], probability[..., below, :], mask[below]))
    output.end()
    return file.getvalue(), mask


def picture(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened)


@pytest.mark.parametrize("kind", list(OUTPUTS))
@pytest.mark.parametrize("scene", list(SCENES))
def test_the_strips_do_not_matter(kind, scene):
    in_pieces, whole = (written(kind, scene, rows=rows)[0] for rows in (5, 12))
    if whole.startswith(b"\x89PNG"):
        np.testing.assert_array_equal(picture(in_pieces), picture(whole))
    else:
        assert in_pieces == whole


@pytest.mark.parametrize("scene", ["two", "each"])
def test_a_mask_is_0_and_255_for_two_classes_and_ids_for_more(scene):
    content, mask = written("mask", scene)
    np.testing.assert_array_equal(picture(content), 255 * mask)
    content, mask = written("mask", "three")
    np.testing.assert_array_equal(picture(content), mask)


def test_an_indexed_mask_has_ids_and_the_colours_of_pascal_voc():
    content, mask = written("indexed", "three")
    with Image.open(io.BytesIO(content)) as opened:
        np.testing.assert_array_equal(np.asarray(opened), mask)
        assert opened.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_the_colours_are_the_models_own_where_it_has_some():
    own = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert class_colours(THREE.model_copy(update={"colours": own})) == list(own)
    assert class_colours(THREE.model_copy(update={"classes": tuple("abcdefghijk")}))[10] == (64, 128, 0)


def test_an_overlay_is_half_colour_and_the_photo_itself_where_the_first_class_is():
    content, mask = written("overlay", "three")
    shown = picture(content).astype(int)
    np.testing.assert_array_equal(shown[mask == 0], IMAGE[mask == 0])
    for label, colour in [(1, (128, 0, 0)), (2, (0, 128, 0))]:
        assert np.abs(shown[mask == label] - (IMAGE[mask == label] + np.array(colour)) / 2).max() <= 1


@pytest.mark.parametrize("scene", ["two", "each", "three"])
def test_a_cutout_is_cut_where_the_mask_ends_with_a_soft_edge(scene):
    content, mask = written("cutout", scene)
    probability = SCENES[scene][1]
    share = probability if scene == "two" else (others := probability[1:].max(0)) / (others + probability[0])
    likely = (255 * share + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(likely > 127, mask > 0)
    whole = cut_out(lambda start, stop: IMAGE[start:stop], likely, 1.0)
    np.testing.assert_array_equal(picture(content), np.concatenate(list(whole)))


def test_a_cutout_follows_the_threshold():
    file, wide = io.BytesIO(), (64, 96)
    probability = np.repeat(np.linspace(0, 1, wide[1], dtype=np.float32)[None], wide[0], axis=0)
    output = OUTPUTS["cutout"](file, Subject("a.jpg", wide, BINARY, threshold=0.25))
    output.add(Strip(0, np.full((*wide, 3), 90, np.uint8), probability, to_mask(probability, 0.25)))
    output.end()
    alpha = picture(file.getvalue())[:, :, 3]
    assert alpha[30, 18] == 0 and alpha[30, 30] == 255  # the edge is at a quarter of the width


@pytest.mark.parametrize("scene", ["two", "each"])
def test_the_probability_of_two_classes_is_that_of_the_foreground_in_sixteen_bits(scene):
    shown = picture(written("probability", scene)[0])
    foreground = SCENES[scene][1] if scene == "two" else SCENES[scene][1][1]
    assert shown.dtype == np.uint16
    np.testing.assert_allclose(shown / 65535, foreground, atol=0.6 / 65535)


def test_probabilities_of_several_classes_are_an_array():
    content, _ = written("probability", "three")
    assert OUTPUTS["probability"].ending(THREE) == ".npy"
    maps = np.load(io.BytesIO(content))
    np.testing.assert_allclose(maps / 65535, SCENES["three"][1], atol=0.6 / 65535)


@pytest.mark.parametrize(("scene", "labels"), [("two", [1]), ("each", [1]), ("three", [0, 1, 2])])
def test_json_holds_each_class_with_its_run_lengths(scene, labels):
    content, mask = written("json", scene)
    found = json.loads(content)
    assert (found["image"], found["height"], found["width"]) == ("a.jpg", 12, 20)
    assert [one["category_id"] for one in found["annotations"]] == labels
    for one in found["annotations"]:
        where = mask == one["category_id"]
        np.testing.assert_array_equal(decoded(one["segmentation"]["counts"], (12, 20)), where)
        assert one["area"] == where.sum()
        rows, columns = np.nonzero(where)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert one["bbox"] == box and one["category"] == SCENES[scene][0].classes[one["category_id"]]


@pytest.mark.parametrize("scene", ["two", "each", "three"])
def test_uncertainty_is_what_the_likeliest_class_lacks_from_black_to_white(scene):
    shown = picture(written("uncertainty", scene)[0])
    probability = SCENES[scene][1]
    each = np.stack([1 - probability, probability]) if scene == "two" else probability
    assert shown.dtype == np.uint16
    np.testing.assert_allclose(shown / 65535, (1 - each.max(axis=0)) * len(each) / (len(each) - 1), atol=0.6 / 65535)


def blobs(count: int, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    """(C, H, W) probabilities of classes that lie in blobs with holes."""
    noise = np.random.default_rng(count).random((count, *size), np.float32)
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), 5) for one in noise])
    return smooth / smooth.sum(axis=0)


def objects(kind: str, folder: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, Dataset]:
    """The mask of an image, and the set that its objects are read as, from the files of an output."""
    metadata = BINARY.model_copy(update={"classes": classes, "threshold": None})
    probability = blobs(len(classes))
    mask = to_mask(probability, None)
    write(folder / "a.png", np.zeros((*mask.shape, 3), np.uint8))
    output = OUTPUTS[kind]
    target = folder / (output.joint or f"a{output.ending(metadata)}")
    file = io.BytesIO()
    writer = output(file, Subject("a.png", mask.shape, metadata, folder / "a.png", target))
    writer.add(Strip(0, np.zeros((*mask.shape, 3), np.uint8), probability, mask))
    writer.end()
    target.write_text(output.joined([file.getvalue()], metadata) if output.joint else file.getvalue().decode())
    if index := output.index(metadata):
        (folder / index[0]).write_text(index[1])
    return mask, open_dataset(str(folder))


@pytest.mark.parametrize("kind", ["coco", "yolo", "labelme"])
@pytest.mark.parametrize("classes", [("background", "cat"), ("background", "cat", "dog", "emu")])
def test_objects_come_back_as_the_same_mask_but_for_pixels_on_the_edge(tmp_path, kind, classes):
    mask, dataset = objects(kind, tmp_path, classes)
    assert dataset.classes == classes and dataset.keys == ("a.png",)
    again = dataset.mask(0)
    low, high = cv2.erode(mask, np.ones((3, 3))), cv2.dilate(mask, np.ones((3, 3)))
    inside = low == high  # where all neighbours are of one class
    assert inside.mean() > 0.5 and (again[inside] == mask[inside]).all() and (again != mask).mean() < 0.02


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_coco_is_read_by_pycocotools_and_each_hole_is_kept(tmp_path):
    mask, _ = objects("coco", tmp_path, ("background", "cat", "dog"))
    theirs = COCO(tmp_path / "annotations.coco.json")
    assert theirs.loadImgs([1])[0]["file_name"] == "a.png"
    assert [category["name"] for category in theirs.loadCats([1, 2])] == ["cat", "dog"]
    found = theirs.loadAnns(theirs.getAnnIds([1]))
    edge = cv2.dilate(mask, np.ones((3, 3))) != cv2.erode(mask, np.ones((3, 3)))
    for label in (1, 2):
        count, parts, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=8)
        own = [one for one in found if one["category_id"] == label]
        assert len(own) == count - 1
        union = np.any([theirs.annToMask(one) for one in own], axis=0)
        assert not ((union != (mask == label)) & ~edge).any()
        holed = [one for one in own if isinstance(one["segmentation"], dict)]
        for one in holed:  # run lengths, which say exactly what the part is
            part = parts[np.nonzero(theirs.annToMask(one))]
            assert len(set(part.tolist())) == 1 and one["area"] == stats[part[0], cv2.CC_STAT_AREA] == len(part)
        boxes = [one["bbox"] for one in own]
        sizes = [stats[number, : cv2.CC_STAT_AREA].tolist() for number in range(1, count)]
        assert np.abs(np.array(sorted(boxes)) - np.array(sorted(sizes))).max() <= 1
    assert [one["id"] for one in found] == list(range(1, len(found) + 1))
    assert {type(one["segmentation"]) for one in found} == {list, dict}


def test_the_first_class_is_the_background_of_objects():
    for kind in ("coco", "yolo", "labelme"):
        content, mask = written(kind, "three")
        assert (mask == 0).any() and b"background" not in content and b'"category_id": 0' not in content
    labels = {line.split()[0] for line in written("yolo", "three")[0].decode().splitlines()}
    assert labels == {"0", "1"} and OUTPUTS["yolo"].index(THREE) == ("classes.txt", "cat\ndog\n")


def test_a_cutout_of_a_transparent_picture_has_its_own_colours_and_no_more_of_it_than_it_shows(tmp_path):
    shown = np.zeros((40, 50, 4), np.uint8)
    shown[:, :, :3], shown[:, :, 3] = (200, 100, 40), 255
    shown[5:15, 5:15, 3], shown[20:30, 5:15, 3] = 0, 128
    Image.fromarray(shown).save(tmp_path / "a.png")
    Image.fromarray(shown.astype(np.uint16)[:, :, 0] * 257).save(tmp_path / "deep.png")
    opened = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(opened.opacity, shown[:, :, 3])
    assert read_picture(tmp_path / "deep.png").opacity is None
    cut = np.asarray([255, 255, 255, 255, 0], np.uint8)[np.minimum(np.arange(50) // 10, 4)]
    likely = np.repeat(cut[None] / np.float32(255), 40, axis=0)
    file = io.BytesIO()
    output = OUTPUTS["cutout"](file, Subject("a.png", (40, 50), BINARY, threshold=0.5))
    for rows in (slice(0, 17), slice(17, 40)):
        seen = opened.opacity[rows]
        output.add(Strip(rows.start, opened.pixels[rows], likely[rows], to_mask(likely[rows], 0.5), None, seen))
    output.end()
    found = picture(file.getvalue())
    np.testing.assert_array_equal(found[:, :30, 3], shown[:, :30, 3])  # the mask ends at 40
    assert found[:, 45:, 3].max() == 0
    assert np.abs(found[:, :30, :3].astype(int) - (200, 100, 40))[shown[:, :30, 3] > 0].max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "16"])
def test_the_opacity_of_a_picture_is_upright_and_none_where_it_is_opaque_or_hidden(tmp_path, mode):
    alpha = np.full((6, 9), 255, np.uint8)
    alpha[0, 0], alpha[2:4, 3:6] = 0, 128 if mode != "P" else 0
    colours = np.full((6, 9, 3), 90, np.uint8)
    if mode == "16":
        cv2.imwrite(str(tmp_path / "a.png"), np.dstack([colours, alpha]).astype(np.uint16) * 257)
    else:
        held = Image.fromarray(np.dstack([colours, alpha]))
        options = {}
        if mode == "P":
            held, options = Image.fromarray(np.where(alpha, 1, 0).astype(np.uint8), "P"), {"transparency": 0}
            held.putpalette([0, 0, 0, 90, 90, 90])
        exif = Image.Exif()
        exif[274] = 6
        (held if mode == "P" else held.convert(mode)).save(tmp_path / "a.png", exif=exif, **options)
    found = read_picture(tmp_path / "a.png").opacity
    np.testing.assert_array_equal(found, alpha if mode == "16" else np.rot90(alpha, -1))
    Image.fromarray(np.dstack([colours, alpha * 0])).save(tmp_path / "b.png")
    Image.fromarray(np.dstack([colours, alpha * 0 + 255])).save(tmp_path / "c.png")
    assert read_picture(tmp_path / "b.png").opacity is None and read_picture(tmp_path / "c.png").opacity is None
