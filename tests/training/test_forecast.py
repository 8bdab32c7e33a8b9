"""How long a run takes: the line after its first steps, the smaller run that is suggested, and the dry run."""

from __future__ import annotations

import logging
import shlex
from contextlib import suppress
from importlib import import_module

import pytest

from simclrseg.cli.app import main
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.config.smaller import smaller_command
from simclrseg.errors import GateError
from simclrseg.knobs.parsing import parse_config
from simclrseg.training import batches, dry_run, train
from simclrseg.training.forecast import Forecast, in_words
from tests.observers import drive
from tests.small import SMALL_FINETUNE, SMALL_PRETRAIN, changed, in_runs


@pytest.mark.parametrize("start", [0, 250])
def test_after_twenty_steps_one_line_says_how_long_the_whole_run_takes(caplog, start):
    caplog.set_level(logging.INFO, "simclrseg")
    drive(Forecast(), steps=60, seconds=2.0, start=start)
    assert caplog.messages == ["about 33 min for the whole run: 60 images/s, 2 s a step"]


SIXTY = {"training": {"epochs": 60}}


def test_a_run_of_fewer_steps_needs_no_forecast(caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    drive(Forecast(), steps=19, seconds=2.0)
    assert caplog.messages == []


@pytest.mark.parametrize(("seconds", "lines"), [(7.0, 1), (8.0, 2)])  # 1,000 steps: 1 h 57 min and 2 h 13 min
def test_above_two_hours_a_smaller_run_is_suggested_once(caplog, seconds, lines):
    caplog.set_level(logging.INFO, "simclrseg")
    drive(Forecast(suggestion=lambda whole: f"simclrseg pretrain --epochs {whole:.0f}"), steps=60, seconds=seconds)
    assert len(caplog.messages) == lines
    assert caplog.messages[1:] == ["a smaller run: simclrseg pretrain --epochs 8000"][: lines - 1]


@pytest.mark.parametrize(
    ("model", "tree", "command"),
    [
        (
            FinetuneConfig,
            {
                "data": {"dataset": "shapes", "image_size": 64},
                "model": {"task": "classify", "backbone": "cnn"},
                **SIXTY,
            },
            "finetune --dataset shapes --image-size 64 --task classify --backbone cnn --epochs 30",
        ),
        (
            PretrainConfig,
            {"data": {"dataset": ["shapes", "cifar10"]}},
            "pretrain --dataset shapes --dataset cifar10 --image-size 96 --backbone resnet18 --epochs 20",
        ),
        (
            PretrainConfig,
            {"data": {"dataset": "shapes", "image_size": 64}, "model": {"backbone": "resnet18"}},
            "pretrain --dataset shapes --image-size 64 --backbone resnet18 --epochs 10",
        ),
        (
            PretrainConfig,
            {"data": {"dataset": "shapes"}, "model": {"method": "reconstruction"}},
            "pretrain --dataset shapes --image-size 96 --method reconstruction --backbone resnet18 --epochs 1000",
        ),
        (
            FinetuneConfig,
            {"data": {"dataset": "shapes"}, "model": {"pretrained": "pets"}, **SIXTY},
            "finetune --dataset shapes --image-size 128 --pretrained pets --epochs 60",
        ),
    ],
)
def test_the_suggestion_is_a_smaller_network_then_fewer_epochs(model, tree, command):
    assert smaller_command(parse_config(model, tree), 4 * 3600) == f"simclrseg {command}"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pretrain", "-d cifar10 --max-images 2000 --epochs 400 --strict --crop-scale 0.3 --projection-hidden 0"),
        ("pretrain", "-d shapes --optimizer adamw --learning-rate 0.01 --batch-size 64 --warmup-epochs 9 --epochs 30"),
        ("pretrain", "-d shapes --method distillation --teacher dinov2 --set queue=64 --epochs 400"),
        (
            "pretrain",
            "-d shapes --method distillation --teacher dinov2 --optimizer sgd --learning-rate 0.001 "
            "--augmentation paper --crop-scale 0.14 --epochs 400",
        ),
        ("finetune", "-d shapes --unfreeze progressive --unfreeze-at 0.2 0.4 --ema 0.9 --decoder fpn --epochs 60"),
        ("finetune", "--config eurosat_classify -d shapes --unfreeze progressive --unfreeze-at 10 20 --epochs 50"),
        ("finetune", "-d shapes --backbone vit_b_16 --decoder dpt --image-size 224 --epochs 60"),
    ],
)
def test_the_suggestion_is_a_command_that_keeps_all_else_and_ends_within_two_hours(monkeypatch, command, words):
    got, hours = [], 40
    monkeypatch.setattr(import_module(f"simclrseg.commands.{command}"), command, lambda config, **_: got.append(config))
    for line in (f"simclrseg {command} {words}", lambda: smaller_command(got[0], hours * 3600)):
        with pytest.raises(SystemExit):
            main(shlex.split(line if isinstance(line, str) else line())[1:])
    before, after = (config.model_dump() for config in got)
    work = after["training"]["epochs"] * after["data"]["image_size"] ** 2 * 0.5  # ResNet-18 for ResNet-50
    assert hours * work / (before["training"]["epochs"] * before["data"]["image_size"] ** 2) <= 2
    for values in (before, after):
        del values["data"]["image_size"], values["model"]["backbone"], values["training"]["epochs"]
        values["training"].pop("warmup_epochs")
        shares = values["training"].pop("unfreeze_at", (0, 0))
        assert max(shares) < 1 or values is before
    if before.get("segment", {}).get("decoder") == "dpt":
        before["segment"]["decoder"] = None  # for vision transformers
    assert after == before


