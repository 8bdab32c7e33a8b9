"""What holds for every method of pretraining, whoever wrote it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import parameter_groups, sgd
from simclrseg.engine.task import Batch, Task
from simclrseg.errors import Interrupted
from simclrseg.methods import METHODS as OWN
from simclrseg.models.backbones import build_backbone
from simclrseg.system import distributed
from tests.engine.small import CPU, same, train
from tests.gpu import EACH_DEVICE
from tests.methods.small import METHODS, STRANGERS, make_loader, make_method, make_task, one_batch
from tests.observers import stop_at
from tests.processes import Simclrseg, together

RATE = 1e-3  # so low that what differs by rounding is not driven apart
strangers = sorted(set(METHODS) - set(OWN))


def test_methods_of_other_packages_stand_behind_our_own() -> None:
    assert list(METHODS) == [*OWN, *strangers]
    assert set(strangers) == {"byol", "vicreg"}


def vector(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten().float() for tensor in tensors])


def gradient(task: Task, batch: Batch, micro_batch: int | None) -> Tensor:
    device = next(iter(batch.values())).device
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    accumulate_gradient(task, batch, step=3, micro_batch=micro_batch, passes=Passes(device, "fp32", 0), scaler=scaler)
    found = vector(p.grad for p in task.model.parameters() if p.grad is not None)
    task.model.zero_grad()
    return found


@EACH_DEVICE
@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_of_micro_batches_is_that_of_the_whole_batch(name: str, device: torch.device) -> None:
    task, batch = make_task(name), {field: tensor.to(device) for field, tensor in one_batch(name, 8).items()}
    task.model.to(device)
    gradient(task, batch, None)  # gives batch norm statistics, which then stay: in training it sees a micro-batch
    task.train(False)
    whole = gradient(task, batch, None)
    for micro_batch in (1, 3):
        assert float((gradient(task, batch, micro_batch) - whole).norm() / whole.norm()) < 1e-4, micro_batch


@pytest.mark.parametrize("name", METHODS)
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(name: str, tmp_path: Path) -> None:
    options = {"data": make_loader(name, images=24), "epochs": 2, "micro_batch": 4}
    one, other, last = make_task(name), make_task(name), make_task(name)
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    _, whole = train(tmp_path / "whole", task=one, **options)
    with pytest.raises(Interrupted, match="after step 2 of 6"):
        train(tmp_path / "parts", task=other, observers=(stop_at(step=2),), **options)
    _, parts = train(tmp_path / "parts", task=last, **options)
    assert same(whole.model, parts.model) and same(whole.optimizer, parts.optimizer)
    assert same(one.model.state_dict(), last.model.state_dict())
    files = [tmp_path / folder / "metrics.csv" for folder in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def train_all(folder: Path) -> None:
    """Train every method a little, as one of so many processes, and keep what came of it, each as one vector."""
    torch.set_num_threads(1)
    distributed.start(CPU)
    results = {}
    for name in METHODS:
        task = make_task(name)
        task.train(False)  # in which batch norm sees no micro-batch
        first = gradient(task, next(make_loader(name).epoch(0)), 3)
        before = vector(task.model.parameters())
        history = fit(
            task,
            make_loader(name),
            optimizer=sgd(parameter_groups(task.model, 0.0), learning_rate=RATE),
            schedule=lambda step: RATE,
            epochs=1,
            device=CPU,
        ).history
        results[name] = {
            "gradient": first,
            "loss": torch.tensor(history[-1].train["loss"]),
            "weights": vector(task.model.parameters()) - before,
            "buffers": vector(task.model.buffers()),
        }
    torch.save(results, folder / f"{distributed.world_size()}-{distributed.rank()}.pt")
    distributed.dismiss()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process comes to, and each of two."""
    folder = tmp_path_factory.mktemp("processes")
    train_all(folder)
    together(train_all, folder)
    return [torch.load(folder / f"{name}.pt") for name in ("1-0", "2-0", "2-1")]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one_does(name: str, trained: Any) -> None:
    alone, *both = (results[name] for results in trained)
    assert same(*both)
    for what, value in alone.items():  # rounding grows from step to step
        assert (both[0][what] - value).norm() < 1e-2 * value.norm(), what


def run(*words: str, folder: Path, **environment: str) -> str:
    """Both streams of a command in a process that has the strangers on its path."""
    environment |= {"PYTHONPATH": str(STRANGERS), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    done = Simclrseg(*words, folder=folder, **environment).wait(120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


SMALL = (
    *("pretrain", "--dataset", "shapes", "--max-images", "24", "--backbone", "cnn", "--image-size", "32"),
    *("--batch-size", "12", "--epochs", "1", "--device", "cpu", "--precision", "fp32", "--workers", "1"),
)


@pytest.mark.parametrize("name", strangers)
def test_a_strangers_method_is_run_by_the_command(name: str, tmp_path: Path) -> None:
    said = run(*SMALL, "--method", name, "--projection-hidden", "16", folder=tmp_path)
    assert "knn" in said and "effective_rank" in said
    folder = tmp_path / f"runs/pretrain/shapes-{name}"
    with safe_open(folder / "backbone.safetensors", "pt") as weights:
        assert set(weights.keys()) == set(build_backbone("cnn").state_dict())
        assert weights.metadata()["method"] == f'"{name}"'
    card = (folder / "README.md").read_text()
    assert f"pretrained with {METHODS[name].title()}" in card and "| photos | 24 of shapes |" in card
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config[name] == {**make_method(name).knobs.model_dump(), "projection_hidden": [16]}
    assert not config.keys() & (METHODS.keys() - {name})  # a method that is not there any more is not missed


def test_strangers_knobs_are_in_the_help_and_a_shared_one_is_there_once(tmp_path: Path) -> None:
    text = run("pretrain", "--help-all", folder=tmp_path)
    assert "--teacher-decay" in text and "--covariance" in text
    assert text.count("--projection-dim") == 1
    assert "[default: 128, byol 32, vicreg 64]" in " ".join(text.replace("│", "").split())
    assert not (tmp_path / "runs").exists() and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [("--teacher-d", "--teacher-decay"), ("--method by", "byol"), ("--set vicreg.var", "vicreg.variance=")],
)
def test_strangers_knobs_and_names_are_offered_on_tab(words: str, offered: str, tmp_path: Path) -> None:
    line = f"simclrseg pretrain {words}"
    typed = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    assert run(folder=tmp_path, _SIMCLRSEG_COMPLETE="complete_bash", **typed) == f"{offered}\n"


def test_a_strangers_method_that_cannot_be_imported_is_left_out_and_named(tmp_path: Path) -> None:
    package = tmp_path / "packages" / "broken-0.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.0\n")
    (package / "entry_points.txt").write_text("[simclrseg.methods]\nbroken = nowhere.knobs:Knobs\n")
    done = Simclrseg("pretrain", "--help", folder=tmp_path, PYTHONPATH=str(package.parent)).wait(120)
    assert done.returncode == 0 and "--method" in done.stdout and "broken" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("method broken is left out: nowhere.knobs:Knobs of another package cannot be imported")
