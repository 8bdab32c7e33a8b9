"""What pretraining makes of its knobs: the weights, files and lines that a run leaves, and when it leaves them."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from simclrseg.charts import plots
from simclrseg.commands.finetune import finetune
from simclrseg.commands.prepare_finetune import prepare as prepare_finetuning
from simclrseg.commands.prepare_pretrain import prepare
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.config.smaller import suggested
from simclrseg.data.augment import PAIR_STRENGTHS, STRENGTHS, adjusted
from simclrseg.data.loader import Loader, some_rows
from simclrseg.data.normalization import band_statistics
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.engine.history import StepRecord
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import LARS, adam, parameter_groups
from simclrseg.errors import DataError, ImageError, Interrupted, UsageError
from simclrseg.system import distributed
from simclrseg.training import forecast
from simclrseg.training.batches import MicroBatching
from simclrseg.training.folder import open_run, resumed_run
from simclrseg.training.machine import prepare_machine
from simclrseg.training.session import Session
from simclrseg.training.train import Trainer
from tests.cli.streams import unread
from tests.engine.small import same
from tests.folders import write
from tests.observers import Watcher, stop_at
from tests.small import MACHINE, SMALL_FINETUNE, changed, in_runs

TINY: dict[str, Any] = {
    "data": {"dataset": ["shapes"], "image_size": 32},
    "model": {"backbone": "cnn"},
    "training": {"batch_size": 8, "micro_batch": 4, "epochs": 20},
    "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
}
"""512 photos, 64 steps an epoch."""
EPOCHS, STEPS = 20, 2
KNOBS: dict[str, Any] = {
    **TINY,
    "data": {**TINY["data"], "max_images": 16, "augmentation": "paper", "blur_probability": 0.25},
    "simclr": {"projection_hidden": [16], "projection_dim": 6, "temperature": 0.25},
    "training": {
        **TINY["training"],
        "lr_scaling": "linear",
        "final_rate": 0.1,
        "weight_decay": 0.01,
        "clip": 0.1,
    },
    "run": {"name": "knobs", "seed": 3, "knn_every": 3, "checkpoint_steps": 3, "keep_checkpoints": 2},
}
"""None of them as by default; 16 photos, 2 steps an epoch."""
PEAK = 0.3 * 8 / 256


def rate(step: int) -> float:
    """Two of twenty epochs of warm-up, then a cosine."""
    warmup, total = 2 * STEPS, EPOCHS * STEPS
    if step < warmup:
        return PEAK * (step + 1) / warmup
    return PEAK * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))))


class States(Watcher):
    """Looks after each step which states of a run are kept by then."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.folder = run / "checkpoints" / "last"
        self.kept: list[list[int]] = []

    def on_step(self, record: StepRecord) -> None:
        super().on_step(record)
        self.kept.append(kept(self.folder))


def kept(folder: Path) -> list[int]:
    """Steps of the states that are kept in a folder."""
    return sorted(int(path.stem.removeprefix("state-")) for path in folder.glob("state-*.pt"))


@dataclass
class Run:
    """A run that has ended, and the lines that it logged."""

    folder: Path
    watcher: States
    lines: list[str]

    @property
    def rates(self) -> list[float]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [row["learning_rate"] for row in map(json.loads, lines) if "learning_rate" in row]

    @property
    def last(self) -> dict[str, torch.Tensor]:
        """All weights, as the last state has them."""
        return Checkpoints(self.folder / "checkpoints").load_last().model


