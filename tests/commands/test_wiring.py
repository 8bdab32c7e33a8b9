"""What pretraining makes of its knobs: what the engine is called with, and what the run has left and said by then."""

from __future__ import annotations

import copy
import errno
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from simclrseg.charts import plots
from simclrseg.commands.pretrain import prepare, pretrain
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.config.smaller import suggested
from simclrseg.data.augment import STRENGTHS, adjusted
from simclrseg.data.loader import Loader, some_rows
from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.engine.history import EpochRecord, FileHistory
from simclrseg.engine.task import Task
from simclrseg.errors import ImageError, UsageError
from simclrseg.system import distributed
from simclrseg.training import forecast, train
from simclrseg.training.evaluators import CollapseWarning
from simclrseg.training.folder import open_run, resumed_run
from simclrseg.training.forecast import Forecast
from simclrseg.training.machine import prepare_machine
from simclrseg.training.train import Session, Trainer
from tests.cli.streams import unread
from tests.observers import drive
from tests.small import MACHINE, changed

TINY: dict[str, Any] = {
    "data": {"dataset": ["shapes"], "image_size": 32},
    "model": {"backbone": "cnn"},
    "training": {"batch_size": 8, "micro_batch": 4, "epochs": 20},
    "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
}
"""512 photos, 64 steps an epoch."""
KNOBS: dict[str, Any] = {
    **TINY,
    "data": {**TINY["data"], "max_images": 32, "augmentation": "paper", "blur_probability": 0.25},
    "simclr": {"projection_hidden": [16], "projection_dim": 6, "temperature": 0.25},
    "training": {
        **TINY["training"],
        "lr_scaling": "linear",
        "final_rate": 0.1,
        "weight_decay": 0.01,
        "clip": 1.5,
        "compile": True,
    },
    "hardware": {**TINY["hardware"], "precision": "bf16"},
    "run": {
        "name": "knobs",
        "seed": 3,
        "knn_every": 2,
        "checkpoint_steps": 3,
        "checkpoint_minutes": 5.0,
        "keep_checkpoints": 2,
    },
}
"""None of them as by default; 32 photos, 4 steps an epoch."""
PEAK = 0.3 * 8 / 256


class Begun(Exception):
    """Training would begin."""


@dataclass
class Call:
    """What the engine was called with.

    Attributes:
        options: by keyword.
        compiled: what of the task was to be compiled just then.
        lines: that were logged before.
        now: the time that its checkpoints go by, in seconds.
    """

    runs: Path
    task: Task
    batches: Loader
    validation: Loader | None
    options: dict[str, Any]
    compiled: list[Any]
    lines: list[str]
    now: list[float] = field(default_factory=lambda: [0.0])

    @property
    def folder(self) -> Path:
        return self.runs / "pretrain" / "knobs"

    def observer(self, kind: type) -> Any:
        (found,) = [observer for observer in self.options["observers"] if isinstance(observer, kind)]
        return found


def begin(config: dict[str, Any], runs: Path, **watched: Any) -> Call:
    """Pretrain up to the first step, and save three states there, as if that many steps had been taken."""
    calls, lines, compiling = [], [], []
    now = [0.0]

    def fit(task, batches, validation=None, **options):
        calls.append(Call(runs, task, batches, validation, options, list(compiling), list(lines), now))
        for step in (1, 2, 3):
            options["checkpoints"].save_last(TrainingState(0, step, {}, {}, {}, {}, {}, []))
        raise Begun

    @contextmanager
    def compiled(model, *, enabled=True) -> Iterator[None]:
        compiling.extend([model] if enabled else [])
        yield
        compiling.clear()

    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("simclrseg")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "fit", fit)
            patch.setattr(train, "compiled", compiled)
            patch.setattr(train, "Checkpoints", partial(Checkpoints, clock=lambda: now[0]))
            with pytest.raises(Begun):
                pretrain(PretrainConfig.model_validate({**config, "console": {"runs": str(runs)}}), **watched)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return calls[0]


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Call:
    return begin(KNOBS, tmp_path_factory.mktemp("wiring") / "runs")


