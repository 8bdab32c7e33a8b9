"""`finetune --task classify`: photos with labels in, a classification model out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from simclrseg.config.export import ExportConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.errors import DataError, UsageError
from simclrseg.knobs.parsing import parse_config
from simclrseg.models.classifiers import load_classifier
from simclrseg.targets.base import target_class
from simclrseg.targets.classify.target import ClassificationTarget
from simclrseg.targets.knobs import LabelledData
from tests.folders import write_colours
from tests.small import classifying, evaluated


@pytest.fixture(scope="module")
def classified(tmp_path_factory) -> dict[str, Any]:
    from simclrseg.commands.finetune import finetune

    root = tmp_path_factory.mktemp("classified")
    folder = write_colours(root / "photos", {"blue": 24, "green": 24, "red": 5})
    training = {"epochs": 6, "unfreeze": "progressive", "unfreeze_at": [1, 2], "layer_lr_factor": 0.5}
    return finetune(
        classifying(root / "runs", data={"dataset": str(folder)}, training=training, dropout=0.1, backbone="resnet18")
    )


def test_colours_are_learned(classified):
    test = json.loads((classified.run / "test.json").read_text())
    assert test == classified.test and set(test) == {"split", "n", "metrics", "without_learning"}
    assert test["split"] == "test" and test["n"] == 10 and test["metrics"]["accuracy"] > 0.7


def test_a_run_leaves_a_model_its_split_and_a_confusion_matrix(classified):
    folder = classified.run
    left = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "model.onnx", "split.json", "test.json", "confusion.png", "curves.png"} <= left
    rows = list(csv.DictReader((folder / "confusion.csv").read_text().splitlines()))
    assert [row["true"] for row in rows] == ["blue", "green", "red"]
    assert sum(int(row[name]) for row in rows for name in ("blue", "green", "red")) == 10


def test_a_class_of_five_photos_is_trained_on(classified):
    split = json.loads((classified.run / "split.json").read_text())
    assert any(key.startswith("red/") for key in split["train"])


def test_the_model_file_describes_itself(classified):
    model, metadata = load_classifier(classified.model)
    assert metadata.task == "classification" and metadata.classes == ("blue", "green", "red")
    assert metadata.stem == "cifar" and model.encoder.conv1.kernel_size == (3, 3)  # as pretraining has it at 32 px
    assert metadata.metrics == classified.test["metrics"] and metadata.dropout == 0.1


def test_export_checks_labels_and_says_how_to_get_some(classified, tmp_path, caplog):
    from simclrseg.commands.export import export

    runs = classified.run.parents[1]
    console = {"runs": str(runs), "output": str(tmp_path / "m.onnx")}
    with caplog.at_level("INFO", logger="simclrseg"):
        result = export(ExportConfig.model_validate({"console": console}))
    assert result.next == f"simclrseg predict photo.jpg --model {tmp_path / 'm.onnx'}"
    assert (result.check.labels, result.check.mask, result.check.images) == (True, 1, 10)
    assert "mask" not in caplog.text and "IoU" not in caplog.text
    caplog.clear()
    config = {"check": {"calibrate": str(runs.parent / "photos")}, "console": {**console, "overwrite": True}}
    export(ExportConfig.model_validate(config))
    assert "mask" not in caplog.text


def test_evaluate_repeats_the_score_and_lists_every_photo(classified):
    runs = classified.run.parents[1]
    result = evaluated(runs)
    assert result["metrics"] == pytest.approx(classified.test["metrics"]) and result["n"] == 10
    rows = list(csv.DictReader((Path(result["report"]) / "per_image.csv").read_text().splitlines()))
    assert np.mean([int(row["correct"]) for row in rows]) == pytest.approx(result["metrics"]["accuracy"])
    assert all(row["image"].startswith(row["true"]) for row in rows)
    low, high = result["intervals"]["macro_f1"]
    assert 0 <= low <= result["metrics"]["macro_f1"] <= high <= 1
    assert [row["class"] for row in result["per_class"]] == ["blue", "green", "red"]
    assert {"per_class.csv", "confusion.csv", "confusion.png"} <= {
        path.name for path in Path(result["report"]).iterdir()
    }


def test_evaluate_matches_classes_by_name(classified, tmp_path):
    runs = classified.run.parents[1]

    def scored(folder: Path) -> dict[str, Any]:
        return evaluated(runs, dataset=str(folder), split="all")

    folder = write_colours(tmp_path / "some", {"blue": 6, "green": 6})
    (folder / "blue").rename(folder / "x")
    (folder / "green").rename(folder / "blue")  # their true names are swapped
    with pytest.raises(DataError, match="has the classes x, but the model was trained for blue, green, red"):
        scored(folder)
    (folder / "x").rename(folder / "green")
    wrong = scored(folder)["metrics"]["accuracy"]
    assert wrong < 0.3


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({}, "holds no labels: classification needs two or more"),
        ({"blue": 20}, "classification needs two or more"),
    ],
)
def test_photos_that_cannot_be_told_apart_are_refused(tmp_path, counts, says):
    from simclrseg.commands.finetune import finetune

    folder = write_colours(tmp_path / "photos", counts)
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "a.png"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=says):
        finetune(classifying(tmp_path / "runs", data={"dataset": str(folder)}, training={}))
    assert not (tmp_path / "runs").exists()


def test_folders_that_are_no_classes_for_what_lies_around_them_are_named(tmp_path):
    folder = write_colours(tmp_path / "photos", {"blue": 3, "red": 3})
    opened = ClassificationTarget.open_dataset
    assert opened(LabelledData(dataset=str(folder))).label_names == ("blue", "red")
    cv2.imwrite(str(folder / "banner.png"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"beside the folders blue, red lie banner\.png, so that these are no classes"):
        opened(LabelledData(dataset=str(folder)))
    (folder / "banner.png").unlink()
    folder.rename(tmp_path / "images")
    (tmp_path / "set").mkdir()
    (tmp_path / "images").rename(tmp_path / "set" / "images")
    with pytest.raises(DataError, match=r"if the folders in images/ are classes, name that folder"):
        opened(LabelledData(dataset=str(tmp_path / "set")))


def test_classes_may_hold_masks_of_their_photos(tmp_path):
    grain = np.random.default_rng(0)
    for name in ("benign", "normal"):
        (tmp_path / name).mkdir()
        for number in range(3):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), grain.integers(0, 255, (32, 32, 3)).astype(np.uint8))
            mask = np.zeros((32, 32), np.uint8)
            mask[4:20, 8:30] = 255
            cv2.imwrite(str(tmp_path / name / f"{number}_mask.png"), mask)
    dataset = ClassificationTarget.open_dataset(LabelledData(dataset=str(tmp_path)))
    assert (len(dataset), dataset.label_names) == (6, ("benign", "normal"))


def test_a_class_without_training_photos_is_named(tmp_path, caplog):
    folder = write_colours(tmp_path / "photos", {"blue": 12, "green": 12, "red": 3})
    (folder / "test.txt").write_text("red/0\nred/1\nred/2\nblue/0\n")
    config = classifying(tmp_path / "runs", data={"dataset": str(folder)}, training={})
    target = target_class(config.target).open(config.data)
    with caplog.at_level("WARNING", logger="simclrseg"):
        target.tell()
    assert "no training photo of red" in caplog.text


@pytest.mark.parametrize(("red", "said"), [(8, "2 classes, 6 training photos each"), (9, "2 classes, 6 to 7 training")])
def test_how_many_photos_the_classes_have_is_said(tmp_path, caplog, red, said):
    folder = write_colours(tmp_path / "photos", {"blue": 8, "red": red})
    (folder / "test.txt").write_text("red/0\nblue/0\n")
    (folder / "val.txt").write_text("red/1\nblue/1\n")
    config = classifying(tmp_path / "runs", data={"dataset": str(folder)}, training={})
    with caplog.at_level("INFO", logger="simclrseg"):
        target_class(config.target).open(config.data).tell()
    assert said in caplog.text


def test_a_loss_for_masks_is_refused(tmp_path):
    from simclrseg.commands.finetune import finetune

    with pytest.raises(UsageError, match="loss is for task segment and has no meaning for task classify: leave it out"):
        finetune(classifying(tmp_path / "runs", data={"dataset": "shapes"}, training={"loss": "bce"}))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("task", "section", "values", "says"),
    [
        ("classify", "model", {"init_decoder": True}, "init_decoder is for task segment"),
        ("classify", "model", {"decoder": "fpn"}, "decoder is for task segment"),
        ("classify", "data", {"classes": ["cat"]}, "classes is for task segment"),
        ("classify", "training", {"class_weights": "auto"}, "class_weights is for task segment"),
        ("classify", "run", {"examples_every": 1}, "examples_every is for task segment"),
        ("segment", "training", {"label_smoothing": 0.1}, "label_smoothing is for task classify"),
        ("segment", "data", {"image_column": "photo"}, "for sets of the Hub"),
        ("segment", "model", {"init_decoder": True}, "pretrained none has no decoder"),
    ],
)
def test_a_knob_that_means_nothing_here_is_refused(task, section, values, says):
    tree: dict[str, Any] = {"data": {"dataset": "shapes"}, "model": {"task": task}}
    tree[section] = {**tree.get(section, {}), **values}
    with pytest.raises(UsageError, match=says):
        parse_config(FinetuneConfig, tree)
