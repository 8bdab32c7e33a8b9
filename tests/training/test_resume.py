"""What a resumed run takes over, and what it refuses."""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from simclrseg.cli.app import main
from simclrseg.commands import prepare_pretrain
from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import DataError, Interrupted, RunError, UsageError
from simclrseg.knobs.parsing import config_of_run
from simclrseg.runs.run import Run, record_facts
from simclrseg.system import distributed
from simclrseg.training.folder import PROLONGED, is_prolonged, resumed_run
from simclrseg.training.knobs import FinetuneTraining
from tests.observers import stop_at
from tests.small import SMALL_FINETUNE, SMALL_PRETRAIN, changed, in_runs


@pytest.fixture(scope="module", autouse=True)
def few_photos() -> Any:
    full = prepare_pretrain.images_to_train_on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_pretrain, "images_to_train_on", lambda *a, **k: (full(*a, **k)[0], list(range(64))))
        yield patch


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, few_photos: Any) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    with pytest.raises(Interrupted):
        pretrain(small(runs), observers=[stop_at(epoch=1, by=signal.SIGTERM)])
    return runs


@pytest.fixture
def begun(interrupted: Path, tmp_path: Path) -> Path:
    """A run that was interrupted, in a folder of runs of its own."""
    return shutil.copytree(interrupted, tmp_path / "runs")


def small(runs: Path, *, run: dict[str, Any] | None = None, **training: Any) -> PretrainConfig:
    config = changed(in_runs(SMALL_PRETRAIN, runs), "training", batch_size=32, micro_batch=16, **training)
    return PretrainConfig.model_validate(config | {"run": {"knn_every": 0, **(run or {})}})


def environment(runs: Path) -> Path:
    return runs / "pretrain" / "shapes" / "environment.json"


@pytest.mark.parametrize("photos", [range(1, 65), range(40), range(80)])
def test_other_photos_are_refused(begun: Path, monkeypatch: pytest.MonkeyPatch, photos: range) -> None:
    found = prepare_pretrain.images_to_train_on
    monkeypatch.setattr(prepare_pretrain, "images_to_train_on", lambda *a, **k: (found(*a, **k)[0], list(photos)))
    before = {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()}
    says = rf"--resume shapes: the photos are not those that the run began with \(64, now {len(photos)}\)"
    with pytest.raises(DataError, match=says):
        pretrain(small(begun, run={"resume": "shapes"}))
    assert {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()} == before


def test_a_run_out_of_memory_goes_on_with_a_smaller_micro_batch(begun: Path) -> None:
    config = small(begun, run={"resume": "shapes"})
    config = config.model_copy(update={"training": config.training.model_copy(update={"micro_batch": 8})})
    pretrain(config)
    facts = json.loads(environment(begun).read_text())
    assert facts["finished"] and facts["micro_batch"] == 8
    log_lines = (environment(begun).parent / "log.txt").read_text().splitlines()
    assert len([line for line in log_lines if line.startswith("$ ")]) == 2  # of the run and of the one that went on


@pytest.mark.parametrize(("processes", "micro_batch", "goes_on"), [(2, 8, 16), (4, 8, 32), (1, 8, 8), (3, 1, 3)])
def test_by_another_number_of_processes_batch_norm_sees_as_many_together(
    begun: Path, processes: int, micro_batch: int, goes_on: int
) -> None:
    facts = json.loads(environment(begun).read_text())
    environment(begun).write_text(json.dumps({**facts, "processes": processes, "micro_batch": micro_batch}))
    config = small(begun, run={"resume": "shapes"})
    config = config.model_copy(update={"training": config.training.model_copy(update={"micro_batch": "auto"})})
    pretrain(config)
    facts = json.loads(environment(begun).read_text())
    assert (facts["processes"], facts["micro_batch"]) == (1, goes_on)


def test_processes_that_do_not_share_a_batch_evenly_are_told_how_many_would(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 7)
    with pytest.raises(UsageError, match=r"its batches of 32 cannot be shared out over 7 processes; take --devices 4$"):
        resumed_run("pretrain", small(begun, run={"resume": "shapes"}))