def run_of(config: dict[str, Any], runs: Path) -> Run:
    folder = runs / "pretrain" / "knobs"
    watcher, lines, handler = States(folder), [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("simclrseg")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        pretrain(PretrainConfig.model_validate(in_runs(config, runs)), observers=[watcher])
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return Run(folder, watcher, lines)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """A run of KNOBS, so slow that a smaller one is suggested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "LONG_RUN", 0.0)
        return run_of(KNOBS, tmp_path_factory.mktemp("whole") / "runs")


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Path:
    """The folder of runs in which one of KNOBS was interrupted after three steps."""
    runs = tmp_path_factory.mktemp("cut") / "runs"
    with pytest.raises(Interrupted):
        pretrain(PretrainConfig.model_validate(in_runs(KNOBS, runs)), observers=[stop_at(step=3)])
    return runs


def prepared(**run):
    return prepare(Session("pretrain", PretrainConfig.model_validate(changed(TINY, "run", **run)), MACHINE))


def first_photos(batches: Loader, *, epoch: int = 0) -> list[int]:
    epochs = batches.epoch(epoch)
    found = next(epochs)["index"].tolist()
    epochs.close()
    return found


# How it trains


def test_the_rate_climbs_for_two_of_twenty_epochs_then_falls_along_a_cosine(whole):
    assert whole.rates == pytest.approx([rate(step) for step in range(EPOCHS * STEPS)])
    assert rate(0) == pytest.approx(0.00234375) and rate(4) == pytest.approx(0.009375)
    assert rate(22) == pytest.approx(0.55 * 0.009375)


def test_a_warm_up_that_does_not_fit_is_told_and_the_rate_falls_all_the_same(whole, tmp_path):
    short = run_of(changed(KNOBS, "training", epochs=10, warmup_epochs=10), tmp_path)
    assert short.rates.index(pytest.approx(PEAK)) == 1  # two steps of an epoch
    assert len(short.rates) == 10 * STEPS and short.rates[-1] < PEAK / 4
    assert "a warm-up of 10 epochs does not fit into 10: it takes 1, as by default" in short.lines
    assert not any("warm-up" in line for line in whole.lines)
    assert not any(line.startswith("a smaller run") for line in short.lines)  # 20 steps, and far from two hours


def test_the_rate_that_was_resolved_is_told_and_stored(whole):
    (line,) = [line for line in whole.lines if "steps an epoch" in line]
    assert line == "16 photos, 2 steps an epoch, batch 8, lars at 0.009375, chance level of the loss 2.71"
    stored = json.loads((whole.folder / "environment.json").read_text())
    assert stored["learning_rate"] == pytest.approx(0.009375)
    assert (stored["photos"], stored["micro_batch"], stored["precision"]) == (16, 4, "fp32")


def of_the_engine(config: dict[str, Any], **knobs: Any) -> dict[str, torch.Tensor]:
    """The weights of a training by hand."""
    start = prepare(Session("pretrain", PretrainConfig.model_validate(config), MACHINE))
    optimizer = LARS(parameter_groups(start.task.model, 0.01), learning_rate=PEAK)
    fit(start.task, start.batches, optimizer=optimizer, device=torch.device("cpu"), micro_batch=4, clip=0.1, **knobs)
    return start.task.model.state_dict()


def test_the_weights_are_those_of_the_engine_with_the_knobs_that_were_asked_for(whole):
    assert same(whole.last, of_the_engine(KNOBS, schedule=rate, epochs=EPOCHS))


def test_the_network_computes_in_the_number_format_that_was_asked_for(tmp_path):
    config = changed(changed(KNOBS, "data", max_images=8), "training", epochs=1)
    half = run_of(changed(config, "hardware", precision="bf16"), tmp_path)
    (only,) = half.rates
    assert same(half.last, of_the_engine(config, schedule=lambda _: only, epochs=1, precision="bf16"))


def test_a_fine_tuning_is_that_of_the_engine_with_its_seed_its_clip_and_a_slower_encoder(tmp_path, unexported):
    tree = changed(SMALL_FINETUNE, "model", pretrained="none", backbone="cnn", dropout=0.5)
    recipe = {"epochs": 1, "micro_batch": 16, "optimizer": "adam", "weight_decay": 0.01, "ema": None}
    recipe |= {"encoder_lr_factor": 0.25, "clip": 0.01}
    tree = changed(changed(tree, "training", **recipe), "data", data_ratio=0.1)
    config = FinetuneConfig.model_validate(in_runs({**tree, "run": {"seed": 3}}, tmp_path))
    folder = finetune(config).run
    start = prepare_finetuning(Session("finetune", config, MACHINE))
    model = start.learner.model
    slower = {weight: 0.25 for name, weight in model.named_parameters() if name.startswith("encoder.")}
    optimizer = adam(parameter_groups(model, 0.01, scales=slower), learning_rate=1e-3, weight_decay=0.01)
    rates = iter(Run(folder, States(folder), []).rates)
    fit(
        start.learner,
        start.batches,
        optimizer=optimizer,
        schedule=lambda _: next(rates),
        epochs=1,
        device=torch.device("cpu"),
        clip=0.01,
        seed=3,
    )
    assert slower and same(Checkpoints(folder / "checkpoints").load_last().model, model.state_dict())


def test_a_fine_tuning_learns_from_training_photos_and_compares_epochs_on_validation_photos():
    tree = changed(SMALL_FINETUNE, "model", pretrained="none", backbone="cnn")
    tree = changed(tree, "data", normalization="dataset")
    start = prepare_finetuning(Session("finetune", FinetuneConfig.model_validate(tree), MACHINE))
    split, dataset = start.target.split, start.target.dataset
    assert tuple(sorted(start.batches.samples.indices)) == split.train
    assert start.batches.shuffle and start.batches.samples.strengths == PAIR_STRENGTHS["standard"]
    assert tuple(start.validation.samples.indices) == split.validation and not start.validation.drop_last
    assert start.validation.samples.strengths == PAIR_STRENGTHS["none"]
    assert start.metadata.mean == band_statistics(dataset, split.train, threads=1).mean
    assert not {*split.test} & {*split.train, *split.validation}


def test_k_nn_is_measured_every_three_epochs_and_at_the_end_and_the_last_weights_are_kept(whole):
    rows = list(csv.DictReader((whole.folder / "metrics.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows if row["val_knn"]] == [3, 6, 9, 12, 15, 18, 20]
    assert [path.name for path in (whole.folder / "checkpoints").iterdir()] == ["last"]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("compiles", [False, True])
def test_the_network_is_compiled_where_that_is_asked_for(
    tmp_path, monkeypatch, short_dry_runs, compiles: bool, dry_run: bool
):
    passes = []

    def compiled(forward: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def counted(images: torch.Tensor) -> Any:
            passes.append(len(images))
            return forward(images)

        return counted

    monkeypatch.setattr(torch, "compile", compiled)  # which takes ten seconds
    config = changed(changed(TINY, "training", epochs=1, compile=compiles), "data", max_images=8)
    config = {**config, "run": {"dry_run": dry_run, "knn_every": 0}}
    pretrain(PretrainConfig.model_validate(in_runs(config, tmp_path)))
    assert passes == ([8] * 4 if compiles else [])  # two micro-batches of four photos' two views, each passed twice


def test_the_task_has_the_temperature_and_the_widths_that_were_asked_for(whole):
    task = prepare(Session("pretrain", PretrainConfig.model_validate(KNOBS), MACHINE)).task
    assert task.temperature == 0.25
    heads = [weight for name, weight in whole.last.items() if name.startswith("projection_head") and weight.ndim == 2]
    assert [len(weight) for weight in heads] == [16, 6]


def test_states_are_saved_every_three_steps_and_after_each_epoch_and_two_are_kept(whole):
    assert whole.watcher.kept[:11] == [[], [], [2], [2, 3], [3, 4], [3, 4], [4, 6], [4, 6], [6, 8], [8, 9], [9, 10]]
    assert kept(whole.watcher.folder) == [39, 40]


def test_states_are_saved_every_so_many_minutes(tmp_path):
    config = changed(KNOBS, "run", checkpoint_steps=None, checkpoint_minutes=1e-6, keep_checkpoints=9)
    often = run_of(changed(config, "training", epochs=2), tmp_path)
    assert often.watcher.kept == [[], [1], [1, 2], [1, 2, 3]]


def test_who_watches_is_told_and_so_are_the_files(whole):
    assert [record.step for record in whole.watcher.steps] == list(range(1, EPOCHS * STEPS + 1))
    assert (len(whole.watcher.plans), len(whole.watcher.epochs), whole.watcher.ended) == (1, EPOCHS, 1)
    assert [len((whole.folder / f"{name}.csv").read_text().splitlines()) for name in ("metrics", "timing")] == [21, 21]


@pytest.mark.parametrize("warmup", [1, 2])
def test_a_collapse_is_watched_for_after_warm_up(tmp_path, caplog, warmup):
    for number in range(8):
        write(tmp_path / "grey" / f"{number}.png", np.full((32, 32, 3), 128, np.uint8))
    data = {"dataset": [str(tmp_path / "grey")], "color_strength": 0.0}
    config = changed(changed(TINY, "data", **data), "training", epochs=4, warmup_epochs=warmup)
    pretrain(PretrainConfig.model_validate(in_runs(config, tmp_path)))
    (line,) = [line for line in caplog.messages if "the representation has collapsed" in line]
    assert f"in epoch {warmup + 1} the features have effective rank 1.0" in line


def test_above_two_hours_on_a_cpu_a_smaller_run_is_suggested(whole):
    (line,) = [line for line in whole.lines if line.startswith("a smaller run: ")]
    assert line.startswith("a smaller run: simclrseg pretrain --dataset shapes ")
    assert " --backbone cnn " in line and f" --runs {whole.folder.parents[1]} " in f"{line} "


def test_on_a_gpu_no_smaller_run_is_suggested():
    assert suggested(PretrainConfig.model_validate(TINY), "cuda") is None


def test_a_dry_run_suggests_a_smaller_run_too(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    monkeypatch.setattr(forecast, "LONG_RUN", 0.0)
    config = changed(TINY, "run", dry_run=True)
    pretrain(PretrainConfig.model_validate({**config, "console": {"runs": str(tmp_path)}}))
    assert sum(line.startswith("a smaller run: simclrseg pretrain") for line in caplog.messages) == 1


# What it learns from


def test_views_have_the_size_and_the_strengths_that_were_asked_for():
    batches = prepare(Session("pretrain", PretrainConfig.model_validate(KNOBS), MACHINE)).batches
    assert next(batches.epoch(0))["image"].shape == (8, 2, 32, 32, 3)
    assert batches.samples.strengths == adjusted(STRENGTHS["paper"], blur_probability=0.25)


def test_the_picture_of_the_views_shows_what_the_network_sees(whole, tmp_path):
    seen = {}
    for batch in prepare(Session("pretrain", PretrainConfig.model_validate(KNOBS), MACHINE)).batches.epoch(0):
        seen |= dict(zip(batch["index"].tolist(), batch["image"].numpy(), strict=True))
    chosen = sorted(seen)[::2]  # eight of 16, evenly
    plots.write_grid([[seen[index][view] for index in chosen] for view in (0, 1)], tmp_path / "expected.png")
    drawn, expected = map(cv2.imread, (str(whole.folder / "augmentations.png"), str(tmp_path / "expected.png")))
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
    monkeypatch.setattr(MicroBatching, "fitting", lambda batching: 8)
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
def again(cut, tmp_path) -> dict[str, Any]:
    """The configuration that goes on with a copy of the interrupted run."""
    shutil.copytree(cut, tmp_path / "runs")
    return in_runs(changed(KNOBS, "run", resume="knobs"), tmp_path / "runs")


@pytest.mark.parametrize(
    ("section", "knob", "value"),
    [
        ("data", "dataset", ["shapes", "shapes"]),
        ("data", "image_size", 64),
        ("data", "augmentation", "cifar"),
        ("data", "max_images", 8),
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
        ("training", "compile", True),
        ("training", "batch_size", 16),
        ("hardware", "device", "auto"),
        ("hardware", "precision", "bf16"),
        ("run", "name", "other"),
        ("run", "seed", 4),
        ("run", "knn_every", 1),
    ],
)
def test_what_changes_the_result_cannot_change_when_a_run_goes_on(cut, section, knob, value):
    config = changed(changed(KNOBS, "run", resume="knobs"), section, **{knob: value})
    config = PretrainConfig.model_validate(in_runs(config, cut))
    with pytest.raises(UsageError) as error:
        resumed_run("pretrain", config)
    assert str(error.value) == f"--resume knobs: {section}.{knob} cannot differ from the run's config.yaml"


def test_all_that_differs_is_named(cut):
    config = changed(changed(KNOBS, "run", resume="knobs", seed=4), "simclr", temperature=0.5)
    with pytest.raises(UsageError, match=r"--resume knobs: run\.seed, simclr\.temperature cannot differ"):
        pretrain(PretrainConfig.model_validate(in_runs(config, cut)))


def test_what_leaves_the_result_as_it_is_may_change(again, whole, tmp_path):
    config = changed(again, "data", cache="none")
    config = changed(config, "hardware", workers=2, devices=1)
    config = changed(config, "run", checkpoint_steps=7, keep_checkpoints=4)
    ended = run_of(config, tmp_path / "runs")
    assert [plan.start_step for plan in ended.watcher.plans] == [3]
    assert kept(ended.watcher.folder) == [35, 36, 38, 40]
    assert same(ended.last, whole.last)
    assert (ended.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(("processes", "set_to"), [(1, [7]), (2, [])])
def test_a_run_goes_on_with_the_threads_that_it_began_with(again, tmp_path, monkeypatch, processes, set_to):
    stored = tmp_path / "runs/pretrain/knobs/environment.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"threads": 7, "processes": processes}))
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    with pytest.raises(Interrupted):
        pretrain(PretrainConfig.model_validate(again), observers=[stop_at(step=4)])
    assert threads == set_to


def test_the_other_processes_take_up_their_threads_too(again, tmp_path, monkeypatch):
    folder = tmp_path / "runs/pretrain/knobs"
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    for resume, processes, set_to in ((None, 1, []), ("knobs", 2, []), ("knobs", 1, [7])):
        began = {"threads": 7, "processes": processes}
        monkeypatch.setattr(distributed, "from_main", lambda make, began=began: (folder, began))
        config = PretrainConfig.model_validate(changed(again, "run", resume=resume))
        machine = prepare_machine(config.hardware)
        with open_run("pretrain", config, name="x", machine=machine, images=[]) as (run, known):
            assert run.folder == folder and known == began
        assert threads == set_to


def test_other_masks_are_refused_whatever_their_files_are_like(again, tmp_path):
    stored = tmp_path / "runs/pretrain/knobs/environment.json"
    config = changed(changed(again, "run", resume="knobs"), "console", runs=str(tmp_path / "runs"))
    config = PretrainConfig.model_validate(config)
    facts = json.loads(stored.read_text())
    images = {"name": "x", "machine": prepare_machine(config.hardware), "images": []}
    digest = hashlib.sha256(b"").hexdigest()[:16]
    stored.write_text(json.dumps(facts | {"photos_hash": digest, "truth_hash": "one"}))
    says = "--resume knobs: the masks, or how they are read, are not those that the run began with"
    run, _ = resumed_run("pretrain", config)
    with pytest.raises(DataError, match=says), open_run("pretrain", config, resumed=run, truth="two", **images):
        pass
    with open_run("pretrain", config, resumed=run, truth="one", **images) as (same, _):
        assert same.environment["truth_hash"] == "one"


@pytest.mark.usefixtures("short_dry_runs")
@pytest.mark.parametrize(
    ("images", "training", "remedy"),
    [
        (2, {"micro_batch": "auto"}, "add photos, or take more of those that there are"),
        (8, {"micro_batch": 2}, "take a larger --micro-batch, or --batch-size"),
    ],
)
def test_too_few_photos_for_batch_norm_get_a_remedy_that_helps(caplog, images, training, remedy):
    config = changed(changed(TINY, "data", max_images=images), "training", **training)
    pretrain(PretrainConfig.model_validate(changed(config, "run", dry_run=True)))
    (line,) = [line for line in caplog.messages if line.startswith("batch norm sees 2 photos at a time")]
    assert line.endswith(f"little can be learned; {remedy}")


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


def test_photos_without_content_end_with_the_line_that_nothing_was_learned(field_cases, tmp_path):
    blank = {"dataset": [str(field_cases / "50-blank-photos")], "image_size": 32}
    run = run_of({**TINY, "data": blank, "training": {"batch_size": 8, "epochs": 2}}, tmp_path)
    [line] = [line for line in run.lines if line.startswith("the loss ended at ")]
    assert "of a network that knows nothing: try more photos, more --epochs" in line
