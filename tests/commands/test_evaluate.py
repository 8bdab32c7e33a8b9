"""`evaluate` on one model and on several, on what cannot be compared, and on files that say nothing of themselves."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from simclrseg.cli.summary import summary
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.data.split_file import SPLIT_FILE
from simclrseg.errors import DataError, ModelFileError, RunError, UsageError
from simclrseg.evaluation.opened import open_exported
from simclrseg.evaluation.results import Report
from simclrseg.evaluation.scored import OWN
from simclrseg.knobs.parsing import parse_config
from simclrseg.runs.names import MODEL_FILE, ONNX_FILE
from simclrseg.runs.run import Run, record_facts
from simclrseg.scores.gallery import WORST
from simclrseg.targets.base import elsewhere
from tests.exporters.small import with_props
from tests.folders import write_colours, write_pairs
from tests.inference.models import brightness, dominant_band
from tests.small import evaluated, evaluation


@pytest.fixture(scope="module")
def run(pipeline) -> Path:
    return pipeline.finetuned.run


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
        (folder / SPLIT_FILE).unlink()
        record_facts(Run(folder), test_hash=None)
    return folder


@pytest.fixture(scope="module")
def other(run, tmp_path_factory) -> Path:
    return copied(run, tmp_path_factory.mktemp("other") / "runs" / "finetune" / "other", noise=0.5, data_ratio=0.7)


@pytest.fixture(scope="module")
def comparison(run, other, tmp_path_factory) -> Report:
    return evaluation(tmp_path_factory.mktemp("compared"), run, other)


@pytest.fixture(scope="module")
def compared(comparison) -> dict[str, Any]:
    return comparison.facts()


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_two_models_are_compared_on_the_same_images(comparison, compared, run, other):
    first, second = compared["models"]
    assert (first["run"], second["run"]) == (str(run), str(other)) and compared["baseline"] == first["name"]
    assert first["test_hash"] == second["test_hash"]
    found = compared["differences"]["other"]["iou"]
    assert found["value"] == pytest.approx(second["metrics"]["iou"] - first["metrics"]["iou"])
    low, high = found["interval"]
    assert low <= found["value"] <= high
    assert compared["missed"] == []
    shown = summary(comparison)
    assert shown["table"] == compared["table"] and "**" not in json.dumps(compared["table"])
    assert (0, "IoU") in shown["best"]  # the rows are sorted by it


def test_a_comparison_leaves_its_table_its_plot_and_the_files_of_each_model(compared):
    report = Path(compared["report"])
    assert report.name == "comparison"
    rows = table(report / "comparison.csv")
    assert [float(row["iou"]) for row in rows] == sorted(
        (m["metrics"]["iou"] for m in compared["models"]), reverse=True
    )
    lines = (report / "comparison.md").read_text().splitlines()
    assert len(lines) == 10 and "**" in lines[2] and lines[4].startswith("| (without learning) | - |")
    assert lines[6] == "95 % intervals over 102 test photos, not over trainings"
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


def reseeded(run: Path, folder: Path, *, seed: int, noise: float) -> Path:
    """A run like another, of another seed, whose last layer differs a little."""
    copied(run, folder, noise=noise)
    text = (folder / "config.yaml").read_text()
    assert "  seed: 0\n" in text
    (folder / "config.yaml").write_text(text.replace("  seed: 0\n", f"  seed: {seed}\n"))
    return folder


@pytest.fixture(scope="module")
def seeds(run, other, tmp_path_factory) -> Report:
    """Three runs of one recipe, and one of another."""
    folder = tmp_path_factory.mktemp("seeds") / "runs" / "finetune"
    more = [reseeded(run, folder / f"{run.name}-{n}", seed=n, noise=0.3 * n) for n in (1, 2)]
    return evaluation(tmp_path_factory.mktemp("grouped"), run, *more, other)


def test_runs_that_differ_by_their_seed_are_one_recipe(seeds, run):
    found = seeds.facts()
    recipe, single = sorted(found["groups"], key=lambda group: -len(group["models"]))
    assert recipe["name"] == run.name and recipe["models"] == [run.name, f"{run.name}-1", f"{run.name}-2"]
    values = [model["metrics"]["iou"] for model in found["models"][:3]]
    assert recipe["metrics"]["iou"]["value"] == pytest.approx(np.mean(values))
    assert recipe["metrics"]["iou"]["spread"] == pytest.approx(np.std(values, ddof=1))
    ends = [recipe["metrics"]["iou"]["interval"], found["models"][0]["intervals"]["iou"]]
    assert np.diff(ends[0]) > np.diff(ends[1])  # it is over seeds too
    assert single["baseline"] == run.name and single["verdict"] in ("likely worse", "cannot tell")
    assert single["differences"]["iou"]["value"] == pytest.approx(
        found["models"][3]["metrics"]["iou"] - np.mean(values)
    )


def test_a_comparison_ends_in_a_sentence_that_says_what_it_covers(seeds, comparison, run):
    sentence, covered, warned = seeds.verdicts
    assert re.match(rf"(other is likely worse than|whether other is better than) {run.name}", sentence)
    assert covered == "intervals of recipes are over 102 test photos and 1 or 3 seeds"
    assert warned == "one seed proves nothing about a recipe: train several, as with --vary seed=0,1,2"
    for text in (sentence, covered, warned):
        assert text in (seeds.folder / "comparison.md").read_text()
        assert text in html.unescape((seeds.folder / "report.html").read_text())
        assert text in summary(seeds)["verdicts"]
    assert comparison.verdicts[-1] == f"{warned}; intervals are over 102 test photos alone"
    assert [row["seeds"] for row in seeds.recipes] == ["3", "1"]


def test_the_time_of_pretraining_and_of_finetuning_is_known(compared, pipeline):
    def seconds(folder: str) -> float:
        return sum(float(row["seconds"]) for row in table(Path(folder) / "timing.csv"))

    first = evaluated(pipeline.runs, pipeline.finetuned.run)
    assert first["finetuning_seconds"] == pytest.approx(seconds(pipeline.finetuned.run))
    assert first["pretraining_seconds"] == pytest.approx(seconds(pipeline.pretrained.run))
    for model in compared["models"]:  # under other runs than theirs: a run knows the file that it began with
        assert model["pretraining_seconds"] == first["pretraining_seconds"]


def test_the_baseline_can_be_chosen(run, other, compared, tmp_path):
    result = evaluated(tmp_path, run, other, baseline="other")
    assert result["baseline"] == "other"
    ours, theirs = result["differences"][run.name]["iou"], compared["differences"]["other"]["iou"]
    assert ours["value"] == pytest.approx(-theirs["value"])
    with pytest.raises(UsageError, match=r"--baseline othr is none of the models: did you mean 'other'"):
        evaluated(tmp_path, run, other, baseline="othr")


@pytest.mark.parametrize(
    ("data", "reason"), [({"test_split": "random"}, "test split official and random"), ({"split_seed": 1}, None)]
)
def test_runs_that_were_scored_on_other_images_are_refused_with_the_reason(run, tmp_path, data, reason):
    moved = copied(run, tmp_path / "a" / "finetune" / "moved", **data)
    if reason is None:  # the same photos: a list has no seed
        assert evaluated(tmp_path / "b", run, moved)["models"][1]["n"] > 0
        return
    with pytest.raises(DataError, match=rf"{run.name} and moved are not scored on the same images \({reason}\)"):
        evaluated(tmp_path / "b", run, moved)
    assert not (tmp_path / "b").exists()


def test_what_cannot_be_scored_is_refused_before_anything_is_written(run, tmp_path):
    bare = copied(run, tmp_path / "a" / "finetune" / "bare")
    (bare / MODEL_FILE).unlink()
    with pytest.raises(RunError, match=r"'bare' holds no model.safetensors"):
        evaluated(tmp_path / "b", run, bare)
    with pytest.raises(UsageError, match="is named twice"):
        evaluated(tmp_path / "b", run, run)
    with pytest.raises(UsageError, match="is named twice"):
        evaluated(tmp_path / "b", run, os.path.relpath(run))
    with pytest.raises(UsageError, match=r"has no miou; did you mean 'iou'"):
        evaluated(tmp_path / "b", run, minimum=["miou=0.5"])
    with pytest.raises(UsageError, match=r"has no top5; choose from iou, f1, .*accuracy, boundary_iou$"):
        evaluated(tmp_path / "b", run, minimum=["top5=0.5"])
    assert not (tmp_path / "b").exists()


def test_a_run_whose_folder_is_called_as_no_run_can_be_is_scored(run, tmp_path):
    moved = copied(run, tmp_path / "a" / "finetune" / "my run, the 2nd")
    result = evaluated(tmp_path / "runs", moved)
    assert result["name"] == "my run, the 2nd" and Path(result["report"]).name == "my-run-the-2nd"


def test_a_gate_that_is_not_met_says_value_and_interval(run, tmp_path):
    result = evaluated(tmp_path, run, minimum=["iou=0.999", "iou=0", "accuracy=0.01"])  # the stricter one counts
    value, (low, high) = result["metrics"]["iou"], result["intervals"]["iou"]
    assert result["missed"] == [f"iou of {run.name} is {value:.4f} [{low:.4f}, {high:.4f}], less than 0.999"]


def test_a_gate_of_a_metric_without_a_value_says_so(run, tmp_path):
    blind = copied(run, tmp_path / "a" / "finetune" / "blind", noise=-1000.0)  # finds nothing, where nothing is
    photos = write_photos(tmp_path / "photos", 4)
    (photos / "test.txt").write_text("0\n")
    result = evaluated(tmp_path, blind, dataset=str(photos), empty="nan", minimum=["iou=0.1", "accuracy=0.1"])
    assert result["missed"] == ["iou of blind has no value"]


def test_no_folder_of_a_model_takes_the_place_of_a_file_of_the_report(compared, run, tmp_path):
    own = [path.name for path in Path(compared["report"]).iterdir() if path.is_file() or path.name == "worst"]
    assert len(own) >= 8 and all(OWN.fullmatch(name) for name in own)
    models = [copied(run, tmp_path / "finetune" / name) for name in ("report.html", "Worst", "metrics")]
    photos = write_photos(tmp_path / "photos", 10)
    report = Path(evaluated(tmp_path, *models, dataset=str(photos))["report"])
    assert [path.parent.name for path in sorted(report.glob("*/per_image.csv"))] == ["1-report", "2-Worst", "metrics"]
    assert (report / "report.html").is_file() and (report / "worst").is_dir()


@pytest.mark.parametrize("text", ["bce=0.5", "iou", "iou=high", "iou=2", "iuo=0.5"])
def test_a_gate_that_means_nothing_is_refused(text):
    with pytest.raises(UsageError, match="minimum"):
        parse_config(EvaluateConfig, {"data": {"minimum": [text]}})


def test_the_best_threshold_stands_beside_the_headline(run, tmp_path):
    test = evaluated(tmp_path, run)
    best = test["best_threshold"]
    assert test["threshold"] == 0.5 and 0 < best["threshold"] < 1 and best["validation_photos"] == 20
    validated = evaluated(tmp_path, run, split="validation")
    assert validated["best_threshold"]["threshold"] == best["threshold"]
    assert validated["best_threshold"]["iou"]["value"] >= validated["metrics"]["iou"]
    assert "best_threshold" not in evaluated(tmp_path, run, split="train")


def test_few_validation_photos_choose_no_threshold(run, tmp_path, caplog):
    result = evaluated(tmp_path, copied(run, tmp_path / "a" / "finetune" / "few", data_ratio=0.4))
    line = "16 validation photos are too few to choose a threshold by, so it stays 0.5: add photos"
    assert "best_threshold" not in result and f"few: {line}" in caplog.text
    assert f"Doubt: {line}" in (Path(result["report"]) / "report.html").read_text()


def test_what_costs_nothing_stands_beside_every_score(run, compared, tmp_path):
    report = evaluation(tmp_path, run)
    result, shown = report.facts(), summary(report)
    matrix = table(Path(result["report"]) / "confusion.csv")
    pixels = [sum(int(row[name]) for name in ("background", "figure")) for row in matrix]
    free = result["without_learning"]
    assert free["iou"] == pixels[1] / sum(pixels) and free["accuracy"] == pixels[0] / sum(pixels)
    assert shown["metrics"][0]["without learning"] == f"{free['iou']:.4f}"
    assert shown["metrics"][-1]["without learning"] == "-"  # of losses nothing is known
    assert shown["intervals"] == "95 % intervals over 102 test photos, not over trainings"
    page = (Path(result["report"]) / "report.html").read_text()
    assert f">All metrics, with {shown['intervals']}<" in page and f">{free['iou']:.4f}<" in page
    assert (
        compared["table"][-1]["name"] == "(without learning)" and compared["table"][-1]["IoU"] == f"{free['iou']:.4f}"
    )


def test_a_model_that_finds_everything_everywhere_is_doubted(run, tmp_path, caplog):
    result = evaluated(tmp_path, copied(run, tmp_path / "a" / "finetune" / "all", noise=1000.0))
    free = f"{result['without_learning']['iou']:.4f}"
    line = f"IoU {free} is not above {free}, what the same class for all pixels gives"
    assert f"all: {line}" in caplog.text and f"Doubt: {line}" in (Path(result["report"]) / "report.html").read_text()


def test_the_training_resolution_is_that_of_the_run(run, pipeline, tmp_path):
    result = evaluated(tmp_path, run, at="training")
    expected = pipeline.finetuned.test["training"]["metrics"]
    assert {name: result["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert result["resolution"] == "training"


def test_models_that_see_photos_at_other_sizes_are_not_compared_at_these(run, tmp_path):
    other = copied(run, tmp_path / "a" / "finetune" / "larger")
    with safe_open(other / MODEL_FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    side = int(header["image_size"])
    save_file(tensors, other / MODEL_FILE, header | {"image_size": str(2 * side)})
    message = f"at {side} px, squash and larger at {2 * side} px, squash: .*; leave out --at training"
    with pytest.raises(DataError, match=message):
        evaluated(tmp_path / "runs", run, other, at="training")
    assert len(evaluated(tmp_path / "runs", run, other)["models"]) == 2


def write_photos(folder: Path, count: int, *, first: int = 0) -> Path:
    """Photos with masks, of which that of photo 0 is empty."""
    rng = np.random.default_rng(0)
    pairs = {}
    for number in range(first, first + count):
        mask = np.zeros((32, 32), np.uint8)
        mask[:8, :8] = 255 * (number > 0)
        pairs[str(number)] = rng.integers(0, 256, (32, 32, 3), np.uint8), mask
    return write_pairs(folder, pairs)


def test_one_image_has_no_interval_and_that_is_said(run, tmp_path, caplog):
    found = evaluation(tmp_path / "runs", run, dataset=str(write_photos(tmp_path / "photos", 5)))
    result = found.facts()
    assert result["n"] == 1 and set(result["intervals"].values()) == {None}
    assert "one image says nothing about others" in caplog.text
    assert summary(found)["metrics"][0]["95 % interval"] == "-"
    stored = json.loads((Path(result["report"]) / "metrics.json").read_text())  # NaN is no JSON
    assert stored["per_class"][0]["iou_low"] is None


def test_a_run_and_its_file_are_scored_on_others_by_the_same_rules(run, tmp_path):
    """Rules that mean nothing for other photos are none of the user's doing, and stop nothing."""
    rules = {"fold": "1/3", "group_by": "^shape", "border": "ignore", "split_seed": 1}
    moved = copied(run, tmp_path / "a" / "finetune" / "moved", **rules)
    file = with_props(run / ONNX_FILE, tmp_path / "m.onnx", data={**rules, "dataset": "hf:a/b", "image_column": "x"})
    photos = str(write_photos(tmp_path / "photos", 20))
    result = evaluated(tmp_path / "runs", moved, file, dataset=photos)
    first, second = result["models"]
    assert first["test_hash"] == second["test_hash"] and first["n"] == second["n"] == 4