def prepared(**run):
    return prepare(Session("pretrain", PretrainConfig.model_validate(changed(TINY, "run", **run)), MACHINE))


def first_photos(batches: Loader, *, epoch: int = 0) -> list[int]:
    epochs = batches.epoch(epoch)
    found = next(epochs)["index"].tolist()
    epochs.close()
    return found


# What the engine gets


def test_the_rate_climbs_for_two_of_twenty_epochs_then_falls_along_a_cosine(begun):
    rate, warmup, total = begun.options["schedule"], 2 * 4, 20 * 4
    for step in range(warmup):
        assert rate(step) == pytest.approx(PEAK * (step + 1) / warmup)
    for step in range(warmup, total):
        fallen = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        assert rate(step) == pytest.approx(PEAK * (0.1 + 0.9 * fallen))
    assert rate(0) == pytest.approx(0.001171875) and rate(8) == pytest.approx(0.009375)
    assert rate(44) == pytest.approx(0.55 * 0.009375) and rate(80) == pytest.approx(0.1 * 0.009375)


def test_a_warm_up_that_does_not_fit_is_told_and_the_rate_falls_all_the_same(begun, tmp_path):
    few = {"training": {**KNOBS["training"], "epochs": 5, "warmup_epochs": 10}}
    call = begin({**KNOBS, **few}, tmp_path)
    rates = [call.options["schedule"](step) for step in range(5 * 4)]
    assert rates.index(pytest.approx(PEAK)) == 1 and rates[-1] < PEAK / 4  # two steps of a half epoch
    assert "a warm-up of 10 epochs does not fit into 5: it takes 0.5, as by default" in call.lines
    assert not any("warm-up" in line for line in begun.lines)


def test_the_rate_that_was_resolved_is_told_and_stored(begun):
    (line,) = [line for line in begun.lines if "steps an epoch" in line]
    assert line == "32 photos, 4 steps an epoch, batch 8, lars at 0.009375, chance level of the loss 2.71"
    stored = json.loads((begun.folder / "environment.json").read_text())
    assert stored["learning_rate"] == pytest.approx(0.009375)
    assert (stored["photos"], stored["micro_batch"], stored["precision"]) == (32, 4, "bf16")


def test_the_engine_gets_the_knobs_as_they_were_asked_for(begun):
    asked = {"epochs": 20, "precision": "bf16", "micro_batch": 4, "clip": 1.5, "seed": 3, "validate_every": 2}
    assert {name: begun.options[name] for name in asked} == asked
    assert begun.options["device"] == torch.device("cpu")
    assert begun.options["keep"] == "last"
    assert begun.validation is not None
    optimizer = begun.options["optimizer"]
    assert type(optimizer).__name__ == "LARS"
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.01}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(begun.task.model.parameters()))


def test_the_network_is_compiled_where_that_is_asked_for(begun, tmp_path):
    assert begun.compiled == [begun.task.model]
    plain = begin(changed(KNOBS, "training", compile=False), tmp_path)
    assert plain.compiled == []


def test_the_task_has_the_temperature_and_the_widths_that_were_asked_for(begun):
    assert begun.task.temperature == 0.25
    pairs = {"image": torch.zeros(4, 2, 32, 32, 3, dtype=torch.uint8)}
    assert begun.task.embed(pairs).shape == (4, 2, 6)
    assert [len(weight) for name, weight in begun.task.model.named_parameters() if weight.ndim == 2] == [16, 6]


def test_checkpoints_are_due_after_so_many_steps_and_minutes(begun):
    checkpoints = begun.options["checkpoints"]
    begun.now[0] = 5 * 60 - 1
    assert [step for step in range(1, 10) if checkpoints.due(step)] == [3, 6, 9]
    begun.now[0] = 5 * 60
    assert checkpoints.due(4)


def test_so_many_checkpoints_are_kept(begun):
    left = sorted(path.name for path in (begun.folder / "checkpoints" / "last").iterdir())
    assert left == ["state-000000002.pt", "state-000000003.pt", "state.pt"]


def test_who_watches_is_told_and_so_are_the_files(tmp_path):
    class Mine:
        pass

    mine = Mine()
    call = begin(KNOBS, tmp_path, observers=[mine])
    assert call.observer(Mine) is mine
    assert call.observer(FileHistory)