def test_a_suggestion_of_fewer_epochs_keeps_moments_that_were_given_in_epochs_as_shares():
    tree = {"data": {"dataset": "shapes", "unlabelled": ["shapes"]}, "training": {"epochs": 40}}
    config = parse_config(FinetuneConfig, {**tree, "consistency": {"ramp": [5, 40]}})
    line = smaller_command(config, 400 * 3600)
    assert line.endswith("--epochs 1 --set consistency.ramp=0.125,0.999")
    usual = parse_config(FinetuneConfig, {**tree, "consistency": {"ramp": [0, 0.4]}})
    assert smaller_command(usual, 400 * 3600).endswith("--set consistency.ramp=0.0,0.4")


def test_the_suggestion_keeps_to_the_folder_of_runs():
    config = parse_config(FinetuneConfig, {"model": {"pretrained": "pets"}, "console": {"runs": "mine"}, **SIXTY})
    assert smaller_command(config, 4 * 3600).endswith(" --runs mine")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40, "40 s"), (720, "12 min"), (3600, "1 h"), (12000, "3 h 20 min"), (439200, "5 days 2 h"), (3599, "1 h")],
)
def test_times_are_in_words(seconds, words):
    assert in_words(seconds) == words


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_dry_run_says_what_the_run_would_take_and_leaves_nothing(tmp_path, command):
    from simclrseg.commands.finetune import finetune
    from simclrseg.commands.pretrain import pretrain

    runs = tmp_path / "runs"
    if command == "pretrain":
        config = changed(in_runs(SMALL_PRETRAIN, runs), "training", batch_size=8)
        result = pretrain(PretrainConfig.model_validate(changed(config, "run", dry_run=True)))
    else:
        config = changed(in_runs(SMALL_FINETUNE, runs), "model", pretrained="none", backbone="resnet18")
        config = changed(config, "training", batch_size=8)
        result = finetune(FinetuneConfig.model_validate(changed(config, "run", dry_run=True)))
    assert not runs.exists()
    assert result.micro_batch == 8
    assert result.images_per_second > 0
    assert result.memory.endswith(" GB")
    assert result.epoch and result.whole_run


def test_a_dry_run_of_slow_steps_is_an_estimate_from_smaller_ones(tmp_path, monkeypatch, caplog):
    from simclrseg.commands.pretrain import pretrain

    caplog.set_level(logging.INFO, "simclrseg")
    config = changed(changed(in_runs(SMALL_PRETRAIN, tmp_path / "runs"), "training", batch_size=8), "run", dry_run=True)
    whole = pretrain(PretrainConfig.model_validate(config))
    monkeypatch.setattr(dry_run, "QUICK", 0.0)
    monkeypatch.setattr(dry_run, "fit", None)  # is not called
    found = pretrain(PretrainConfig.model_validate(config))
    assert whole.dry_run == "nothing was written"
    assert found.dry_run == "an estimate from a step of 8 photos; nothing was written"
    assert found.whole_run and found.seconds > 0 and found.memory.endswith(" GB")
    assert (found.bytes, found.bytes_while_training) == (whole.bytes, whole.bytes_while_training)
    assert sum(line.startswith("about ") and " for the whole run: " in line for line in caplog.messages) == 2


@pytest.mark.parametrize(("limit", "said"), [(0.0, True), (1e9, False)])
def test_a_first_step_that_takes_long_is_announced_before_it_is_taken(tmp_path, monkeypatch, caplog, limit, said):
    from simclrseg.commands.pretrain import pretrain

    caplog.set_level(logging.INFO, "simclrseg")
    for name, value in {"LONG_STEPS": 0.0, "LARGE_BATCHES": 0.0, "A_WHILE": limit}.items():
        monkeypatch.setattr(batches, name, value)

    class StepBegins(Exception):
        pass

    def fit(*arguments, **options):
        raise StepBegins

    monkeypatch.setattr(train, "fit", fit)
    config = changed(in_runs(SMALL_PRETRAIN, tmp_path / "runs"), "run", knn_every=0)
    with pytest.raises(StepBegins):
        pretrain(PretrainConfig.model_validate(config))
    found = [line for line in caplog.messages if line.startswith("the first step takes about ")]
    assert [line.endswith(" s here") for line in found] == [True] * said


@pytest.mark.usefixtures("unexported")
def test_the_disk_that_a_dry_run_foretells_is_what_the_run_takes(tmp_path):
    from simclrseg.commands.finetune import finetune
    from simclrseg.commands.pretrain import pretrain

    def taken(folder):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

    tree = changed(in_runs(SMALL_FINETUNE, tmp_path), "model", pretrained="none", backbone="cnn")
    tree = changed(changed(tree, "data", data_ratio=0.5), "training", batch_size=64)  # an epoch is chosen
    told = finetune(FinetuneConfig.model_validate(changed(tree, "run", dry_run=True)))
    with suppress(GateError):
        finetune(FinetuneConfig.model_validate(tree))
    run = tmp_path / "finetune" / "shapes-none-r0.5"
    assert told.bytes_while_training == pytest.approx(taken(run / "checkpoints"), rel=0.02)
    assert told.bytes == pytest.approx(2 * (run / "model.safetensors").stat().st_size, rel=0.02)
    tree = changed(in_runs(SMALL_PRETRAIN, tmp_path), "training", batch_size=64)
    told = pretrain(PretrainConfig.model_validate(changed(tree, "run", dry_run=True)))
    run = pretrain(PretrainConfig.model_validate(tree)).run
    assert told.bytes_while_training == pytest.approx(taken(run / "checkpoints"), rel=0.02)
    assert told.bytes == pytest.approx((run / "backbone.safetensors").stat().st_size, rel=0.02)
