"""Photos to backbone to segmentation model to mask: each command takes what the one before it left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from simclrseg.config.export import ExportConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.predict import PredictConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.errors import DataError, ImageError, RunError, UsageError
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone, read_metadata, read_weights
from simclrseg.runs.run import Run
from tests.folders import write_figures, write_noise
from tests.observers import stop_at
from tests.small import SMALL_FINETUNE, SMALL_PRETRAIN, changed, evaluated, in_runs


def photo(path: Path) -> Path:
    from simclrseg.data.datasets.dataset import DatasetOptions
    from simclrseg.data.datasets.locate import open_dataset

    cv2.imwrite(str(path), open_dataset("shapes", DatasetOptions()).image(3)[:80, :, ::-1])
    return path


def test_pretraining_leaves_what_the_design_lists(pipeline):
    run = Run(pipeline.pretrained.run)
    left = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "metrics.csv",
        "timing.csv",
        "curves.png",
        "augmentations.png",
        "log.txt",
        "backbone.safetensors",
        "README.md",
    } <= left
    assert run.name == "shapes" and run.finished


def test_finetuning_leaves_what_the_design_lists(pipeline):
    run = Run(pipeline.finetuned.run)
    left = {path.name for path in run.folder.iterdir()}
    assert {
        "split.json",
        "load_report.json",
        "model.safetensors",
        "model.onnx",
        "examples.png",
        "log.txt",
        "curves.png",
        "test.json",
    } <= left
    assert run.name == "shapes-shapes-r0.5" and run.finished
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["data"]["dataset"] == "shapes"


def test_the_next_command_finds_the_run(pipeline):
    assert pipeline.pretrained.next == f"simclrseg finetune --pretrained shapes --runs {pipeline.runs}"
    assert pipeline.finetuned.next == f"simclrseg predict photo.jpg -o mask.png --runs {pipeline.runs}"


def test_every_tensor_of_the_backbone_is_loaded(pipeline):
    report = json.loads((pipeline.finetuned.run / "load_report.json").read_text())
    assert report["loaded"] == report["total"] == 30 and not report["missing"] and not report["mismatched"]


def test_the_stored_configuration_is_what_was_requested(pipeline):
    stored = yaml.safe_load((pipeline.pretrained.run / "config.yaml").read_text())
    assert stored["command"] == "pretrain" and stored["data"]["image_size"] == 32
    assert stored["run"]["name"] is None and not {"resume", "overwrite"} & set(stored["run"])


def test_test_scores_are_kept_at_both_resolutions(pipeline):
    test = json.loads((pipeline.finetuned.run / "test.json").read_text())
    assert set(test) == {"training", "original"}
    for resolution, result in test.items():
        assert result["resolution"] == resolution and result["split"] == "test" and result["n"] > 0
        assert 0 <= result["metrics"]["iou"] <= 1
        assert 0.1 < result["without_learning"]["iou"] < 0.3 and result["without_learning"]["recall"] == 1
    assert pipeline.finetuned.test == test


def test_evaluate_repeats_the_score_of_the_run(pipeline):
    result = evaluated(pipeline.runs)
    expected = pipeline.finetuned.test["original"]["metrics"]
    assert {name: result["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-12)
    report = Path(result["report"])
    assert len((report / "per_image.csv").read_text().splitlines()) == result["n"] + 1
    assert json.loads((report / "metrics.json").read_text())["metrics"] == result["metrics"]


def test_evaluate_notices_that_the_classes_are_others(pipeline, tmp_path):
    photos = write_noise(tmp_path, 20, values=3)
    with pytest.raises(DataError, match="but the model was trained for background"):
        evaluated(pipeline.runs, dataset=str(photos))


def test_predict_writes_a_mask_of_the_photos_size(pipeline, tmp_path):
    from simclrseg.commands.predict import predict

    source = photo(tmp_path / "photo.png")
    config = {
        "input": {"inputs": [str(source)]},
        "console": {"output": str(tmp_path / "m.png"), "runs": str(pipeline.runs)},
    }
    result = predict(PredictConfig.model_validate(config))
    mask = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == cv2.imread(str(source)).shape[:2] and set(np.unique(mask)) <= {0, 255}
    assert result.failed == [] and result.done[0]["mask"] == str(tmp_path / "m.png")


def test_predict_refuses_to_overwrite(pipeline, tmp_path):
    from simclrseg.commands.predict import predict

    (tmp_path / "m.png").write_bytes(b"precious")
    source = photo(tmp_path / "photo.png")
    config = {
        "input": {"inputs": [str(source)]},
        "console": {"output": str(tmp_path / "m.png"), "runs": str(pipeline.runs)},
    }
    with pytest.raises(UsageError, match="--overwrite"):
        predict(PredictConfig.model_validate(config))
    assert (tmp_path / "m.png").read_bytes() == b"precious"


def test_export_writes_the_run_again_elsewhere(pipeline, tmp_path):
    from simclrseg.commands.export import export

    console = {"output": str(tmp_path / "again.onnx"), "runs": str(pipeline.runs)}
    result = export(ExportConfig.model_validate({"console": console}))
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"] and result.file == (tmp_path / "again.onnx")
    with pytest.raises(UsageError, match="--overwrite"):
        export(ExportConfig.model_validate({"console": console}))


def test_a_second_run_of_the_same_name_leaves_the_first_alone(pipeline):
    from simclrseg.commands.pretrain import pretrain

    before = (pipeline.pretrained.run / "backbone.safetensors").read_bytes()
    config = changed(in_runs(SMALL_PRETRAIN, pipeline.runs), "run", name="shapes")
    config = changed(config, "training", epochs=1, batch_size=256)
    result = pretrain(PretrainConfig.model_validate(config))
    assert result.run.name == "shapes-2"
    assert (pipeline.pretrained.run / "backbone.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("section", "values", "error", "says"),
    [
        ("model", {"init": "pats"}, RunError, "pats"),
        ("run", {"resume": "nothing"}, RunError, "no such run 'nothing'"),
    ],
)
def test_a_pretraining_that_cannot_start_leaves_nothing(tmp_path, section, values, error, says):
    from simclrseg.commands.pretrain import pretrain

    config = changed(in_runs(SMALL_PRETRAIN, tmp_path / "runs"), section, **values)
    with pytest.raises(error, match=says):
        pretrain(PretrainConfig.model_validate(config))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("section", "values", "error", "says"),
    [
        ("model", {"pretrained": "pats"}, RunError, "pretrain"),
        ("model", {"pretrained": "no/such/file.safetensors"}, UsageError, "no such file"),
        ("data", {"dataset": "photos"}, DataError, "no masks"),
    ],
)
def test_a_finetuning_that_cannot_start_leaves_nothing(tmp_path, monkeypatch, section, values, error, says):
    from simclrseg.commands.finetune import finetune

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    photo(tmp_path / "photos" / "a.png")
    config = changed(in_runs(SMALL_FINETUNE, tmp_path / "runs"), "model", pretrained="none")
    config = changed(config, section, **values)
    with pytest.raises(error, match=says):
        finetune(FinetuneConfig.model_validate(config))
    assert not (tmp_path / "runs").exists()


def test_the_card_of_a_fine_tuned_run_says_how_good_it_is_and_how_it_is_used(pipeline, tmp_path, monkeypatch):
    run = pipeline.finetuned.run
    card = (run / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-segmentation"
    found = pipeline.finetuned.test["original"]
    values = (scores["iou"] for scores in (found["metrics"], found["without_learning"]))
    assert "- iou: {:.4g} ({:.4g} with the same class everywhere)".format(*values) in card
    assert f"simclrseg predict photo.jpg -o mask.png --model {run.name} --runs {pipeline.runs}" in card
    assert "| optimizer | adamw, peak learning rate 0.001, one-cycle schedule |" in card
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", Shapes(1).image(0))
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(import simclrseg.*?)```", card, re.DOTALL)[0], names)
    assert names["prediction"].mask.shape == Shapes(1).image(0).shape[:2]


def test_a_contradicting_backbone_is_refused(pipeline):
    from simclrseg.commands.finetune import finetune

    config = changed(in_runs(SMALL_FINETUNE, pipeline.runs), "model", backbone="resnet34")
    remedy = "take --backbone cnn, or other weights with --pretrained"
    with pytest.raises(UsageError, match=f"contradicts --pretrained shapes, which is a cnn: {remedy}"):
        finetune(FinetuneConfig.model_validate(config))


def test_the_encoder_of_an_interrupted_pretraining_can_be_taken(tmp_path):
    from simclrseg.commands.pretrain import pretrain
    from simclrseg.errors import Interrupted
    from simclrseg.weights.find import find_pretrained

    config = PretrainConfig.model_validate(in_runs(SMALL_PRETRAIN, tmp_path))
    with pytest.raises(Interrupted, match=rf"simclrseg pretrain --resume shapes --runs {tmp_path}"):
        pretrain(config, observers=[stop_at(epoch=1)])
    with pytest.raises(RunError, match="--allow-unfinished"):
        find_pretrained("shapes", root=tmp_path)
    found = find_pretrained("shapes", root=tmp_path, allow_unfinished=True)
    metadata = read_metadata(found.file)
    assert metadata.epochs == 1 and metadata.encoder == "cnn"
    report = load_backbone(build_backbone("cnn"), found.file)
    assert report.loaded == report.total


def test_a_pretraining_on_fewer_photos_than_a_batch_takes_them_all_and_says_so(tmp_path, caplog):
    from simclrseg.commands.pretrain import pretrain

    values = changed(in_runs(SMALL_PRETRAIN, tmp_path), "data", max_images=13)
    values = changed(values, "training", epochs=1, micro_batch=13, lr_scaling="linear")
    with caplog.at_level("INFO"):
        run = Run(pretrain(PretrainConfig.model_validate(values)).run)
    assert "batch 13 instead of 64: an epoch has no more" in caplog.text
    assert f"lars at {0.3 * 13 / 256:.4g}" in caplog.text
    assert (run.environment["batch_size"], run.environment["micro_batch"]) == (13, 13)
    stored = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert stored["training"]["batch_size"] == 64  # as it was asked for

    again = changed(changed(values, "training", epochs=2, micro_batch=4), "run", resume=run.name)
    longer = Run(pretrain(PretrainConfig.model_validate(again)).run)
    assert longer.folder == run.folder
    assert (longer.environment["batch_size"], longer.environment["micro_batch"]) == (13, 4)


def test_a_folder_whose_name_no_run_can_bear_gets_one_that_it_can():
    from simclrseg.runs.names import dataset_label

    assert dataset_label("shapes") == "shapes"
    assert dataset_label("my set ü/?") == "my-set"


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize(("batch_size", "micro_batch"), [(16, 8), (7, 2)])
def test_a_last_batch_or_micro_batch_of_one_photo_stops_nothing(tmp_path, batch_size, micro_batch):
    from simclrseg.commands.finetune import finetune

    config = changed(in_runs(SMALL_FINETUNE, tmp_path / "runs"), "model", pretrained="none", backbone="resnet18")
    config = changed(config, "data", image_size=32, data_ratio=0.09)  # 36 photos, 33 to train
    config = changed(config, "training", epochs=1, batch_size=batch_size, micro_batch=micro_batch)
    assert "iou" in finetune(FinetuneConfig.model_validate(config)).validation


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize(("ratio", "chooses"), [(0.4, False), (0.5, True)])
def test_few_validation_photos_choose_neither_an_epoch_nor_the_end(tmp_path, monkeypatch, caplog, ratio, chooses):
    """The validation score falls after the first epoch."""
    from simclrseg.commands.finetune import finetune
    from simclrseg.targets.segment.learner import Segmentation

    falling = iter(range(9, 0, -1))
    monkeypatch.setattr(Segmentation, "evaluate", lambda task, batches: {"iou": next(falling) / 10})
    config = changed(in_runs(SMALL_FINETUNE, tmp_path), "model", pretrained="none", backbone="cnn")
    config = changed(changed(config, "data", data_ratio=ratio), "training", epochs=3, patience=1, ema=None)
    result = finetune(FinetuneConfig.model_validate(config))
    line = (
        "16 validation photos are too few to choose the best epoch by, so the last one is kept, --patience or not: add"
    )
    card = (result.run / "README.md").read_text()
    assert (line in caplog.text) == (f"**Doubt:** {line}" in card) == ("and 16 to validate on" in card)
    assert (line in card) != chooses
    assert (result.best_epoch, result.validation["iou"]) == ((1, 0.9) if chooses else (None, 0.7))
    last = torch.load(next((result.run / "checkpoints").rglob("state.pt")))["model"]
    kept, _ = read_weights(result.model)
    assert all(torch.equal(kept[key], last[key]) for key in kept) != chooses


def test_a_set_with_other_names_for_two_classes_can_be_scored(pipeline, tmp_path, caplog):
    photos = write_noise(tmp_path, 20, scale=255)
    with caplog.at_level("WARNING", logger="simclrseg"):
        assert evaluated(pipeline.runs, dataset=str(photos))["n"] > 0
    assert "the second is the foreground of both" in caplog.text


def test_predict_decides_as_evaluate_does(pipeline, tmp_path):
    from simclrseg.commands.predict import predict
    from simclrseg.data.datasets.dataset import DatasetOptions
    from simclrseg.data.datasets.locate import open_dataset
    from simclrseg.metrics.counts import confusion_matrix, segmentation_metrics

    shapes = open_dataset("shapes", DatasetOptions())
    report = Path(evaluated(pipeline.runs)["report"])
    rows = (report / "per_image.csv").read_text().splitlines()[1:4]
    for row in rows:
        key, iou, *_ = row.split(",")
        index = shapes.keys.index(key)
        source, target = tmp_path / f"{index}.png", tmp_path / f"{index}.mask.png"
        cv2.imwrite(str(source), shapes.image(index)[:, :, ::-1])
        config = {"input": {"inputs": [str(source)]}, "console": {"output": str(target), "runs": str(pipeline.runs)}}
        predict(PredictConfig.model_validate(config))
        mask = cv2.imread(str(target), cv2.IMREAD_UNCHANGED) // 255
        found = segmentation_metrics(confusion_matrix(mask, shapes.mask(index), 2))["iou"]
        assert found == pytest.approx(float(iou), abs=1e-3)  # a pixel at the threshold may fall either way


def test_a_strict_training_does_not_begin_where_a_test_photo_cannot_be_read(tmp_path):
    from simclrseg.commands.finetune import finetune
    from simclrseg.targets.segment.target import SegmentationTarget

    folder = write_figures(tmp_path / "figures", count=30)
    tree = changed(in_runs(SMALL_FINETUNE, tmp_path / "runs"), "model", pretrained="none", backbone="cnn")
    tree = changed(tree, "data", dataset=str(folder), strict=True)
    config = FinetuneConfig.model_validate(tree)
    bad = SegmentationTarget.open(config.data).split.test[0]
    photo = sorted((folder / "images").iterdir())[bad]
    photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
    with pytest.raises(ImageError, match=photo.name):
        finetune(config)
    assert not (tmp_path / "runs").exists()
