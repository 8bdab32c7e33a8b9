"""What a run names and was made with may be gone when it is opened again: what the run holds does in its place."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from yaml import safe_dump, safe_load

from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import DataError, Interrupted
from simclrseg.evaluation.export_images import images_of_run
from simclrseg.knobs.parsing import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import read_metadata, save_weights
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE, ONNX_FILE
from simclrseg.runs.run import Run
from simclrseg.targets.segment.target import SegmentationTarget
from tests.folders import write
from tests.observers import stop_at
from tests.small import HARDWARE, evaluated

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def write_home(home: Path) -> Path:
    """Photos with masks of three colours, and the files that a command can name."""
    rng = np.random.default_rng(0)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    for number in range(20):
        mask = np.kron(rng.integers(0, 3, (2, 2)), np.ones((16, 16), np.int64))
        for name, pixels in (("images", rng.integers(0, 256, (32, 32, 3), np.uint8)), ("masks", colours[mask])):
            write(home / "labelled" / name / f"{number}.png", pixels)
    (home / "classes.yaml").write_text("ground: [0, 0, 0]\nleaf: [255, 0, 0]\n'no': [0, 255, 0]\n")
    (home / "figures.yaml").write_text(f"mean: {list(MEAN)}\nstd: {list(STD)}\n")
    torch.manual_seed(1)
    metadata = ModelMetadata(task="backbone", method="simclr", encoder="cnn", image_size=32)
    save_weights(home / "start.safetensors", build_backbone("cnn").state_dict(), metadata)
    return home


LABELLED, IMAGES = Path("finetune", "labelled-start"), Path("pretrain", "images")
FILES = ("classes.yaml", "figures.yaml", "start.safetensors")


def labelled(runs: Path) -> FinetuneConfig:
    tree = {
        "data": {
            "dataset": "labelled",
            "image_size": 32,
            "classes": ["leaf"],
            "classes_file": "classes.yaml",
            "normalization": "figures.yaml",
            "group_by": r"\d\.",
        },
        "model": {"pretrained": "./start.safetensors"},
        "training": {"epochs": 2, "batch_size": 10, "learning_rate": 1e-3},
        "hardware": HARDWARE,
        "console": {"runs": str(runs)},
    }
    return FinetuneConfig.model_validate(tree)


def unlabelled(runs: Path) -> PretrainConfig:
    tree = {
        "data": {"dataset": ["labelled/images"], "image_size": 32, "normalization": "figures.yaml"},
        "model": {"backbone": "cnn", "init": "./start.safetensors"},
        "training": {"epochs": 2, "batch_size": 10, "micro_batch": 10},
        "hardware": HARDWARE,
        "run": {"knn_every": 0},
        "console": {"runs": str(runs)},
    }
    return PretrainConfig.model_validate(tree)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs that were interrupted where they began, and finished in another folder without the files that they name."""
    home, runs = write_home(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        with pytest.raises(Interrupted):
            finetune(labelled(runs), observers=[stop_at(epoch=1, by=signal.SIGTERM)])
        with pytest.raises(Interrupted):
            pretrain(unlabelled(runs), observers=[stop_at(epoch=1, by=signal.SIGTERM)])
        pretrain(unlabelled(runs / "whole"))
        for name in FILES:
            (home / name).unlink()
        shutil.copytree(home / "labelled" / "masks", home / "labelled" / "labels")
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        finetune(resumed(FinetuneConfig, runs / LABELLED))
        pretrain(resumed(PretrainConfig, runs / IMAGES))
        yield runs


def resumed(model: type, run: Path) -> Any:
    """What `--resume RUN` gives."""
    config = config_of_run(model, run)
    return config.model_copy(update={"run": config.run.model_copy(update={"resume": str(run)})})


def test_a_fine_tuning_goes_on_without_the_files_that_it_began_with(runs: Path) -> None:
    metadata = read_metadata(runs / LABELLED / MODEL_FILE)
    assert metadata is not None and (metadata.mean, metadata.std) == (MEAN, STD)
    assert (metadata.encoder, metadata.method, metadata.pretrained) == ("cnn", "simclr", "start")
    assert metadata.classes == ("background", "leaf") and metadata.epochs == 2


def test_a_pretraining_goes_on_without_the_files_that_it_began_with_as_if_nothing_had_happened(runs: Path) -> None:
    whole, again = (folder / IMAGES / BACKBONE_FILE for folder in (runs / "whole", runs))
    ours, theirs = load_file(whole), load_file(again)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert read_metadata(whole).model_dump(exclude={"dataset"}) == read_metadata(again).model_dump(exclude={"dataset"})
    assert (read_metadata(again).mean, read_metadata(again).std) == (MEAN, STD)


def test_a_further_folder_that_fits_as_masks_stops_new_runs_alone(runs: Path) -> None:
    config = config_of_run(FinetuneConfig, runs / LABELLED)
    with pytest.raises(DataError, match="2 folders that fit its photos as masks, masks/ and labels/"):
        SegmentationTarget.open(config.data)
    assert evaluated(runs, runs / LABELLED)["n"] == 4


def test_what_a_run_began_with_is_in_its_configuration(runs: Path) -> None:
    text = (runs / LABELLED / "config.yaml").read_text()
    assert "figures.yaml" not in text and "classes.yaml" not in text and '"leaf": [255, 0, 0]' in text


@pytest.mark.parametrize("model", [".", ONNX_FILE])
def test_a_model_is_scored_in_another_folder_without_the_files_of_its_run(
    runs: Path, tmp_path: Path, model: str
) -> None:
    found = evaluated(tmp_path, runs / LABELLED / model)
    assert found["n"] == 4 and 0 <= found["metrics"]["iou"] <= 1


def test_an_export_finds_its_photos_in_another_folder(runs: Path) -> None:
    metadata = read_metadata(runs / LABELLED / MODEL_FILE)
    found = images_of_run(Run(runs / LABELLED), metadata, (32, 32), calibrated=True, needed_by="--precision int8")
    assert len(found.check) == len(found.masks) == 4 and found.calibration


def test_a_file_that_an_older_run_names_is_missed_only_where_it_is_needed(runs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(runs / LABELLED, tmp_path / "finetune" / "older")
    tree = safe_load((run / "config.yaml").read_text())
    tree["data"]["normalization"] = "/gone/figures.yaml"
    (run / "config.yaml").write_text(safe_dump(tree))
    assert evaluated(tmp_path, run)["n"] == 4
    tree["data"]["classes_file"] = "/gone/classes.yaml"
    (run / "config.yaml").write_text(safe_dump(tree))
    with pytest.raises(DataError, match=r"classes file /gone/classes.yaml cannot be read \(no such file\)"):
        evaluated(tmp_path, run)


def test_a_run_does_not_go_on_in_silence_with_other_photos_of_the_same_names(tmp_path, monkeypatch, caplog) -> None:
    home, runs = write_home(tmp_path / "home"), tmp_path / "runs"
    monkeypatch.chdir(home)
    with pytest.raises(Interrupted):
        finetune(labelled(runs), observers=[stop_at(epoch=1)])
    with pytest.raises(Interrupted):
        pretrain(unlabelled(runs), observers=[stop_at(step=1)])
    for elsewhere in ("copied", "other"):
        shutil.copytree(home, tmp_path / elsewhere)
    monkeypatch.chdir(tmp_path / "other")
    for number in range(20):
        write(Path("labelled") / "images" / f"{number}.png", np.full((32, 32, 3), number, np.uint8))
    says = (
        r"20 of 20 photos that were looked at have another content .* names; "
        f"restore them, go on in {home}, where it began, or start a new run"
    )
    for train, kind, run in ((pretrain, PretrainConfig, IMAGES), (finetune, FinetuneConfig, LABELLED)):
        with pytest.raises(DataError, match=says):
            train(resumed(kind, runs / run))
    monkeypatch.chdir(tmp_path / "copied")
    pretrain(resumed(PretrainConfig, runs / IMAGES))
    assert "another content" not in caplog.text
    write(Path("labelled") / "images" / "0.png", np.full((32, 32, 3), 7, np.uint8))
    finetune(resumed(FinetuneConfig, runs / LABELLED))
    assert "1 of 20 photos that were looked at have another content than when the run began" in caplog.text
