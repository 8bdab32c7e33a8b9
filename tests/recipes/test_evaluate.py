"""`evaluate` on one model and on several, on what cannot be compared, and on files that say nothing of themselves."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from simclrseg import runs as run_folders
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.errors import DataError, ModelFileError, RunError, UsageError
from simclrseg.evaluation.results import Estimate, Report
from simclrseg.knobs import parse_config
from simclrseg.metadata import MODEL_FILE, ONNX_FILE
from simclrseg.recipes._exported import open_exported
from simclrseg.recipes._summary import summary
from simclrseg.recipes.evaluate import OWN, _folder_of, _missed, evaluate
from tests.evaluation.test_report import segmented
from tests.inference.conftest import brightness, dominant_band


def evaluating(root: Path, *models: Path | str, **data: Any) -> dict[str, Any]:
    tree = {
        "data": {"models": list(map(str, models)), **data},
        "hardware": {"device": "cpu", "workers": 1},
        "console": {"runs": str(root)},
    }
    return evaluate(parse_config(EvaluateConfig, tree))


@pytest.fixture(scope="module")
def run(pipeline) -> Path:
    return Path(pipeline.finetuned["run"])


def copied(run: Path, folder: Path, *, noise: float = 0.0, **data: Any) -> Path:
    """A run like another, whose last layer is a little worse, and whose photos are others."""
    shutil.copytree(run, folder)
    with safe_open(folder / MODEL_FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    tensors["segmentation_head.0.bias"] += noise
    header["data"] = json.dumps(json.loads(header["data"]) | data)
    save_file(tensors, folder / MODEL_FILE, header)
    text = (folder / "config.yaml").read_text()
    for name, value in data.items():
        before = next(line for line in text.splitlines() if line.strip().startswith(f"{name}:"))
        text = text.replace(before, f"  {name}: {value}")
    (folder / "config.yaml").write_text(text)
    if data:
        run_folders.record(run_folders.Run(folder), test_hash=None)
    return folder


@pytest.fixture(scope="module")
def other(run, tmp_path_factory) -> Path:
    return copied(run, tmp_path_factory.mktemp("other") / "runs" / "finetune" / "other", noise=0.5, data_ratio=0.5)


@pytest.fixture(scope="module")
def compared(run, other, tmp_path_factory) -> dict[str, Any]:
    return evaluating(tmp_path_factory.mktemp("compared"), run, other)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_two_models_are_compared_on_the_same_images(compared, run, other):
    first, second = compared["models"]
    assert (first["run"], second["run"]) == (str(run), str(other)) and compared["baseline"] == first["name"]
    assert first["test_hash"] == second["test_hash"]
    found = compared["differences"]["other"]["iou"]
    assert found["value"] == pytest.approx(second["metrics"]["iou"] - first["metrics"]["iou"])
    low, high = found["interval"]
    assert low <= found["value"] <= high
    assert compared["missed"] == []
    assert summary(compared)["table"] == compared["table"] and "**" not in json.dumps(compared["table"])
    assert (0, "IoU") in summary(compared)["best"]  # the rows are sorted by it


def test_a_comparison_leaves_its_table_its_plot_and_the_files_of_each_model(compared):
    report = Path(compared["report"])
    assert report.name == "comparison"
    rows = table(report / "comparison.csv")
    assert [float(row["iou"]) for row in rows] == sorted(
        (m["metrics"]["iou"] for m in compared["models"]), reverse=True
    )
    lines = (report / "comparison.md").read_text().splitlines()
    assert len(lines) == 4 and "**" in lines[2]
    assert (report / "data_ratio.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((report / "metrics.json").read_text())
    assert [model["metrics"] for model in stored["models"]] == [model["metrics"] for model in compared["models"]]
    for model in compared["models"]:
        images = table(report / model["name"] / "per_image.csv")
        assert len(images) == model["n"]
        mean = np.mean([float(row["boundary_iou"]) for row in images])
        assert mean == pytest.approx(model["mean_over_images"]["boundary_iou"]["value"])
        classes = table(report / model["name"] / "per_class.csv")
        assert [row["class"] for row in classes] == ["background", "figure"]
        assert float(classes[1]["iou"]) == pytest.approx(model["metrics"]["iou"])
        assert sum(
            int(row["background"]) + int(row["figure"]) for row in table(report / model["name"] / "confusion.csv")
        )


def test_the_time_of_pretraining_and_of_finetuning_is_known(compared, pipeline):
    def seconds(folder: str) -> float:
        return sum(float(row["seconds"]) for row in table(Path(folder) / "timing.csv"))

    # the other one lies under another folder of runs, but what it was made from is looked up in that of the command
    first = evaluating(pipeline.runs, pipeline.finetuned["run"])
    assert first["finetuning_seconds"] == pytest.approx(seconds(pipeline.finetuned["run"]))
    assert first["pretraining_seconds"] == pytest.approx(seconds(pipeline.pretrained["run"]))
    assert compared["models"][0]["pretraining_seconds"] is None  # under these runs there is no such pretraining


def test_the_baseline_can_be_chosen(run, other, compared, tmp_path):
    result = evaluating(tmp_path, run, other, baseline="other")
    assert result["baseline"] == "other"
    ours, theirs = result["differences"][run.name]["iou"], compared["differences"]["other"]["iou"]
    assert ours["value"] == pytest.approx(-theirs["value"])
    with pytest.raises(UsageError, match=r"--baseline othr is none of the models: did you mean 'other'"):
        evaluating(tmp_path, run, other, baseline="othr")


@pytest.mark.parametrize(
    ("data", "reason"), [({"split_seed": 1}, "split seed 0 and 1"), ({"test_split": "random"}, None)]
)
def test_runs_that_were_scored_on_other_images_are_refused_with_the_reason(run, tmp_path, data, reason):
    moved = copied(run, tmp_path / "a" / "finetune" / "moved", **data)
    if reason is None:  # the same photos by another word
        assert evaluating(tmp_path / "b", run, moved)["models"][1]["n"] > 0
        return
    with pytest.raises(DataError, match=rf"{run.name} and moved are not scored on the same images \({reason}\)"):
        evaluating(tmp_path / "b", run, moved)
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_scored_is_refused_before_anything_is_written(run, tmp_path):
    bare = copied(run, tmp_path / "a" / "finetune" / "bare")
    (bare / MODEL_FILE).unlink()
    with pytest.raises(RunError, match=r"'bare' holds no model.safetensors"):
        evaluating(tmp_path / "b", run, bare)
    with pytest.raises(UsageError, match="is named twice"):
        evaluating(tmp_path / "b", run, run)
    with pytest.raises(UsageError, match=r"has no miou: did you mean 'iou'"):
        evaluating(tmp_path / "b", run, minimum=["miou=0.5"])
    with pytest.raises(UsageError, match=r"has no top5: choose from iou, f1, .*accuracy, boundary_iou$"):
        evaluating(tmp_path / "b", run, minimum=["top5=0.5"])
    assert not (tmp_path / "b").exists()


def test_a_gate_that_is_not_met_says_value_and_interval(run, tmp_path):
    result = evaluating(tmp_path, run, minimum=["iou=0.999", "iou=0", "accuracy=0.01"])  # the stricter one counts
    value, (low, high) = result["metrics"]["iou"], result["intervals"]["iou"]
    assert result["missed"] == [f"iou of {run.name} is {value:.4f} [{low:.4f}, {high:.4f}], less than 0.999"]


def test_a_gate_of_a_metric_without_a_value_says_so():
    model = segmented(1)
    report = Report(Path(), (replace(model, metrics={"iou": Estimate(float("nan"))}),))
    assert _missed(report, {"iou": 0.1}) == ["iou of run has no value"]


def test_no_folder_of_a_model_takes_the_place_of_a_file_of_the_report(compared, tmp_path):
    own = [path.name for path in Path(compared["report"]).iterdir() if path.is_file() or path.name == "worst"]
    assert len(own) >= 8 and all(OWN.fullmatch(name) for name in own)
    models = tuple(segmented(1, name=name, path=Path("runs", name)) for name in ("report.html", "Worst", "metrics"))
    folders = [_folder_of(model, Report(tmp_path, models)).name for model in models]
    assert folders == ["1-report", "2-Worst", "metrics"]


@pytest.mark.parametrize("text", ["bce=0.5", "iou", "iou=high", "iou=2", "iuo=0.5"])
def test_a_gate_that_means_nothing_is_refused(text):
    with pytest.raises(UsageError, match="minimum"):
        parse_config(EvaluateConfig, {"data": {"minimum": [text]}})


def test_the_best_threshold_stands_beside_the_headline(run, tmp_path):
    test = evaluating(tmp_path, run)
    best = test["best_threshold"]
    assert test["threshold"] == 0.5 and 0 < best["threshold"] < 1 and best["validation_photos"] == 10
    validated = evaluating(tmp_path, run, split="validation")
    assert validated["best_threshold"]["threshold"] == best["threshold"]
    assert validated["best_threshold"]["iou"]["value"] >= validated["metrics"]["iou"]
    assert "best_threshold" not in evaluating(tmp_path, run, split="train")


def test_the_training_resolution_is_that_of_the_run(run, pipeline, tmp_path):
    result = evaluating(tmp_path, run, at="training")
    expected = pipeline.finetuned["test"]["training"]["metrics"]
    assert {name: result["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert result["resolution"] == "training"


def write_photos(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), rng.integers(0, 256, (32, 32, 3), np.uint8))
        mask = np.zeros((32, 32), np.uint8)
        mask[:8, :8] = 255 * (number > 0)
        cv2.imwrite(str(folder / "masks" / f"{number}.png"), mask)
    return folder


def test_one_image_has_no_interval_and_that_is_said(run, tmp_path, caplog):
    result = evaluating(tmp_path / "runs", run, dataset=str(write_photos(tmp_path / "photos", 5)))
    assert result["n"] == 1 and set(result["intervals"].values()) == {None}
    assert "one image says nothing about others" in caplog.text
    assert summary(result)["metrics"][0]["95 % interval"] == "-"
    stored = json.loads((Path(result["report"]) / "metrics.json").read_text())  # NaN is no JSON
    assert stored["per_class"][0]["iou_low"] is None


def test_empty_masks_are_counted(run, tmp_path):
    photos = str(write_photos(tmp_path / "photos", 20))
    result = evaluating(tmp_path / "runs", run, dataset=photos, split="all", empty="0")
    assert (result["empty_masks"], result["empty"], result["n"]) == (1, "0", 20)


def test_a_file_without_metadata_needs_classes_and_size(run, tmp_path):
    model = onnx.load(run / ONNX_FILE)
    del model.metadata_props[:]
    bare = tmp_path / "bare.onnx"
    onnx.save(model, bare)
    for data in ({}, {"classes": ["background", "figure"]}, {"size": 64}):
        with pytest.raises(ModelFileError, match="does not say what it is of: pass --classes and --size"):
            evaluating(tmp_path / "runs", bare, dataset="shapes", **data)
    known = {"classes": ["background", "figure"], "size": 64}
    with pytest.raises(DataError, match="name some with --dataset"):
        evaluating(tmp_path / "runs", bare, **known)
    result = evaluating(tmp_path / "runs", bare, dataset="shapes", **known)
    expected = evaluating(tmp_path / "runs", run)
    assert result["metrics"] == pytest.approx(expected["metrics"], abs=1e-3)
    assert result["best_threshold"]["threshold"] == pytest.approx(expected["best_threshold"]["threshold"], abs=0.05)


def bare(model: onnx.ModelProto, path: Path, *, stated: bool = True) -> Path:
    """A file without metadata, whose outputs state their number of classes or leave it open."""
    classes = model.graph.output[0].type.tensor_type.shape.dim
    if not stated and len(classes) != 3:
        classes[1].dim_param = "k"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize(
    ("model", "given", "names"), [(brightness(2), 2, 3), (brightness(3), 3, 2), (dominant_band(), 3, 4)]
)
def test_a_file_that_gives_other_classes_than_were_named_is_refused(tmp_path, model, given, names, stated):
    path = bare(model, tmp_path / "f.onnx", stated=stated)
    with pytest.raises(ModelFileError, match=rf"f\.onnx gives {given} classes and --classes names {names}$"):
        open_exported(path, "cpu", classes=[str(number) for number in range(names)], size=16)
    _, metadata = open_exported(path, "cpu", classes=[str(number) for number in range(given)], size=16)
    assert len(metadata.classes) == given


def test_a_file_with_other_tensors_is_told_which_it_needs(tmp_path):
    model = dominant_band()
    model.graph.node[-1].output[0] = model.graph.output[1].name = "class"
    path = bare(model, tmp_path / "f.onnx")
    with pytest.raises(ModelFileError, match=r"tensors class, image, probability: .* probability, and mask or label"):
        open_exported(path, "cpu", classes=["a", "b", "c"], size=16)
    with pytest.raises(ModelFileError, match="was not exported by simclrseg"):
        open_exported(path, "cpu")


def test_pictures_of_absurd_size_are_refused():
    with pytest.raises(UsageError, match="8192"):
        parse_config(EvaluateConfig, {"data": {"size": 100_000}})


def test_a_run_and_its_file_are_compared(run, tmp_path):
    result = evaluating(tmp_path, run, run / ONNX_FILE)
    assert [model["name"] for model in result["models"]] == [run.name, "model"]
    assert result["differences"]["model"]["iou"]["value"] == pytest.approx(0, abs=1e-3)
