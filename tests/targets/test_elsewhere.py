"""Images of another set, on which a model is scored: read as the model was trained, and with its classes by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclrseg.errors import DataError
from simclrseg.evaluation.export_images import images_of_folder
from simclrseg.evaluation.opened import images_of_file
from simclrseg.metadata import IGNORE, ModelMetadata, voc_colours
from simclrseg.targets.base import elsewhere
from simclrseg.targets.knobs import LabelledData
from simclrseg.targets.segment.examination import open_masks
from simclrseg.targets.segment.target import SegmentationTarget
from tests.data.datasets.labels import FLAT, INSIDE, coco, labelme, photos, put, yolo
from tests.folders import write

SQUARE = [[35, 5], [55, 5], [55, 25], [35, 25]]
"""Beside the usual one."""


def model_of(*classes: str) -> ModelMetadata:
    colours = voc_colours(len(classes))
    return ModelMetadata(task="segmentation", encoder="cnn", image_size=32, classes=classes, colours=colours)


def opened(dataset: Path, model: ModelMetadata, **own: object) -> SegmentationTarget:
    target = SegmentationTarget.open(elsewhere(own, str(dataset)), for_training=False, model=model)
    target.check_model(model)
    return target


@pytest.fixture(params=["coco", "yolo", "labelme"])
def drawn(request, tmp_path) -> Path:
    """A dog in a.png, beside a cat; nothing in b.png."""
    photos(tmp_path / "images", "a.png", "b.png")
    second = [value for point in SQUARE for value in point]
    if request.param == "coco":
        objects = [{"category_id": 2, "segmentation": [FLAT]}, {"category_id": 1, "segmentation": [second]}]
        put(tmp_path / "x.json", coco(["a.png", "b.png"], objects, {1: "cat", 2: "dog"}))
    elif request.param == "yolo":
        put(tmp_path / "labels" / "a.txt", yolo(label=1) + yolo(SQUARE, label=0))
        put(tmp_path / "data.yaml", {"train": "images", "names": ["cat", "dog"]})
    else:
        shapes = {"label": "dog"}, {"label": "cat", "points": SQUARE}
        put(tmp_path / "images" / "a.json", labelme("a.png", *shapes))
        put(tmp_path / "images" / "b.json", labelme("b.png"))
    return tmp_path


@pytest.mark.parametrize(
    "rules",
    [
        {"masks": "threshold:128"},
        {"masks": "stored"},
        {"classes_file": '{"background": null, "cat": null, "dog": null}'},
    ],
)
def test_drawn_labels_have_no_use_for_how_masks_were_read(drawn, rules):
    dataset = opened(drawn, model_of("background", "cat", "dog"), **rules).dataset
    assert dataset.classes == ("background", "cat", "dog")
    assert (dataset.mask(0)[INSIDE] == 2).all() and not dataset.mask(1).any()


@pytest.mark.parametrize("ground", ["background", "elsewhere"])
def test_classes_are_the_models_by_name_whatever_their_order(drawn, ground):
    model = model_of(ground, "dog", "bird", "cat")
    dataset = opened(drawn, model).dataset
    assert dataset.classes == model.classes and dataset.colours == model.colours
    assert (dataset.mask(0)[INSIDE] == 1).all() and (dataset.mask(0)[5:25, 35:55] == 3).all()
    assert (np.bincount(dataset.mask(0).ravel(), minlength=4) == [1600, 400, 0, 400]).all()
    line = f"classes of the model, by name: {ground}, dog, bird, cat; of bird nothing is here"
    assert line in dataset.summary


def test_an_export_is_checked_on_masks_of_the_models_classes(drawn):
    model = model_of("background", "dog", "bird", "cat").model_copy(update={"decoder": "unet"})
    found = images_of_folder(str(drawn), model, (40, 60), calibrated=False)
    assert [np.bincount(mask.ravel(), minlength=4).tolist() for mask in found.masks] == [
        [1600, 400, 0, 400],
        [2400, 0, 0, 0],
    ]


def test_a_model_of_chosen_classes_takes_the_others_for_background(drawn):
    model = model_of("background", "dog", "bird")
    dataset = opened(drawn, model, classes=["dog", "bird"]).dataset
    assert dataset.classes == model.classes
    assert (np.bincount(dataset.mask(0).ravel(), minlength=3) == [2000, 400, 0]).all()


def test_a_class_that_the_model_does_not_know_is_refused(drawn):
    with pytest.raises(DataError, match="has the classes background, cat, dog, but the model was trained for"):
        opened(drawn, model_of("background", "cat", "cow"))


@pytest.mark.parametrize("there", [(0, 1), (0, 2), (0, 1, 2)])
def test_of_classes_with_numbers_for_names_some_may_be_in_no_mask_of_another_set(tmp_path, there):
    photos(tmp_path / "images", "a.png", "b.png")
    for name in "ab":
        mask = np.zeros((40, 60), np.uint8)
        for place, number in enumerate(there):
            mask[10 * place : 10 * place + 10] = number
        write(tmp_path / "masks" / f"{name}.png", mask)
    dataset = opened(tmp_path, model_of("class_0", "class_1", "class_2")).dataset
    assert dataset.classes == ("class_0", "class_1", "class_2")
    assert set(np.unique(dataset.mask(0))) == set(there)


def test_masks_in_files_are_still_read_as_the_models_were(tmp_path):
    photos(tmp_path / "images", "a.png", "b.png")
    for name in "ab":
        mask = np.full((40, 60, 3), 90 if name == "a" else 10, np.uint8)
        mask[INSIDE] = 200
        write(tmp_path / "masks" / f"{name}.png", mask)
    dataset = opened(tmp_path, model_of("background", "foreground"), masks="threshold:128").dataset
    assert set(np.unique(dataset.mask(0))) == {0, 1} and (dataset.mask(0)[INSIDE] == 1).all()
    assert IGNORE not in dataset.mask(1)


SOFT = np.arange(40 * 60).reshape(40, 60) % 240
OBJECT = np.zeros((40, 60), np.uint8)
OBJECT[INSIDE] = 255


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (SOFT, "make soft masks 0/255"),
        (OBJECT // 64, "count class ids from 0"),
        (np.dstack([OBJECT, OBJECT * 0, OBJECT]), "save its masks as those are that the model was trained on"),
        (np.dstack([OBJECT * 0] * 3 + [OBJECT]), "save its masks as those are that the model was trained on"),
    ],
    ids=["soft", "gaps", "colours", "hidden"],
)
def test_masks_that_do_not_fit_are_never_helped_by_options_of_training(tmp_path, values, says):
    photos(tmp_path / "images", "a.png", "b.png")
    (tmp_path / "masks").mkdir()
    for name in "ab":
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    model = model_of("background", "foreground")
    with pytest.raises(DataError, match=says) as caught:
        opened(tmp_path, model)
    assert "--masks" not in str(caught.value) and "--classes-file" not in str(caught.value)
    with pytest.raises(DataError, match=r"--masks|--classes-file"):
        open_masks(LabelledData(dataset=str(tmp_path)))


def test_no_line_on_masks_of_another_set_names_an_option_of_training(tmp_path):
    photos(tmp_path / "images", "a.png", "b.png")
    for name in "ab":
        mask = np.full((40, 60), 255, np.uint8)
        mask[:4, :4] = 0
        write(tmp_path / "masks" / f"{name}.png", mask)
    told = "foreground is 99% of the masks: if that is the background, "
    assert told + "pass --masks inverted" in open_masks(LabelledData(dataset=str(tmp_path))).summary
    summary = opened(tmp_path, model_of("background", "foreground")).dataset.summary
    assert told + "turn the masks round" in summary


def test_of_two_folders_of_masks_in_another_set_none_is_taken(tmp_path):
    photos(tmp_path / "images", "a.png", "b.png")
    for folder in ("mask", "1st_manual"):
        for name in "ab":
            write(tmp_path / folder / f"{name}.png", OBJECT)
    model = model_of("background", "foreground")
    with pytest.raises(DataError, match=r"has 2 folders that fit its photos as masks.*: move the others away or put"):
        opened(tmp_path, model)
    own = model.model_copy(update={"data": {"dataset": str(tmp_path)}})
    assert (opened(tmp_path, own).dataset.mask(0)[INSIDE] == 1).all()


def test_a_models_own_set_is_told_by_its_place_wherever_its_run_was_begun(tmp_path, monkeypatch):
    set_of_photos, run, here = (tmp_path / name for name in ("photos", "run", "here"))
    photos(set_of_photos / "images", "a.png", "b.png")
    for folder in ("mask", "1st_manual"):
        for name in "ab":
            write(set_of_photos / folder / f"{name}.png", OBJECT)
    put(run / "environment.json", {"folder": str(tmp_path)})
    here.mkdir()
    monkeypatch.chdir(here)
    model = model_of("background", "foreground").model_copy(update={"data": {"dataset": "photos"}})
    with pytest.raises(DataError, match="has 2 folders that fit its photos as masks"):
        images_of_file(here / "model.onnx", model, str(set_of_photos))
    own = images_of_file(run / "model.onnx", model, str(set_of_photos))
    assert (own.dataset.mask(0)[INSIDE] == 1).all()


def permuted(folder: Path, file: str, text: str) -> Path:
    """Masks of 1 and 2 in two halves, and a file that names them."""
    photos(folder / "images", "a.png", "b.png")
    for name in "ab":
        mask = np.zeros((40, 60), np.uint8)
        mask[10:20], mask[20:] = 1, 2
        write(folder / "masks" / f"{name}.png", mask)
    put(folder / file, text)
    return folder


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.yaml", "[background, dog, cat]"),
        ("masks/_classes.csv", "Pixel Value, Class\n0, background\n1, dog\n2, cat\n"),
    ],
)
@pytest.mark.parametrize("own", [{}, {"classes_file": '{"background": null, "cat": null, "dog": null}'}])
def test_a_folder_that_names_its_classes_is_scored_by_their_names_whatever_named_the_models(tmp_path, file, text, own):
    dataset = opened(permuted(tmp_path, file, text), model_of("background", "cat", "dog"), **own).dataset
    assert dataset.classes == ("background", "cat", "dog")
    assert dataset.mask(0)[:, 0].tolist() == [0] * 10 + [2] * 10 + [1] * 20


def test_of_two_classes_that_a_folder_names_the_other_way_round_the_models_is_the_foreground(tmp_path):
    photos(tmp_path / "images", "a.png", "b.png")
    for name in "ab":
        write(tmp_path / "masks" / f"{name}.png", (OBJECT == 0).astype(np.uint8))
    put(tmp_path / "classes.yaml", "[pet, background]")
    dataset = opened(tmp_path, model_of("background", "pet")).dataset
    assert (dataset.mask(0) == OBJECT // 255).all()


def test_a_folder_with_other_names_is_read_as_the_models_own_and_says_so(tmp_path, caplog):
    permuted(tmp_path, "classes.yaml", "[background, spaniel, tabby]")
    model, own = (
        model_of("background", "cat", "dog"),
        {"classes_file": '{"background": null, "cat": null, "dog": null}'},
    )
    assert opened(tmp_path, model, **own).dataset.mask(0)[0::39, 0].tolist() == [0, 2]
    assert (
        "classes.yaml names the classes background, spaniel, tabby, and the model background, cat, dog" in caplog.text
    )
    with pytest.raises(DataError, match="has the classes background, spaniel, tabby, but the model was trained for"):
        opened(tmp_path, model)


def test_a_model_whose_classes_have_numbers_for_names_reads_those_of_others_by_number(tmp_path):
    permuted(tmp_path, "classes.yaml", "[background, dog, cat]")
    assert opened(tmp_path, model_of("class_0", "class_1", "class_2")).dataset.mask(0)[0::39, 0].tolist() == [0, 2]


def test_a_class_too_many_is_no_matter_of_adding_it(tmp_path):
    permuted(tmp_path, "images/x.txt", "")
    with pytest.raises(DataError, match=r"has values 2 but there are 2 classes, ids 0 to 1: correct the mask \(255"):
        opened(tmp_path, model_of("a", "b"), classes_file="{a: null, b: null}")


def test_masks_that_fit_both_ways_have_a_remedy_without_an_option(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "ab":
        exif = Image.Exif()
        exif[274] = 3
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "images" / f"{name}.jpg", exif=exif)
        write(tmp_path / "masks" / f"{name}.png", OBJECT)
    with pytest.raises(
        DataError, match=r"fit both ways: save photos and masks as they are seen, without an orien"
    ) as at:
        opened(tmp_path, model_of("background", "foreground"))
    assert "--masks" not in str(at.value)
