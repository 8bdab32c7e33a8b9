"""Fine-tuning with several classes, from masks to the model file: one small run, looked at by many tests."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image

from simclrseg.charts.plots import GAP, HEADING, SMALLEST
from simclrseg.commands.finetune import FinetuneResult
from simclrseg.commands.prepare_finetune import prepare
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.splits import make_split
from simclrseg.engine.history import EpochRecord
from simclrseg.errors import DataError, UsageError
from simclrseg.knobs.parsing import parse_config
from simclrseg.metadata import IGNORE, ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import read_metadata
from simclrseg.targets.base import Scoring
from simclrseg.targets.segment.examination import class_weights, examine_masks, open_masks
from simclrseg.targets.segment.target import Examples, SegmentationTarget
from simclrseg.training.session import Session
from tests.folders import write_figures
from tests.small import HARDWARE, MACHINE, evaluated

CLASSES = ("background", "disc", "square", "triangle")


def config_of(folder: Path, **sections: dict[str, Any]) -> FinetuneConfig:
    tree: dict[str, Any] = {
        "data": {"dataset": str(folder), "image_size": 32},
        "model": {"backbone": "resnet18"},
        "training": {"epochs": 2, "batch_size": 4},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {},
    }
    for name, values in sections.items():
        tree.setdefault(name, {}).update(values)
    return FinetuneConfig.model_validate(tree)


@dataclass(frozen=True)
class Finetuned:
    folder: Path
    runs: Path
    result: FinetuneResult
    log: str


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory) -> Finetuned:
    from simclrseg.commands.finetune import finetune

    folder = write_figures(tmp_path_factory.mktemp("figures") / "figures")
    runs = tmp_path_factory.mktemp("segmenter") / "runs"
    config = config_of(
        folder,
        data={"augmentation": "standard", "classes_file": str(folder / "classes.yaml"), "fold": "2/3"},
        training={"ema": 0.5, "patience": 3, "learning_rate": 1e-3},
        segment={"loss": "focal+dice", "class_weights": "auto", "examples_every": 2},
        console={"runs": str(runs)},
    )
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("simclrseg")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        result = finetune(config)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return Finetuned(folder, runs, result, "\n".join(record.getMessage() for record in records))


def test_class_names_and_colours_are_kept_in_the_model_file(finetuned):
    metadata = read_metadata(finetuned.result.model)
    assert metadata.classes == CLASSES
    assert metadata.colours == ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
    assert metadata.threshold is None


def test_the_exported_model_gives_a_probability_of_each_class(finetuned):
    session = onnxruntime.InferenceSession(finetuned.result.onnx, providers=["CPUExecutionProvider"])
    image = np.asarray(Image.open(finetuned.folder / "images/00.png").resize((32, 32)))[None]
    probability, mask = session.run(["probability", "mask"], {"image": image})
    assert probability.shape == (1, 4, 32, 32)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(mask[0], probability[0].argmax(0))


def test_scores_come_with_the_iou_of_each_class(finetuned):
    test = json.loads((finetuned.result.run / "test.json").read_text())
    for scores in test.values():
        found = scores["iou_by_class"]
        assert tuple(found) == CLASSES
        values = [value for value in found.values() if value is not None]
        assert scores["metrics"]["miou"] == pytest.approx(np.mean(values))


def test_the_masks_statistics_are_told(finetuned):
    assert "pixels of the 13 training masks: background" in finetuned.log
    assert "class weights: background 0." in finetuned.log


def test_the_split_of_the_fold_is_kept(finetuned):
    run = finetuned.result.run
    split = json.loads((run / "split.json").read_text())
    assert run.name == "figures-none-fold2of3"
    assert split["fold"] == [2, 3] and (len(split["validation"]), len(split["test"])) == (7, 4)


def test_evaluate_repeats_the_score_of_the_run(finetuned):
    result = evaluated(finetuned.runs)
    expected = finetuned.result.test["original"]
    metrics = {name: result["metrics"][name] for name in expected["metrics"]}
    assert metrics == pytest.approx(expected["metrics"], abs=1e-12)
    by_class = {row["class"]: row["iou"] for row in result["per_class"]}
    known = {name: float("nan") if iou is None else iou for name, iou in expected["iou_by_class"].items()}
    assert by_class == pytest.approx(known, nan_ok=True)


def test_examples_show_what_was_asked_for_at_the_epochs_that_were_asked_for(tmp_path):
    dataset = open_masks(config_of(write_figures(tmp_path / "f")).data)
    metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=16, classes=dataset.classes)
    predict = lambda images: np.zeros((len(images), 4, 16, 16), np.float32)  # noqa: E731
    path = tmp_path / "examples.png"
    observer = Examples(predict, dataset, [3, 5], metadata, path, every=2)
    side = SMALLEST + GAP  # two rows of photo, truth and prediction
    shape, drawn = (HEADING + 2 * side - GAP, 3 * side - GAP, 3), []
    for epoch in range(1, 6):
        observer.on_epoch(EpochRecord(epoch, epoch, {}, {}, 0.0))
        if path.exists():
            drawn.append((epoch, cv2.imread(str(path)).shape))
            path.unlink()
    assert drawn == [(2, shape), (4, shape)]


@pytest.mark.parametrize("every", [0, 5])
def test_nothing_is_drawn_of_a_run_that_is_to_have_no_examples(tmp_path, every):
    config = config_of(write_figures(tmp_path / "f"), segment={"examples_every": every})
    target = SegmentationTarget.open(config.data, config.target)
    facts = {"classes": target.dataset.classes, "colours": target.dataset.colours}
    metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=16, **facts)
    predict = lambda images: np.zeros((len(images), 4, 16, 16), np.float32)  # noqa: E731
    scores = target.score(predict, target.split.test, metadata, Scoring(1, 4))
    observers = target.callbacks(tmp_path, predict, target.dataset, metadata)
    target.draw_test(tmp_path, predict, scores)
    assert (len(observers), (tmp_path / "examples.png").exists()) == (bool(every), bool(every))


class Swath(Dataset):
    """A picture of 16 bits whose right half holds nothing."""

    has_blanks = True

    def __init__(self) -> None:
        super().__init__("swath", ["a.tif"], classes=("a", "b"), bands=("nir",), full_scale=65535)
        self.whole = np.random.default_rng(0).integers(20_000, 24_000, (16, 16, 1), np.uint16)

    def image(self, index: int) -> np.ndarray:
        image = self.whole.copy()
        image[:, 8:] = 0
        return image

    def mask(self, index: int) -> np.ndarray:
        mask = np.zeros((16, 16), np.uint8)
        mask[:, 8:] = IGNORE
        return mask


def test_examples_are_not_stretched_by_pixels_that_hold_nothing(tmp_path):
    metadata = ModelMetadata(task="segmentation", encoder="cnn", image_size=16, classes=("a", "b"), threshold=0.5)
    predict = lambda images: np.zeros((len(images), 16, 16), np.float32)  # noqa: E731
    Examples(predict, Swath(), [0], metadata, tmp_path / "examples.png").draw()
    photo = cv2.imread(str(tmp_path / "examples.png"))[HEADING : HEADING + SMALLEST, : SMALLEST // 2]
    assert photo.std() > 50  # from black to white; with the empty half all of it would be nearly white


def unnamed_figures(folder: Path) -> Path:
    """The same figures without a file that names their classes."""
    (write_figures(folder) / "classes.yaml").unlink()
    return folder


def test_classes_and_border_are_chosen_by_what_the_masks_hold(tmp_path):
    folder = unnamed_figures(tmp_path / "f")
    assert open_masks(config_of(folder, data={"classes": ["class_2"]}).data).classes == ("background", "class_2")
    assert open_masks(config_of(folder, data={"classes": ["6"]}).data).classes[-1] == "class_5"
    with pytest.raises(DataError, match="but there are 3 classes, ids 0 to 2"):
        open_masks(config_of(folder, data={"classes": ["3"]}).data)
    with pytest.raises(UsageError, match="--classes 1: 2 to 254 classes are possible"):
        open_masks(config_of(folder, data={"classes": ["1"]}).data)
    with pytest.raises(UsageError, match=r"--classes 5: shapes has 2 classes \(background, figure\); leave it out"):
        open_masks(config_of(Path("shapes"), data={"dataset": "shapes", "classes": ["5"]}).data)
    with pytest.raises(UsageError, match="--border ignore is for oxford_pets"):
        open_masks(config_of(Path("shapes"), data={"dataset": "shapes", "border": "ignore"}).data)


class Figures(Dataset):
    """Masks of so many classes, which nobody reads."""

    def __init__(self, classes: int) -> None:
        super().__init__("toy", [f"{number}.png" for number in range(20)], classes=tuple("abc"[:classes]))

    def has_mask(self, index: int) -> bool:
        return True


@pytest.mark.parametrize(
    ("loss", "classes", "outputs"),
    [
        (None, 2, 1),
        ("bce+dice", 2, 1),
        ("focal:3", 2, 1),
        ("jaccard", 2, 1),
        ("ce+dice", 2, 2),
        (None, 3, 3),
        ("dice+focal", 3, 3),
    ],
)
def test_one_logit_serves_two_classes_unless_the_loss_needs_one_for_each(loss, classes, outputs):
    config = config_of(Path("shapes"), data={"dataset": "shapes"}, segment={"loss": loss})
    target = SegmentationTarget(config.data, Figures(classes), config.target)
    model, facts = target.build_model(build_backbone("cnn"), "cnn", dropout=0.0)
    assert model.segmentation_head[0].out_channels == outputs
    assert (facts["threshold"] is None) == (outputs > 1)


def test_a_loss_for_two_classes_is_refused_for_more_with_the_one_to_take():
    config = config_of(Path("shapes"), data={"dataset": "shapes"}, segment={"loss": "bce+dice"})
    with pytest.raises(UsageError, match=r"--loss bce\+dice: bce is for two classes.*pass --loss ce\+dice"):
        _ = SegmentationTarget(config.data, Figures(3), config.target).loss_name


@pytest.mark.parametrize(
    ("asked", "message"),
    [("1,2", "--class-weights 1,2: 2 weights for 3 classes"), ("0,0,5", "every class that occurs has weight 0")],
)
def test_class_weights_that_do_not_fit_are_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        class_weights(asked, np.array([[5, 5, 0]]), ("a", "b", "c"))


@pytest.mark.parametrize(("loss", "told"), [("dice", True), ("dice+jaccard", True), ("bce+dice", False), ("ce", False)])
def test_class_weights_that_change_nothing_are_told(loss, told, caplog):
    tree = {
        "data": {"dataset": "shapes", "image_size": 32, "max_images": 12},
        "model": {"backbone": "cnn"},
        "segment": {"loss": loss, "class_weights": "1,9"},
        "training": {"batch_size": 4},
        "hardware": HARDWARE,
    }
    prepare(Session("finetune", parse_config(FinetuneConfig, tree), MACHINE))
    line = f"--class-weights changes nothing in --loss {loss} of two classes"
    assert (line in caplog.text) is told and (f"pass --loss bce+{loss}" in caplog.text) is told


def test_a_pixel_costs_as_much_as_the_weight_of_its_class():
    tree = {
        "data": {"dataset": "shapes", "image_size": 32, "max_images": 12},
        "model": {"backbone": "cnn"},
        "segment": {"class_weights": "1,9"},
        "training": {"batch_size": 4},
        "hardware": HARDWARE,
    }
    learner = prepare(Session("finetune", parse_config(FinetuneConfig, tree), MACHINE)).learner
    masks = (torch.full((1, 8, 8), label, dtype=torch.uint8) for label in (0, 1))
    background, foreground = (learner.loss_of(torch.zeros(1, 1, 8, 8), mask).item() for mask in masks)
    assert foreground == pytest.approx(9 * background) and background < math.log(2) < foreground


def test_class_weights_keep_their_ratios_and_the_scale_of_the_loss():
    counts = np.array([[6, 3, 1]])
    weights = class_weights("1,2,4", counts, ("a", "b", "c"))
    assert np.dot(weights, counts[0]) == pytest.approx(10)
    assert weights[2] / weights[0] == pytest.approx(4)
    assert class_weights(None, counts, ("a", "b", "c")) is None


def examined(dataset, **options) -> np.ndarray:
    split = make_split(dataset.keys, official={}, **options)
    return examine_masks(dataset, dataset, split, threads=1)[0]


def test_a_class_without_pixels_is_named(tmp_path, caplog):
    dataset = open_masks(config_of(unnamed_figures(tmp_path / "f"), data={"classes": ["6"]}).data)
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        counts = examined(dataset)
    assert (counts.sum(0) > 0).tolist() == [True] * 4 + [False] * 2
    assert "no pixel of the training masks is class_4, class_5: the network cannot learn it" in caplog.text


def test_masks_of_one_class_only_are_refused(tmp_path):
    folder = unnamed_figures(tmp_path / "f")
    dataset = open_masks(config_of(folder, data={"classes": ["class_3"]}).data)
    for file in (folder / "masks").iterdir():
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(file)
    with pytest.raises(DataError, match="training masks hold background only: there is nothing to learn"):
        examined(dataset)


def test_a_mask_that_breaks_in_the_test_list_is_found_before_training(tmp_path):
    folder = write_figures(tmp_path / "f")
    dataset = open_masks(config_of(folder).data)
    split = make_split(dataset.keys, official={})
    bad = dataset.mask_path(split.test[0])
    Image.fromarray(np.full((48, 48), 77, np.uint8)).save(bad)
    with pytest.raises(DataError, match=rf"{bad.name} has values 77, which no class has"):
        examine_masks(dataset, dataset, split, threads=1)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("segment", {"loss": "dise"}, "'dise' is not a loss: did you mean 'dice'"),
        ("segment", {"loss": "dice+dice"}, "names a loss twice"),
        ("segment", {"loss": "bce+ce"}, "take one of them"),
        ("segment", {"class_weights": "a,b"}, "neither auto nor numbers"),
        ("segment", {"class_weights": "0,0"}, "not all 0"),
        ("data", {"masks": "alfa"}, "'alfa' is not a rule of masks: did you mean 'alpha'"),
        ("data", {"masks": "threshold"}, "threshold takes a number, as threshold:128"),
        ("data", {"masks": "inverted:2"}, "inverted takes no number"),
        ("data", {"masks": "threshold:9+foreground"}, "threshold and foreground contradict each other"),
        ("data", {"masks": "alpha+stored+upright"}, "stored and upright contradict each other"),
        ("data", {"fold": "0/5"}, "not K/N"),
        ("data", {"fold": "2"}, "not K/N"),
        ("data", {"group_by": "("}, "not a regular expression"),
    ],
)
def test_a_wrong_value_is_said_before_anything_is_read(section, values, message):
    with pytest.raises(ValueError, match=message):
        config_of(Path("shapes"), **{section: values})


def test_the_knobs_are_kept_in_the_runs_configuration(finetuned):
    stored = yaml.safe_load((finetuned.result.run / "config.yaml").read_text())
    assert (stored["training"]["ema"], stored["training"]["patience"], stored["data"]["fold"]) == (0.5, 3, "2/3")
    assert (stored["segment"]["loss"], stored["segment"]["examples_every"]) == ("focal+dice", 2)