def test_it_goes_on_in_the_number_format_in_which_it_began(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    facts = json.loads(environment(begun).read_text())
    assert facts["precision"] == "fp32"
    environment(begun).write_text(json.dumps({**facts, "precision": "bf16"}))  # as on a machine where auto is that
    config = small(begun, run={"resume": "shapes"})
    with caplog.at_level(logging.WARNING):
        pretrain(config)
    assert "going on in bf16, as the run began; auto is fp32 here" in caplog.messages
    assert json.loads(environment(begun).read_text())["precision"] == "bf16"


@pytest.mark.usefixtures("short_dry_runs")
@pytest.mark.parametrize(("micro_batch", "warned"), [(4, True), (8, False)])
def test_a_micro_batch_that_batch_norm_makes_useless_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, micro_batch: int, warned: bool
) -> None:
    config = small(tmp_path / "runs", run={"dry_run": True})
    config = config.model_copy(update={"training": config.training.model_copy(update={"micro_batch": micro_batch})})
    with caplog.at_level(logging.WARNING):
        assert pretrain(config).micro_batch == micro_batch
    assert any("the two views of one come out as opposites" in line for line in caplog.messages) is warned


def rates(runs: Path) -> list[float]:
    lines = (environment(runs).parent / "metrics.jsonl").read_text().splitlines()
    return [row["learning_rate"] for row in map(json.loads, lines) if "learning_rate" in row]