def test_a_run_whose_photos_have_gone_is_scored_on_others(run, tmp_path):
    moved = copied(run, tmp_path / "a" / "finetune" / "moved", dataset="/gone/photos")
    photos = str(write_photos(tmp_path / "photos", 20))
    assert evaluated(tmp_path / "runs", moved, dataset=photos)["n"] == 4
    with pytest.raises(DataError, match="/gone/photos: no such folder"):
        evaluated(tmp_path / "runs", moved)


def test_another_dataset_keeps_the_rules_that_it_has_a_use_for(tmp_path):
    own = {"test_split": "random", "split_seed": 3, "classes": ["a"], "border": "class", "classes_file": "c.yaml"}
    own |= {"image_column": "x", "label_column": "y", "fold": "1/3", "data_ratio": 0.5, "group_by": "a"}
    columns = {"image_column", "label_column"}

    def kept(dataset: str) -> set[str]:
        data = elsewhere(own, dataset)
        assert data.dataset == dataset
        return data.model_fields_set - {"dataset", "classes"}

    assert kept("voc") == set() and kept("oxford_pets") == {"border"}
    assert kept("hf:owner/name") == {"classes_file", *columns} and kept(str(tmp_path)) == {"classes_file"}


def test_another_dataset_is_split_in_the_same_way_for_every_model(run, tmp_path):
    moved = copied(run, tmp_path / "a" / "finetune" / "moved", split_seed=3, test_split="random")
    photos = str(write_photos(tmp_path / "photos", 20))
    first, second = evaluated(tmp_path / "runs", run, moved, dataset=photos)["models"]
    assert first["test_hash"] == second["test_hash"]
    own = {"dataset": "shapes", "split_seed": 3, "test_split": "random"}  # whose usual test photos may have trained it
    assert elsewhere(own, "shapes").model_dump(include=set(own)) == own


