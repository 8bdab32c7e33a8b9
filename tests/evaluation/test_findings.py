"""What `evaluate` finds beside the scores: calibration, strangers, features, and what a backbone is good for."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from simclrseg.cli.summary import summary
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.errors import DataError, RunError, UsageError
from simclrseg.evaluation.detection import energy
from simclrseg.evaluation.results import Report
from simclrseg.knobs.parsing import parse_config
from simclrseg.runs.run import Run, record_facts
from simclrseg.scores.confidences import Confidences
from simclrseg.targets.classify.target import ClassificationTarget
from tests.folders import write_colours
from tests.small import Pipeline, classifying, evaluated, evaluation


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("findings")


@pytest.fixture(scope="module")
def classifier(root) -> dict[str, Any]:
    from simclrseg.commands.finetune import finetune

    folder = write_colours(root / "photos", {"blue": 24, "green": 24, "red": 24})
    return finetune(
        classifying(root / "runs", data={"dataset": str(folder)}, training={"epochs": 3}, dropout=0.2, backbone="cnn")
    )


@pytest.fixture(scope="module")
def strangers(root) -> Path:
    """Photos of plain grey, whose classes have no meaning."""
    folder = root / "strangers"
    folder.mkdir()
    for number in range(12):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 32, 3), 20 * number, np.uint8))
    return folder


EMBED = {"features": {"embed": "pca"}}


def outside(*photos: object, **knobs: int) -> dict[str, dict[str, Any]]:
    """The section that compares with other photos."""
    return {"uncertainty": {"ood": list(map(str, photos)), **knobs}}


@pytest.fixture(scope="module")
def report(root, classifier, strangers) -> Report:
    return evaluation(root / "runs", classifier.run, sections={**outside(strangers, mc_samples=4), **EMBED})


@pytest.fixture(scope="module")
def classified(report) -> dict[str, Any]:
    return report.facts()


def test_a_classifier_is_calibrated_over_its_photos(classified):
    found = classified["calibration"]
    rows = list(csv.DictReader((Path(classified["report"]) / "per_image.csv").read_text().splitlines()))
    assert found["unit"] == "photos" and found["n"] == len(rows) == sum(row["n"] for row in found["reliability"])
    right = np.mean([int(row["correct"]) for row in rows])
    assert found["risk_at_coverage"]["1"] == pytest.approx(1 - right)
    assert found["ece"] >= abs(right - np.mean([float(row["probability"]) for row in rows])) - 1e-6
    assert (Path(classified["report"]) / "calibration.png").stat().st_size > 1000


def test_strangers_are_told_apart_as_scikit_learn_says(classified, classifier, strangers, root):
    import torch

    found = classified["ood"][str(strangers)]
    assert set(found["image"]) == {"msp", "entropy", "energy", "mutual_information"} and "pixel" not in found
    assert (found["inside"], found["outside"], found["mc_samples"]) == (classified["n"], 12, 4)
    learner, _ = ClassificationTarget.load(classifier.model)
    rows = csv.DictReader((Path(classified["report"]) / "per_image.csv").read_text().splitlines())
    files = [root / "photos" / row["image"] for row in rows]
    sets = []
    for paths in (files, sorted(strangers.iterdir())):
        photos = np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])
        with torch.inference_mode():
            sets.append(learner.logits(torch.from_numpy(photos)).numpy())
    truth, logits = np.r_[np.zeros(len(sets[0])), np.ones(len(sets[1]))], np.concatenate(sets)
    expected = {"msp": -softmax(logits, 1).max(1), "energy": energy(logits)}
    for score, values in expected.items():
        assert found["image"][score]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, values), abs=1e-6)
    low, high = found["image"]["msp"]["auroc"]["interval"]
    assert low <= found["image"]["msp"]["auroc"]["value"] <= high


def test_a_run_leaves_its_findings_in_files_and_in_the_summary(report, classified):
    folder = Path(classified["report"])
    assert {"ood.csv", "ood.png", "embedding.csv", "embedding.png"} <= {path.name for path in folder.iterdir()}
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored["ood"] == classified["ood"] and stored["embedding"] == classified["embedding"]
    page = (folder / "report.html").read_text()
    assert len(re.findall('alt="(Out of distribution|Features) of ', page)) == 2
    shown = summary(report)
    assert shown["calibration"].startswith("ECE 0.") and len(shown["ood"]) == 4


def test_features_are_drawn_before_and_after_training(classified):
    found = classified["embedding"]
    assert set(found["silhouette"]) == {"before pretraining", "after fine-tuning"}  # it began with none
    assert found["silhouette"]["after fine-tuning"] > found["silhouette"]["before pretraining"]
    rows = list(csv.DictReader((Path(classified["report"]) / "embedding.csv").read_text().splitlines()))
    assert len(rows) == found["n"] == classified["n"] and {row["class"] for row in rows} == {"blue", "green", "red"}


def test_an_exported_file_gives_probabilities_scores_only(root, classifier, classified, strangers):
    found = evaluated(root / "runs", classifier.onnx, sections=outside(strangers))["ood"][str(strangers)]
    assert set(found["image"]) == {"msp", "entropy"} and found["mc_samples"] is None
    ours = classified["ood"][str(strangers)]["image"]["msp"]["auroc"]["value"]
    assert found["image"]["msp"]["auroc"]["value"] == pytest.approx(ours, abs=0.02)
    with pytest.raises(UsageError, match="an exported file has none left: name its run"):
        evaluated(root / "runs", classifier.onnx, sections=outside(strangers, mc_samples=3))
    with pytest.raises(UsageError, match="an exported file gives only answers"):
        evaluated(root / "runs", classifier.onnx, sections=EMBED)


def test_what_cannot_be_told_is_refused_before_anything_is_written(root, classifier, monkeypatch):
    before = sorted((root / "runs" / "evaluate").glob("*"))
    with pytest.raises(DataError, match="is what the model is scored on"):
        evaluated(root / "runs", classifier.run, sections=outside(root / "photos"))
    monkeypatch.setitem(sys.modules, "umap", None)
    monkeypatch.delitem(sys.modules, "simclrseg.scores.umap_projection", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'simclrseg\[umap\]'"):
        evaluated(root / "runs", classifier.run, sections={"features": {"embed": "umap"}})
    assert sorted((root / "runs" / "evaluate").glob("*")) == before


def test_features_of_too_few_photos_are_refused_before_anything_is_scored(root, classifier, pipeline, monkeypatch):
    few = write_colours(root / "few", {"blue": 2, "green": 2})
    monkeypatch.setattr(ClassificationTarget, "score", pytest.fail)
    monkeypatch.setattr("simclrseg.evaluation.probe.untrained", pytest.fail)
    for runs, model in ((root / "runs", classifier.run), (pipeline.runs, pipeline.pretrained.run)):
        asked = {"dataset": str(few), "split": "all" if model == classifier.run else "test"}
        with pytest.raises(DataError, match=r"--embed pca needs 5 photos or more, and \d are scored"):
            evaluated(runs, model, sections=EMBED, **asked)


def test_a_photo_of_each_of_two_classes_is_enough_to_score(root, classifier):
    two = write_colours(root / "two", {"blue": 1, "green": 1})
    assert evaluated(root / "runs", classifier.run, dataset=str(two), split="all")["n"] == 2


def test_strangers_are_told_apart_by_their_files_and_called_as_they_were_typed(root, classifier, strangers, tmp_path):
    namesakes = [tmp_path / place / "photos" for place in "ab"]
    for place, folder in enumerate(namesakes):
        folder.mkdir(parents=True)
        for number in range(6 + place):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 32, 3), 20 * number, np.uint8))
    found = evaluated(root / "runs", classifier.run, sections=outside(*namesakes))["ood"]
    assert {name: facts["outside"] for name, facts in found.items()} == {str(namesakes[0]): 6, str(namesakes[1]): 7}
    (tmp_path / "alias").symlink_to(root / "photos")
    with pytest.raises(DataError, match="alias is what the model is scored on, or has 72 photos of it"):
        evaluated(root / "runs", classifier.run, sections=outside(tmp_path / "alias"))


@pytest.fixture(scope="module")
def segmented(pipeline: Pipeline, strangers) -> dict[str, Any]:
    sections = {**outside(strangers), **EMBED}
    return evaluated(pipeline.runs, pipeline.finetuned.run, sections=sections)


def test_a_segmentation_is_calibrated_over_its_pixels(segmented):
    found = segmented["calibration"]
    assert found["unit"] == "pixels"
    assert found["risk_at_coverage"]["1"] == pytest.approx(1 - segmented["metrics"]["accuracy"], abs=1e-9)


def test_strangers_are_told_apart_by_image_and_by_pixel(segmented, strangers):
    found = segmented["ood"][str(strangers)]
    assert set(found["image"]) == set(found["pixel"]) == {"msp", "entropy", "energy"}
    by = {
        (level, score): found[level][score]["auroc"]["value"] for level in ("image", "pixel") for score in found[level]
    }
    assert by["pixel", "msp"] == pytest.approx(by["pixel", "entropy"], abs=1e-3)  # two classes: the same order
    assert by["pixel", "msp"] != by["image", "msp"]


def test_pretraining_stands_between_random_weights_and_fine_tuning(segmented):
    titles = ["before pretraining", "after pretraining", "after fine-tuning"]
    assert list(segmented["embedding"]["silhouette"]) == titles


def test_weights_that_are_gone_are_not_drawn_and_no_others_are(pipeline: Pipeline, tmp_path, caplog):
    assert Run(pipeline.finetuned.run).environment["pretrained_file"] == str(pipeline.pretrained.backbone)
    run = Run(Path(shutil.copytree(pipeline.finetuned.run, tmp_path / "finetune" / "shapes")))
    record_facts(run, pretrained_file=str(tmp_path / "pretrain" / "shapes-9" / "backbone.safetensors"))
    shutil.copytree(pipeline.pretrained.run, tmp_path / "pretrain" / "shapes")
    result = evaluated(tmp_path, run.folder, sections=EMBED)
    assert list(result["embedding"]["silhouette"]) == ["before pretraining", "after fine-tuning"]
    assert result["pretraining_seconds"] is None
    assert "--embed shows nothing of shapes, the weights that shapes began with: they are not at hand" in caplog.text


def test_a_model_without_dropout_has_no_mutual_information(pipeline: Pipeline, strangers):
    with pytest.raises(UsageError, match="would be exactly 0; fine-tune with --dropout"):
        evaluated(pipeline.runs, pipeline.finetuned.run, sections=outside(strangers, mc_samples=3))


def test_draws_without_other_photos_are_a_mistake():
    with pytest.raises(UsageError, match="name some with"):
        parse_config(EvaluateConfig, {"uncertainty": {"mc_samples": 3}})


def test_a_backbone_is_probed_by_labels_and_without(pipeline: Pipeline):
    found = evaluation(pipeline.runs, pipeline.pretrained.run, sections=EMBED)
    result = found.facts()
    metrics = result["metrics"]
    assert list(metrics) == ["knn_accuracy", "linear_accuracy", "alignment", "uniformity", "effective_rank"]
    assert list(result["without_learning"]) == list(metrics)
    assert result["without_learning"] != {name: metrics[name] for name in result["without_learning"]}
    assert 0 <= metrics["alignment"] <= 4 and metrics["uniformity"] < 0 and metrics["effective_rank"] > 1
    low, high = result["intervals"]["linear_accuracy"]
    assert low <= metrics["linear_accuracy"] <= high and result["intervals"]["alignment"] is None
    rows = list(csv.DictReader((Path(result["report"]) / "per_image.csv").read_text().splitlines()))
    assert np.mean([row["true"] == row["knn"] for row in rows]) == pytest.approx(metrics["knn_accuracy"])
    assert list(result["embedding"]["silhouette"]) == ["before pretraining", "after pretraining"]
    assert summary(found)["backbone"] == str(pipeline.pretrained.run)


def test_features_that_are_not_finite_leave_a_report_that_can_be_read(pipeline: Pipeline, monkeypatch):
    import torch

    monkeypatch.setattr("simclrseg.evaluation.probe.effective_rank", lambda features: torch.tensor(float("nan")))
    result = evaluated(pipeline.runs, pipeline.pretrained.run)
    text = (Path(result["report"]) / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"]["effective_rank"] is None


def test_a_backbone_file_of_its_own_needs_photos(pipeline: Pipeline, strangers, tmp_path):
    alone = shutil.copy(pipeline.pretrained.backbone, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="name photos to probe it with by --dataset"):
        evaluated(pipeline.runs, alone)
    result = evaluated(pipeline.runs, alone, dataset=str(strangers))
    assert list(result["metrics"]) == ["alignment", "uniformity", "effective_rank"] and result["n"] == 12


def test_columns_that_a_backbone_was_pretrained_by_mean_nothing_for_a_folder(pipeline: Pipeline, root, classifier):
    from simclrseg.evaluation.backbones import find_backbones
    from simclrseg.evaluation.probe import images_to_probe

    (found,) = find_backbones([str(pipeline.pretrained.run)], pipeline.runs)
    data = found.config.data.model_copy(update={"image_column": "x", "label_column": "y"})
    found = replace(found, config=found.config.model_copy(update={"data": data}))
    dataset, split = images_to_probe(found, str(root / "photos"))
    assert dataset.name == "photos" and split.test


def test_what_a_backbone_cannot_answer_is_refused(pipeline: Pipeline, tmp_path):
    backbone = pipeline.pretrained.run
    with pytest.raises(UsageError, match="--ood needs a model that predicts"):
        evaluated(pipeline.runs, backbone, sections=outside("shapes"))
    knobs = {"minimum": ["iou=0.5"], "at": "training", "empty": "0", "baseline": "zzz", "classes": ["q"], "size": 4}
    for name, value in knobs.items():
        flag = "min" if name == "minimum" else name
        with pytest.raises(UsageError, match=f"--{flag} needs a model that predicts"):
            evaluated(pipeline.runs, backbone, **{name: value})
    with pytest.raises(UsageError, match="test photos only"):
        evaluated(pipeline.runs, backbone, split="train")
    (tmp_path / "pretrain" / "young").mkdir(parents=True)
    (tmp_path / "pretrain" / "young" / "environment.json").write_text("{}")
    with pytest.raises(RunError, match="simclrseg pretrain --resume young"):
        evaluated(tmp_path, "young")


def test_pixels_count_as_one_long_list_of_predictions():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(3), (5, 6)).transpose(2, 0, 1).astype(np.float32)
    mask = rng.integers(0, 3, (5, 6)).astype(np.uint8)
    mask[0, :2] = 255
    counted = mask != 255
    whole = Confidences.of_images(probability[:, counted].T, mask[counted])
    found = Confidences.of_pixels(probability, mask)
    assert (found.number == whole.number).all() and found.brier == pytest.approx(whole.brier)
    binary = Confidences.of_pixels(probability[1], (mask == 1).astype(np.uint8))
    pair = Confidences.of_pixels(np.stack([1 - probability[1], probability[1]]), (mask == 1).astype(np.uint8))
    assert binary.brier == pytest.approx(pair.brier) and (binary.right == pair.right).all()
    binary += pair
    assert binary.number.sum() == 60