@pytest.fixture(scope="module")
def finished(interrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = shutil.copytree(interrupted, tmp_path_factory.mktemp("finished") / "runs")
    pretrain(small(runs, run={"resume": "shapes"}))
    return runs


def test_a_run_is_not_gone_on_with_and_begun_anew(finished: Path) -> None:
    with pytest.raises(UsageError, match="--resume goes on with run 'shapes', and --overwrite begins one anew"):
        pretrain(small(finished, run={"resume": "shapes", "overwrite": True}, epochs=4))


def test_more_epochs_begin_a_new_schedule_from_the_old_weights(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = (shutil.copytree(finished, tmp_path / name) for name in ("whole", "cut"))
    before = rates(whole)
    assert len(before) == 4  # two epochs of two steps
    longer = {"resume": "shapes"}
    with caplog.at_level(logging.INFO):
        pretrain(small(whole, run=longer, epochs=4))
    said = [line for line in caplog.messages if line.startswith("a new cosine schedule for 2 more epochs, 4 in all")]
    assert len(said) == 1 and said[0].endswith("weights and the optimizer's state are kept")
    assert rates(whole) == before * 2
    facts = json.loads(environment(whole).read_text())
    assert facts["finished"] and facts["prolonged"] == [{"epochs": 4, "from_step": 4}]

    with pytest.raises(Interrupted):
        pretrain(small(cut, run=longer, epochs=4), observers=[stop_at(epoch=3, by=signal.SIGTERM)])
    assert not json.loads(environment(cut).read_text()).get("finished")
    pretrain(config_of_run(PretrainConfig, cut / "pretrain" / "shapes").model_copy(update=resuming(cut)))
    one, other = (runs / "pretrain" / "shapes" for runs in (cut, whole))
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    weights, same = (load_file(folder / "backbone.safetensors") for folder in (one, other))
    assert all(torch.equal(weights[name], same[name]) for name in same)


def test_a_longer_run_that_goes_back_to_before_it_got_longer_begins_its_schedule_there(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    pretrain(small(runs, run={"keep_checkpoints": 9}))
    config = small(runs, run={"keep_checkpoints": 9, "resume": "shapes"}, epochs=4)
    with pytest.raises(Interrupted):
        pretrain(config, observers=[stop_at(epoch=3, by=signal.SIGTERM)])
    states = environment(runs).parent / "checkpoints" / "last"
    shutil.copyfile(states / "state-000000002.pt", states / "state.pt")
    pretrain(config)
    assert json.loads(environment(runs).read_text())["prolonged"] == [{"epochs": 4, "from_step": 2}]
    first, second, *rest = rates(runs)
    assert rest[0] == max(rest) == first and 0 < rest[-1] < second  # as of six steps, of which the first is the peak


def resuming(runs: Path) -> dict[str, Any]:
    """The sections of a config that resumes, beside what the run was made with."""
    config = small(runs, run={"resume": "shapes"})
    return {"run": config.run, "console": config.console}


def test_a_finished_run_needs_more_epochs_to_go_on(finished: Path) -> None:
    with pytest.raises(RunError, match=r"there is nothing to resume; more --epochs than its 2 train it longer$"):
        pretrain(small(finished, run={"resume": "shapes"}))
    with pytest.raises(UsageError, match=r"^--epochs 1: run 'shapes' has 2, and more train it longer: take more, or"):
        pretrain(small(finished, run={"resume": "shapes"}, epochs=1))


def test_what_has_joined_in_does_not_leave_when_a_run_gets_longer() -> None:
    before = FinetuneTraining(unfreeze="progressive", epochs=20)
    assert before.unfreeze_epochs == (2, 4)
    assert FinetuneTraining(unfreeze="progressive", epochs=60).unfreeze_epochs == (6, 12)
    longer = FinetuneTraining(unfreeze="progressive", epochs=60).prolonging(before)
    assert longer.unfreeze_epochs == (2, 4)
    assert FinetuneTraining.model_validate(longer.model_dump()) == longer


def follow(advice: str) -> None:
    """Type the command that a message has, which must lose nothing."""
    (command,) = re.findall("`simclrseg (.*)`$", advice)
    assert "--overwrite" not in command
    with pytest.raises(SystemExit) as end:
        main([*shlex.split(command), "--quiet"])
    assert end.value.code == 0


@pytest.mark.parametrize("damage", [lambda state: state.write_bytes(b"damaged"), Path.unlink], ids=["damaged", "gone"])
def test_where_the_state_of_a_finished_run_is_damaged_a_new_one_starts_from_its_weights(
    finished: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    runs = shutil.copytree(finished, tmp_path / "runs")
    run = environment(runs).parent
    damage(run / "checkpoints" / "last" / "state.pt")
    before = (run / "backbone.safetensors").read_bytes()
    with pytest.raises(RunError) as refused:
        pretrain(small(runs, run={"resume": "shapes"}, epochs=4))
    assert f"start a new run with `simclrseg pretrain --config {run} --init {run} --runs" in str(refused.value)
    follow(str(refused.value))
    assert (run / "backbone.safetensors").read_bytes() == before
    again = json.loads((runs / "pretrain" / "shapes-2" / "environment.json").read_text())
    assert again["finished"] and again["init"] == "shapes"


def test_where_the_state_of_an_interrupted_run_is_damaged_a_new_one_starts_as_it_did(begun: Path) -> None:
    run = environment(begun).parent
    (run / "checkpoints" / "last" / "state.pt").write_bytes(b"damaged")
    with pytest.raises(RunError) as refused:
        pretrain(small(begun, run={"resume": "shapes"}))
    assert str(refused.value).endswith(f"start a new run with `simclrseg pretrain --config {run} --runs {begun}`")


@pytest.mark.parametrize(("damaged", "whole"), [("last/state.pt", "best/model.pt"), ("best/model.pt", "last/state.pt")])
def test_where_one_checkpoint_of_a_fine_tuning_is_damaged_a_new_one_starts_from_the_other(
    tmp_path: Path, unexported: None, damaged: str, whole: str
) -> None:
    tree = changed(in_runs(SMALL_FINETUNE, tmp_path), "model", pretrained="none", backbone="cnn")
    tree = changed(tree, "data", data_ratio=0.5)  # validation photos enough to choose by
    tree = changed(tree, "training", batch_size=64)
    with pytest.raises(Interrupted):
        finetune(FinetuneConfig.model_validate(tree), observers=[stop_at(epoch=1)])
    run = tmp_path / "finetune" / "shapes-none-r0.5"
    (run / "checkpoints" / damaged).write_bytes(b"damaged")
    with pytest.raises(RunError, match="cannot be used") as refused:
        finetune(FinetuneConfig.model_validate(changed(tree, "run", resume=run.name)))
    follow(str(refused.value))
    (report,) = tmp_path.glob("finetune/*/load_report.json")
    assert json.loads(report.read_text())["missing"] == [] and report.parent != run
    started = json.loads((report.parent / "environment.json").read_text())
    assert started["pretrained_file"] == str(run / "checkpoints" / whole)


def test_steps_may_be_left_in_a_run_that_has_got_more_epochs(begun: Path, finished: Path) -> None:
    run, ended = (Run(runs / "pretrain" / "shapes") for runs in (begun, finished))
    assert not is_prolonged(run) and is_prolonged(ended)
    record_facts(run, **{PROLONGED: [{"epochs": 9, "from_step": 3}]})
    assert is_prolonged(run)