def test_a_models_own_folder_keeps_its_groups_and_its_test_photos_however_it_is_spelled(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    own = {"dataset": "photos", "split_seed": 3, "test_split": 0.3, "group_by": "^[^/]+"}
    for name in ("photos", "photos/", "./photos", str(tmp_path / "photos")):
        assert elsewhere(own, name).model_dump(include=set(own)) == own | {"dataset": name}
    (tmp_path / "voc").mkdir()
    assert elsewhere({**own, "dataset": "voc"}, "./voc").split_seed == 0  # a folder of that name is not the set


@pytest.mark.parametrize("count", [1, 2])
def test_photos_too_few_for_a_split_are_scored_all_together(run, tmp_path, count):
    photos = str(write_photos(tmp_path / "photos", count, first=1))
    for model in (run, run / ONNX_FILE):
        assert evaluated(tmp_path / "runs", model, dataset=photos, split="all")["n"] == count
        with pytest.raises(DataError, match="the test part of photos is empty: score all its photos with --split all"):
            evaluated(tmp_path / "runs", model, dataset=photos)


def test_lists_may_leave_nothing_to_train_or_to_test_with(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 4)
    (photos / "test.txt").write_text("".join(f"{number}\n" for number in range(4)))
    assert evaluated(tmp_path / "runs", run, dataset=str(photos))["n"] == 4
    (photos / "test.txt").write_text("")
    assert evaluated(tmp_path / "runs", run, dataset=str(photos), split="all")["n"] == 4


def test_scores_of_photos_that_trained_a_model_say_so(run, tmp_path, caplog):
    of_train = evaluation(tmp_path / "runs", run, split="train")
    train = of_train.facts()
    warning = "photos to be scored were trained on by"
    assert train["photos_trained_on"] == train["n"] == summary(of_train)["photos_trained_on"]
    assert f"{train['n']} of {train['n']} {warning} {run.name}" in caplog.text
    assert "photos trained on" in (Path(train["report"]) / "report.html").read_text()
    caplog.clear()
    found = evaluated(tmp_path / "runs", run, split="all")
    assert found["photos_trained_on"] == train["n"] < found["n"] and warning in caplog.text
    caplog.clear()
    assert "photos_trained_on" not in evaluated(tmp_path / "runs", run) and warning not in caplog.text


def test_a_comparison_tells_whose_findings_are_whose(comparison, run, other, tmp_path, caplog):
    with caplog.at_level("INFO"):
        photos = str(write_photos(tmp_path / "photos", 6, first=1))
        sections = {"uncertainty": {"ood": [photos]}, "features": {"embed": "pca"}}
        found = evaluation(tmp_path / "runs", run, other, sections=sections)
    lines = [record.getMessage() for record in caplog.records]
    heads = [lines.index(f"findings of {name}:") for name in (run.name, "other")]
    told = [number for number, line in enumerate(lines) if "told apart by image" in line]
    assert heads[0] < told[0] < heads[1] < told[1]
    rows = summary(found)["findings"]
    assert [row["name"] for row in rows] == [run.name, "other"]
    assert list(rows[0]) == ["name", "ECE", "Brier", f"AUROC of {photos} by msp", "silhouette"]
    assert rows[1]["ECE"] == f"{found.models[1].findings['calibration'].confidences.ece:.4f}"
    assert list(summary(comparison)["findings"][0]) == ["name", "ECE", "Brier"]


def test_a_baseline_may_be_called_as_it_was_typed(run, tmp_path):
    first, second = (copied(run, tmp_path / place / "finetune" / "same") for place in "ab")
    result = evaluated(tmp_path / "a", "same", second, baseline="same")
    assert result["baseline"] == str(first)


def test_a_segmenter_is_told_how_photos_without_masks_are_learned(run, tmp_path):
    photos = write_colours(tmp_path / "photos", {"blue": 3, "red": 3})
    command = f"`simclrseg finetune --task classify --dataset {photos}`"
    with pytest.raises(DataError, match=f"{command} learns a class for each photo"):
        evaluated(tmp_path / "runs", run, dataset=str(photos))


def test_empty_masks_are_counted(run, tmp_path):
    photos = str(write_photos(tmp_path / "photos", 20))
    result = evaluated(tmp_path / "runs", run, dataset=photos, split="all", empty="0")
    assert (result["empty_masks"], result["empty"], result["n"]) == (1, "0", 20)


def test_masks_of_which_every_pixel_is_ignored_are_no_score(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 12)
    for file in (photos / "masks").iterdir():
        mask = np.zeros((32, 32), np.uint8)
        mask[:8], mask[8:16] = 1, 255
        cv2.imwrite(str(file), mask)
    (model,) = evaluation(tmp_path / "runs", run, dataset=str(photos)).models
    for key in model.scores.keys:
        cv2.imwrite(str(photos / "masks" / Path(key).name), np.full((32, 32), 255, np.uint8))
    with pytest.raises(DataError, match=r"^every pixel of the 2 masks to be scored of .* is ignored: mark what they"):
        evaluated(tmp_path / "none", run, dataset=str(photos))
    assert not (tmp_path / "none").exists()


def test_a_file_without_metadata_needs_classes_and_size(run, tmp_path):
    model = onnx.load(run / ONNX_FILE)
    del model.metadata_props[:]
    bare = tmp_path / "bare.onnx"
    onnx.save(model, bare)
    for data in ({}, {"classes": ["background", "figure"]}, {"size": 32}):
        with pytest.raises(ModelFileError, match="does not say what it is of: pass --classes and --size"):
            evaluated(tmp_path / "runs", bare, dataset="shapes", **data)
    known = {"classes": ["background", "figure"], "size": 32}
    with pytest.raises(DataError, match="name some with --dataset"):
        evaluated(tmp_path / "runs", bare, **known)
    result = evaluated(tmp_path / "runs", bare, dataset="shapes", **known)
    for data in (known, {"size": 32}):
        with pytest.raises(UsageError, match="what it is of, and here is none: leave them out"):
            evaluated(tmp_path / "runs", run, run / ONNX_FILE, **data)
    expected = evaluated(tmp_path / "runs", run)
    assert result["metrics"] == pytest.approx(expected["metrics"], abs=1e-3)
    validated = evaluated(tmp_path / "runs", bare, dataset="shapes", split="validation", **known)
    assert validated["best_threshold"]["threshold"] == result["best_threshold"]["threshold"]
    assert validated["best_threshold"]["iou"]["value"] >= validated["metrics"]["iou"]


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


def test_a_file_of_float_pixels_is_told_what_pixels_must_be(tmp_path):
    model = dominant_band()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    path = bare(model, tmp_path / "f.onnx")
    with pytest.raises(ModelFileError, match=r"takes an image of type tensor\(float\): pixels must be tensor\(uint8\)"):
        open_exported(path, "cpu", classes=["a", "b", "c"], size=16)


def test_pictures_of_absurd_size_are_refused():
    with pytest.raises(UsageError, match="8192"):
        parse_config(EvaluateConfig, {"data": {"size": 100_000}})


def test_a_run_and_its_file_are_compared(run, tmp_path):
    result = evaluated(tmp_path, run, run / ONNX_FILE)
    assert [model["name"] for model in result["models"]] == [run.name, "model"]
    assert result["differences"]["model"]["iou"]["value"] == pytest.approx(0, abs=1e-3)


def test_evaluate_leaves_a_page_with_its_numbers_curves_and_worst_images(run, tmp_path):
    result = evaluated(tmp_path, run)
    folder = Path(result["report"])
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert f"<dd>{result['metrics']['iou']:.4f}</dd>" in text
    for title in ("Results", "Confidence and threshold", "Worst images", "Training", "All images"):
        assert f">{title}</h2>" in text
    assert 1 <= len(list((folder / "worst").iterdir())) <= WORST
