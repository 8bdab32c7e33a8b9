"""`--epochs auto`: what it becomes, where that stands, and how such a run goes on; and batches for few photos."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import yaml

from simclrseg.commands.finetune import finetune
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainTraining
from simclrseg.errors import DataError, Interrupted, UsageError
from simclrseg.knobs.parsing import config_of_run, parse_config
from simclrseg.training import knobs
from simclrseg.training.folder import resumed_run
from simclrseg.training.knobs import FinetuneTraining
from tests.observers import stop_at
from tests.small import HARDWARE, changed, export_nothing, in_runs

SMALL: dict[str, Any] = {
    "data": {"dataset": "shapes", "image_size": 32, "max_images": 10},
    "model": {"backbone": "cnn"},
    "segment": {"examples_every": 0},
    "hardware": HARDWARE,
}


def resolved(images: int, *, pretrained: bool = False, unlabelled: bool = False, processes: int = 1, **own: Any) -> Any:
    training = FinetuneTraining(**own)
    return training.resolved(images, pretrained=pretrained, unlabelled=unlabelled, processes=processes)


@pytest.mark.parametrize(
    ("images", "epochs"),
    [
        (26, 750),  # 2 steps an epoch: 1,500 in all
        (17, 1500),  # one step: a last batch of one is left out
        (101, 215),  # 7 steps: 1,505
        (505, 47),  # 32 steps: 1,504
        (800, 30),
        (10_000, 30),
    ],
)
def test_it_is_thirty_passes_or_as_many_as_make_1500_steps(images, epochs):
    assert resolved(images).epochs == epochs
    assert resolved(images, unlabelled=True).epochs == 2 * epochs
    assert resolved(images, epochs=7, unlabelled=True).epochs == 7


@pytest.mark.parametrize(("images", "processes", "batch"), [(100, 1, 16), (16, 1, 16), (9, 1, 9), (9, 2, 8), (2, 1, 2)])
def test_a_batch_is_no_larger_than_the_images(images, processes, batch):
    assert resolved(images, processes=processes).batch_size == batch


@pytest.mark.parametrize(("images", "processes", "batch"), [(500, 1, 120), (60, 1, 60), (61, 2, 60)])
def test_a_batch_of_pretraining_is_no_larger_than_the_images(images, processes, batch):
    assert PretrainTraining(micro_batch=25).batch_of(images, processes) == batch


@pytest.mark.parametrize("kind", [FinetuneTraining, PretrainTraining])
def test_one_image_is_refused(kind):
    with pytest.raises(DataError, match="1 training photo cannot be learned from, as a batch has two: add photos"):
        kind().batch_of(1, 1)


def test_more_processes_than_images_are_refused():
    with pytest.raises(UsageError, match="4 processes cannot share 3 training photos: take 3 or fewer"):
        resolved(3, processes=4)


def test_a_run_that_goes_on_keeps_its_batch_and_its_rate():
    begun = {"batch_size": 15, "learning_rate": 1e-4, "epochs": 7}
    again = FinetuneTraining().resolved(15, processes=1, pretrained=False, unlabelled=False, begun=begun)
    assert (again.batch_size, again.learning_rate) == (15, 1e-4)
    assert FinetuneTraining(optimizer="adam").peak_rate == 1e-4  # as it was, for runs that left it to the optimizer


def test_a_pretrained_encoder_learns_more_slowly_unless_told_otherwise():
    assert resolved(9).encoder_lr_factor == 1
    assert resolved(9, pretrained=True).encoder_lr_factor == 0.1
    assert resolved(9, pretrained=True, encoder_lr_factor=0.5).encoder_lr_factor == 0.5


@pytest.mark.parametrize("at", [(3, 8), (0.4, 2), (0.4, 0.2)])
def test_with_it_layers_join_in_after_fractions_of_the_run(at):
    with pytest.raises(ValueError, match="of epochs auto give fractions, in their order"):
        FinetuneTraining(unfreeze="progressive", unfreeze_at=at)


def run(values: dict[str, Any], **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        export_nothing(monkeypatch)
        monkeypatch.setattr(knobs, "AUTO_STEPS", 3)
        monkeypatch.setattr(knobs, "AUTO_EPOCHS", 2)
        return finetune(parse_config(FinetuneConfig, values), **options)


def test_a_run_of_automatic_length_says_it_and_keeps_it_when_it_goes_on(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    values = changed(in_runs(SMALL, tmp_path), "run", name="it")
    with pytest.raises(Interrupted):
        run(values, observers=[stop_at(epoch=1)])
    assert "batch 9 instead of 16: an epoch has no more" in caplog.text
    assert "3 epochs, 3 steps (--epochs auto)" in caplog.text
    folder = tmp_path / "finetune" / "it"
    stored = yaml.safe_load((folder / "config.yaml").read_text())["training"]
    assert (stored["epochs"], stored["batch_size"], stored["encoder_lr_factor"]) == ("auto", 16, None)
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["epochs"], environment["batch_size"]) == (3, 9)

    resume = changed(values, "run", resume="it")
    typed = changed(changed(resume, "training", micro_batch=3), "run", dry_run=True)
    _, config = resumed_run("finetune", parse_config(FinetuneConfig, typed))
    assert (config.training.epochs, config.training.micro_batch, config.run.dry_run) == (3, 3, True)
    monkeypatch.setattr(knobs, "AUTO_STEPS", 100)  # as if another version had another rule
    with pytest.MonkeyPatch.context() as patch:
        export_nothing(patch)
        result = finetune(parse_config(FinetuneConfig, resume))
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 and result.run == folder

    with pytest.raises(UsageError, match="--epochs 2: run 'it' has 3, and more train it longer"):
        run(changed(resume, "training", epochs=2))
    run(changed(resume, "training", epochs=5))
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 5
    assert yaml.safe_load((folder / "config.yaml").read_text())["training"]["epochs"] == 5
    assert json.loads((folder / "environment.json").read_text())["prolonged"] == [{"epochs": 5, "from_step": 3}]
    again = config_of_run(FinetuneConfig, folder)  # as `evaluate`, `--config` and another --resume read it
    assert again.training.epochs == 5 and again.consistency == FinetuneConfig().consistency


def test_unlabelled_photos_keep_their_weight_when_a_run_gets_longer():
    tree = {"data": {"dataset": "shapes", "unlabelled": ["shapes"]}, "training": {"epochs": 10}}
    before = parse_config(FinetuneConfig, tree)
    longer = parse_config(FinetuneConfig, changed(tree, "training", epochs=40)).prolonging(before)
    assert longer.consistency.ramp_epochs(40) == pytest.approx((2, 4))
