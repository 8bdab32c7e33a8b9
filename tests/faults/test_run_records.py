"""A run's ``environment.json`` with facts of another kind, as after a flipped byte or an edit by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from simclrseg.errors import DataError, RunError
from simclrseg.evaluation.opened import images_of
from simclrseg.evaluation.scored import batch_size_of, origin_of
from simclrseg.metadata import ModelMetadata
from simclrseg.models.weights import save_weights
from simclrseg.runs.names import ENVIRONMENT
from simclrseg.runs.run import Run
from simclrseg.training.folder import first_step
from simclrseg.weights.find import began_with, begun_with, find_pretrained

OTHERS: tuple[Any, ...] = (None, True, 0, -8, 1.5, 10**30, float("nan"), "", "8", "2026-13-01", [], [8], {}, {"a": 1})


def recorded(folder: Path, **facts: Any) -> Run:
    (folder / ENVIRONMENT).write_text(json.dumps({"version": "0.1.0", **facts}))
    return Run(folder)


@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_a_fact_of_another_kind_counts_as_not_recorded(tmp_path: Path, value: Any) -> None:
    names = ("started", "finished", "micro_batch", "threads", "epochs", "learning_rate", "precision", "prolonged")
    run = recorded(tmp_path, **dict.fromkeys(names, value))
    assert run.finished is None and batch_size_of("auto", tmp_path) == 32 and first_step(run, 4) == 0
    assert began_with(run, "pets", root=tmp_path) is None
    fitting = {"learning_rate"} if value == 1.5 else {"prolonged"} if value == [] else set()
    assert run.environment.keys() == {"version", *fitting}


def test_facts_of_the_right_kind_are_kept(tmp_path: Path) -> None:
    facts = {"finished": "2026-01-01T00:00:00+00:00", "micro_batch": 8, "learning_rate": 1e-3, "precision": "bf16"}
    longer = [{"epochs": 4, "from_step": 8}, {"epochs": 6, "from_step": None}]
    run = recorded(tmp_path, **facts, prolonged=longer, anything=[None])
    assert run.environment == {"version": "0.1.0", **facts, "prolonged": longer, "anything": [None]}
    assert run.finished and batch_size_of("auto", tmp_path) == 8


def test_what_a_run_cannot_do_without_is_named(tmp_path: Path) -> None:
    run = recorded(tmp_path, epochs="many")
    with pytest.raises(RunError, match=r"environment\.json does not say the epochs of the run: restore it, or start"):
        run.recorded("epochs")


@pytest.mark.parametrize("line", ["2", "2,8,x", "2,8"])
def test_a_table_of_times_that_is_cut_tells_no_time(tmp_path: Path, line: str) -> None:
    (tmp_path / "timing.csv").write_text(f"epoch,step,seconds\n1,4,2.5\n{line}")
    metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=32)
    (tmp_path / "config.yaml").write_text("command: finetune\ndata: {dataset: shapes}\nmodel: {pretrained: none}\n")

    class Scored:
        kind, path = "run", tmp_path

    Scored.metadata = metadata
    assert origin_of(Scored, tmp_path)["finetuning_seconds"] is None


@pytest.mark.parametrize("label", [None, 3, ["none"], {}])
def test_a_load_report_that_names_no_weights_is_none(tmp_path: Path, label: Any) -> None:
    (tmp_path / "load_report.json").write_text(json.dumps({"weights": label, "metadata": None}))
    assert begun_with(Run(tmp_path)) is None


def test_a_configuration_that_lost_its_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("command: finetune\nmodel: {pretrained: none}\n")
    metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=32, classes=("background", "cat"))
    with pytest.raises(DataError, match="the configuration names no dataset: name the photos with --dataset"):
        images_of(recorded(tmp_path), metadata)


def test_a_moment_without_its_zone_is_one_of_this_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = recorded(tmp_path, finished="2026-01-01T00:00:00")
    metadata = ModelMetadata(task="backbone", encoder="cnn", image_size=32)
    save_weights(tmp_path / "backbone.safetensors", {"a": torch.zeros(1)}, metadata)
    with caplog.at_level("INFO", "simclrseg"):
        found = find_pretrained(f"{tmp_path}/", root=tmp_path)
    assert found.file == tmp_path / "backbone.safetensors" and run.finished
    assert "days ago" in caplog.text or "just now" in caplog.text