@pytest.mark.parametrize(("epoch", "warnings"), [(2, 0), (3, 1)])
def test_a_collapse_is_watched_for_after_warm_up(begun, caplog, epoch, warnings):
    watcher = copy.deepcopy(begun.observer(CollapseWarning))
    watcher.on_epoch(EpochRecord(epoch, 4 * epoch, {"effective_rank": 1.0}, {}, 1.0))
    assert sum("the representation has collapsed" in line for line in caplog.messages) == warnings


@pytest.mark.parametrize(("seconds", "suggestions"), [(7.0, 0), (8.0, 1)])  # 1 h 57 min and 2 h 13 min
def test_above_two_hours_on_a_cpu_a_smaller_run_is_suggested(begun, caplog, seconds, suggestions):
    caplog.set_level(logging.INFO, "simclrseg")
    drive(copy.deepcopy(begun.observer(Forecast)), steps=20, seconds=seconds)
    found = [line for line in caplog.messages if line.startswith("a smaller run: ")]
    assert len(found) == suggestions
    for line in found:
        assert line.startswith("a smaller run: simclrseg pretrain --dataset shapes ")
        assert " --backbone cnn " in line and " --epochs 18 " in line  # 20 of them take 2 h 13 min
        assert f" --runs {begun.runs} " in f"{line} "


def test_on_a_gpu_no_smaller_run_is_suggested():
    assert suggested(PretrainConfig.model_validate(TINY), "cuda") is None


