"""Predictions as drafts for labelling tools, from the photos and back to a set of labels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from simclrseg.cli.app import main
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import UsageError
from tests.commands.test_predict import read, run, save


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two photos, one in a folder of its own, and a black one."""
    save(tmp_path / "photos" / "a.png")
    save(tmp_path / "photos" / "more" / "b.jpg", 40, 64)
    Image.new("RGB", (20, 30)).save(tmp_path / "photos" / "c.png")
    return tmp_path / "photos"


def masks(model: Path, photos: Path) -> list[np.ndarray]:
    rows = run(model, [photos], photos.parent / "masks").done
    return [(read(row["mask"]) > 0).astype(np.uint8) for row in rows]


@pytest.mark.parametrize(("kind", "left"), [("coco", ["annotations.coco.json"]), ("yolo", ["a.txt", "classes.txt"])])
def test_drafts_beside_the_photos_are_labels_of_them(make_model, photos, kind, left):
    result = run(make_model(), [photos], outputs=[kind])
    assert all((photos / name).is_file() for name in left)
    dataset = open_dataset(str(photos))
    assert dataset.keys == ("a.png", "c.png", "more/b.jpg") and dataset.classes == ("background", "cat")
    for index, mask in enumerate(masks(make_model(), photos)):
        assert (dataset.mask(index) == mask).all()
    assert dataset.mask(0).any() and not dataset.mask(1).any()
    assert [row["image"] for row in result.done] == [str(photos / key) for key in dataset.keys]


@pytest.mark.parametrize("drafts", ["photos", "drafts"])
def test_labelme_finds_the_photo_of_a_draft_and_the_draft_of_a_photo(make_model, photos, drafts):
    folder = photos.parent / drafts
    run(make_model(), [photos], None if drafts == "photos" else folder, outputs=["labelme"])
    for file, image in [("a.json", "a.png"), ("c.json", "c.png"), ("more/b.json", "more/b.jpg")]:
        content = json.loads((folder / file).read_text())
        assert ((folder / file).parent / content["imagePath"]).resolve() == (photos / image).resolve()
        assert (content["imageHeight"], content["imageWidth"]) == read(photos / image).shape[:2]
    dataset = open_dataset(str(folder if drafts == "photos" else photos.parent))
    assert len(dataset) == 3 and all(dataset.has_mask(index) for index in range(3))
    by_name = dict(zip([Path(key).name for key in dataset.keys], range(3), strict=True))
    for name, mask in zip(["a.png", "c.png", "b.jpg"], masks(make_model(), photos), strict=True):
        assert (dataset.mask(by_name[name]) == mask).all()


def test_a_coco_file_holds_all_photos_wherever_it_lies_in_one_order(make_model, photos, capsys):
    named, folder = photos.parent / "out" / "x.json", photos.parent / "drafts"
    assert {row["coco"] for row in run(make_model(), [photos], named, outputs=["coco"]).done} == {str(named)}
    run(make_model(), [photos], folder, outputs=["coco", "mask"], hardware={"workers": 1})
    capsys.readouterr()
    run(make_model(), [photos], "-", outputs=["coco"])
    texts = {capsys.readouterr().out, named.read_text(), (folder / "annotations.coco.json").read_text()}
    content = json.loads(texts.pop())
    assert not texts and (folder / "a.mask.png").is_file()
    names = [(image["id"], image["file_name"], image["height"], image["width"]) for image in content["images"]]
    assert names == [(1, "a.png", 30, 50), (2, "c.png", 30, 20), (3, "more/b.jpg", 40, 64)]
    assert [one["image_id"] for one in content["annotations"]] == [1, 3]


def test_the_file_of_all_photos_is_printed_once(make_model, photos, capsys):
    words = ["predict", str(photos), "--as", "coco", "--as", "mask", "--model", str(make_model()), "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert sorted(names) == ["a.mask.png", "annotations.coco.json", "b.mask.png", "c.mask.png"]


def test_what_exists_is_replaced_when_that_is_asked_for_alone(make_model, photos):
    run(make_model(), [photos], outputs=["coco"])
    with pytest.raises(UsageError, match=r"annotations\.coco\.json exists: nothing is replaced without --overwrite"):
        run(make_model(), [photos], outputs=["coco"])
    result = run(make_model(), [photos], outputs=["coco"], skip_existing=True)
    assert len(result.skipped) == 3 and not result.done
    assert len(run(make_model(), [photos], outputs=["coco"], overwrite=True).done) == 3
    for names in (b"dog\n", b"K\xe4fer\n"):  # in whatever encoding
        (photos / "classes.txt").write_bytes(names)
        with pytest.raises(UsageError, match=r"classes\.txt exists and holds other names than the model: pass --over"):
            run(make_model(), [photos], outputs=["yolo"])
    assert not list(photos.rglob("a.txt"))
    run(make_model(), [photos], outputs=["yolo"], overwrite=True)
    assert (photos / "classes.txt").read_text() == "cat\n"


def test_two_outputs_of_one_name_are_refused(make_model, photos):
    with pytest.raises(UsageError, match=r"--as json and --as labelme would both be written to .*a\.json"):
        run(make_model(), [photos], photos.parent / "out", outputs=["json", "labelme"])
    with pytest.raises(UsageError, match="is one file, but there are several inputs or a folder"):
        run(make_model(), [photos], photos.parent / "x.json", outputs=["coco", "labelme"])
    assert not (photos.parent / "out").exists()


def test_a_photo_that_cannot_be_read_is_in_no_draft(make_model, photos):
    (photos / "b.png").write_text("no photo")
    result = run(make_model(), [photos], outputs=["coco"])
    assert len(result.failed) == 1
    content = json.loads((photos / "annotations.coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "c.png", "more/b.jpg"]


@pytest.mark.parametrize("classes", [2, 3])
def test_json_tells_how_sure_the_model_is_of_each_photo(make_model, tmp_path, capsys, classes):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    given = [str(tmp_path / "a.png"), "-o", str(tmp_path / "m.png"), "--as", "uncertainty"]
    command = ["predict", *given, "--model", str(make_model(classes=classes)), "--device", "cpu", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    (row,) = json.loads(capsys.readouterr().out)["done"]
    bright = pixels / 255
    top = np.maximum(bright.mean(axis=2), 1 - bright.mean(axis=2)) if classes == 2 else bright.max(axis=2)
    assert row["confidence"] == pytest.approx(top.mean(), abs=1e-4)
    drawn = (1 - top) * classes / (classes - 1)
    np.testing.assert_allclose(read(tmp_path / "m.png") / 65535, drawn.clip(0, 1), atol=1e-4)