def test_a_dry_run_suggests_a_smaller_run_too(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    monkeypatch.setattr(forecast, "PATIENCE", 0.0)
    config = changed(TINY, "run", dry_run=True)
    pretrain(PretrainConfig.model_validate({**config, "console": {"runs": str(tmp_path)}}))
    assert sum(line.startswith("a smaller run: simclrseg pretrain") for line in caplog.messages) == 1


# What it learns from


def test_views_have_the_size_and_the_strengths_that_were_asked_for(begun):
    assert next(begun.batches.epoch(0))["image"].shape == (8, 2, 32, 32, 3)
    assert begun.batches.samples.strengths == adjusted(STRENGTHS["paper"], blur_probability=0.25)


def test_the_picture_of_the_views_shows_what_the_network_sees(begun, tmp_path):
    seen = {}
    for batch in begun.batches.epoch(0):
        seen |= dict(zip(batch["index"].tolist(), batch["image"].numpy(), strict=True))
    chosen = sorted(seen)[::4]  # eight of 32, evenly
    plots.views(np.stack([seen[index] for index in chosen]), tmp_path / "expected.png")
    drawn, expected = map(cv2.imread, (str(begun.folder / "augmentations.png"), str(tmp_path / "expected.png")))
    assert np.array_equal(drawn, expected)
    assert drawn.std() > 10


def test_weights_follow_from_the_seed_alone():
    states = []
    for seed, before in ((1, 11), (1, 12), (2, 11)):
        torch.manual_seed(before)
        states.append(torch.cat([weight.flatten() for weight in prepared(seed=seed).task.model.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_order_and_views_follow_from_the_seed_and_change_with_the_epoch():
    one, same, other = (prepared(seed=seed).batches for seed in (1, 1, 2))
    assert first_photos(one) == first_photos(same)
    assert set(first_photos(one)) != set(first_photos(other))
    assert set(first_photos(one)) != set(first_photos(one, epoch=1))
    assert first_photos(one) != sorted(first_photos(one))
    views = [some_rows(batches.samples, 4)["image"] for batches in (one, same, other)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_each_process_learns_its_half_of_every_batch(monkeypatch):
    whole = first_photos(prepared().batches)
    monkeypatch.setenv("WORLD_SIZE", "2")
    halves = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        halves.append(first_photos(prepared().batches))
    assert halves == [whole[:4], whole[4:]]
    assert len(set(whole)) == 8


@pytest.mark.parametrize(("others", "micro_batch"), [(4, 4), (16, 8)])
def test_the_least_micro_batch_of_all_processes_is_taken_by_all(tmp_path, monkeypatch, others, micro_batch):
    start = prepared()
    config = {**changed(TINY, "training", micro_batch="auto"), "console": {"runs": str(tmp_path)}}
    session = Session("pretrain", PretrainConfig.model_validate(config), MACHINE)
    trainer = Trainer(session, start.task, start.batches, None, learning_rate=0.1, suggestion=None)
    monkeypatch.setattr(train, "fitting_micro_batch", lambda *_, **__: 8)
    monkeypatch.setattr(distributed, "largest", lambda number: max(number, -others))
    with trainer.open(name="x", images=[]):
        assert trainer.micro_batch == micro_batch


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight that can be read and two that cannot."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (40, 40, 3), np.uint8))
    (folder / "3a.png").write_bytes((folder / "3.png").read_bytes()[:900])
    (folder / "5a.jpg").write_bytes(b"no picture at all")
    return folder


def of_folder(folder: Path, **data) -> PretrainConfig:
    config = changed(TINY, "data", dataset=[str(folder)], **data)
    config = changed(config, "training", epochs=1, batch_size=10, micro_batch=5)
    return PretrainConfig.model_validate({**config, "console": {"runs": str(folder.parent / "runs")}})


def test_photos_that_cannot_be_read_are_counted_and_named(photos, caplog):
    assert pretrain(of_folder(photos)).backbone.exists()
    (summary,) = [line for line in caplog.messages if "unreadable photos" in line]
    assert summary.startswith("unreadable photos, which were skipped: 2; the first is ")
    assert "3a.png" in summary
    for name in ("3a.png", "5a.jpg"):
        assert sum(line.startswith("skipped ") and name in line for line in caplog.messages) == 1


def test_strict_stops_at_a_photo_that_cannot_be_read(photos):
    with pytest.raises(ImageError, match=r"3a\.png|5a\.jpg"):
        pretrain(of_folder(photos, strict=True))
    assert not (photos.parent / "runs").exists()


def test_strict_stops_where_a_photo_is_first_met_in_training(photos):
    batches = prepare(Session("pretrain", of_folder(photos, strict=True), MACHINE)).batches
    with pytest.raises(ImageError, match=r"3a\.png|5a\.jpg"):
        next(batches.epoch(0))


# Going on with it


@pytest.fixture
def again(begun, tmp_path) -> dict[str, Any]:
    """The configuration that goes on with a copy of the run."""
    shutil.copytree(begun.runs, tmp_path / "runs")
    return changed(KNOBS, "run", resume="knobs")


@pytest.mark.parametrize(
    ("section", "knob", "value"),
    [
        ("data", "dataset", ["shapes", "shapes"]),
        ("data", "image_size", 64),
        ("data", "augmentation", "cifar"),
        ("data", "max_images", 16),
        ("data", "normalization", "dataset"),
        ("data", "strict", True),
        ("model", "backbone", "resnet18"),
        ("simclr", "temperature", 0.5),
        ("simclr", "projection_dim", 8),
        ("training", "optimizer", "sgd"),
        ("training", "learning_rate", 0.1),
        ("training", "lr_scaling", "none"),
        ("training", "schedule", "constant"),
        ("training", "warmup_epochs", 1.0),
        ("training", "final_rate", 0.0),
        ("training", "weight_decay", 0.0),
        ("training", "clip", None),
        ("training", "compile", False),
        ("training", "batch_size", 16),
        ("hardware", "device", "auto"),
        ("hardware", "precision", "fp32"),
        ("run", "name", "other"),
        ("run", "seed", 4),
        ("run", "knn_every", 1),
    ],
)
def test_what_changes_the_result_cannot_change_when_a_run_goes_on(begun, section, knob, value):
    config = changed(changed(KNOBS, "run", resume="knobs"), section, **{knob: value})
    config = PretrainConfig.model_validate({**config, "console": {"runs": str(begun.runs)}})
    with pytest.raises(UsageError) as error:
        resumed_run("pretrain", config)
    assert str(error.value) == f"--resume knobs: {section}.{knob} cannot differ from the run's config.yaml"


def test_all_that_differs_is_named(begun):
    config = changed(changed(KNOBS, "run", resume="knobs", seed=4), "simclr", temperature=0.5)
    with pytest.raises(UsageError, match=r"--resume knobs: run\.seed, simclr\.temperature cannot differ"):
        pretrain(PretrainConfig.model_validate({**config, "console": {"runs": str(begun.runs)}}))


def test_what_leaves_the_result_as_it_is_may_change(again, tmp_path):
    config = changed(again, "data", cache="none")
    config = changed(config, "hardware", workers=2, devices=1)
    config = changed(config, "run", checkpoint_steps=7, checkpoint_minutes=None, keep_checkpoints=4)
    call = begin(config, tmp_path / "runs")
    assert call.options["start"].step == 3
    assert call.options["checkpoints"].due(7) and not call.options["checkpoints"].due(3)


@pytest.mark.parametrize(("processes", "set_to"), [(1, [7]), (2, [])])
def test_a_run_goes_on_with_the_threads_that_it_began_with(again, tmp_path, monkeypatch, processes, set_to):
    stored = tmp_path / "runs/pretrain/knobs/environment.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"threads": 7, "processes": processes}))
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    begin(again, tmp_path / "runs")
    assert threads == set_to


def test_the_other_processes_take_up_their_threads_too(again, tmp_path, monkeypatch):
    folder = tmp_path / "runs/pretrain/knobs"
    stored = folder / "environment.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"threads": 7, "processes": 1}))
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    monkeypatch.setattr(distributed, "shared", lambda value: str(folder))
    for resume, set_to in ((None, []), ("knobs", [7])):
        config = PretrainConfig.model_validate(changed(again, "run", resume=resume))
        with open_run("pretrain", config, name="x", machine=prepare_machine(config.hardware), images=[]) as run:
            assert run.folder == folder
        assert threads == set_to


# A disk that is full

WORDS = (
    *("pretrain", "--dataset", "shapes", "--max-images", "16", "--image-size", "32", "--backbone", "cnn", "--quiet"),
    *("--batch-size", "8", "--micro-batch", "8", "--epochs", "3", "--device", "cpu", "--precision", "fp32"),
    *("--workers", "1", "--knn-every", "0", "--name", "full"),
)


@pytest.mark.parametrize(
    ("fails", "left"), [(1, "nothing is saved yet"), (3, "the last checkpoint stands")], ids=["first", "third"]
)
def test_a_disk_that_fills_in_training_is_one_line_and_costs_no_checkpoint(tmp_path, monkeypatch, capsys, fails, left):
    from simclrseg.cli.app import main

    save, saved = torch.save, []

    def fill(content: object, path: Path) -> None:
        saved.append(path)
        if len(saved) < fails:
            return save(content, path)
        path.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(SystemExit) as end:
        main(list(WORDS))
    out, err = capsys.readouterr()
    state = Path("runs/pretrain/full/checkpoints/last/state.pt")
    assert (end.value.code, out) == (1, "")
    assert err == f"error: {state} cannot be written (No space left on device): free some space; {left}\n"
    if fails == 1:
        assert list(tmp_path.iterdir()) == []
    else:
        assert [path.name for path in state.parent.iterdir()] == ["state.pt"]
        assert Checkpoints(state.parents[1]).load_last().epoch == 2


# A reader who has gone


@pytest.mark.skipif(os.name != "posix", reason="Windows names the error otherwise")
def test_a_training_whose_lines_and_results_nobody_reads_comes_to_its_end(tmp_path, monkeypatch):
    from simclrseg.cli.app import main

    monkeypatch.chdir(tmp_path)
    with unread("pipe") as out, unread("pipe") as err, monkeypatch.context() as patch:
        for name, stream in (("stdout", out), ("stderr", err), ("__stderr__", err)):
            patch.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as end:
            main([*(word for word in WORDS if word != "--quiet"), "--epochs", "1"])
        replaced = sys.stderr  # noqa: F841  # closes with the stream
    assert end.value.code == 0
    folder = Path("runs/pretrain/full")
    assert (folder / "backbone.safetensors").exists()
    assert (folder / "metrics.csv").read_text().count("\n") == 2  # the header and one epoch
