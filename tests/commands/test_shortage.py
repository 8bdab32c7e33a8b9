"""Little memory: nothing is put through a network in more than a micro-batch, and a run that was short is finished."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from simclrseg.commands import finetune as recipe
from simclrseg.commands.finetune import finetune
from simclrseg.commands.prepare_finetune import prepare
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import (
    GateError,
    Interrupted,
    OutOfMemory,
    OutputError,
    RunError,
    SimclrsegError,
    TrainingError,
    UsageError,
)
from simclrseg.evaluation.scored import model_run
from simclrseg.methods.reconstruction.method import Reconstruction
from simclrseg.models.weights import read_weights
from simclrseg.runs.names import MODEL_FILE, ONNX_FILE
from simclrseg.runs.run import Run
from simclrseg.targets.classify.target import Classification
from simclrseg.targets.segment.learner import Segmentation
from simclrseg.training import train as training
from simclrseg.training.session import Session
from simclrseg.training.train import Trainer
from tests.folders import write_colours, write_figures
from tests.small import MACHINE, changed, evaluated


class Memory:
    """What holds so many images of a forward pass that does not learn; the most that came at once."""

    def __init__(self) -> None:
        self.holds, self.most = 4, 0

    def limit(self, logits: Any) -> Any:
        def limited(task: Any, images: Tensor) -> Tensor:
            if not task.model.training:
                self.most = max(self.most, len(images))
                if len(images) > self.holds:
                    raise MemoryError
            return logits(task, images)

        return limited


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    memory = Memory()
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Segmentation, Classification):
            patch.setattr(kind, "logits", memory.limit(kind.logits))
        yield memory


@pytest.fixture(autouse=True)
def fresh(memory: Memory) -> None:
    memory.holds, memory.most = 4, 0


class Watcher:
    """An observer that counts steps, and leaves less memory when training has ended."""

    def __init__(self, memory: Memory, *, then: int) -> None:
        self.memory, self.then, self.steps = memory, then, 0

    def on_start(self, plan: Any) -> None: ...
    def on_step(self, record: Any) -> None:
        self.steps += 1

    def on_epoch(self, record: Any) -> None: ...
    def on_end(self) -> None:
        self.memory.holds = self.then


def config_of(photos: Path, runs: Path, **run: Any) -> FinetuneConfig:
    task = photos.name
    tree = {
        "data": {"dataset": str(photos), "image_size": 32, "fold": "1/3"},
        "model": {"task": task, "backbone": "cnn"},
        "training": {"epochs": 1, "batch_size": 8, "micro_batch": 4, "ema": 0.5},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {"name": task, **run},
        "segment": {"examples_every": 1} if task == "segment" else {},
        "console": {"runs": str(runs)},
    }
    return FinetuneConfig.model_validate(tree)


BOTH = pytest.mark.parametrize("short", ["segment", "classify"], indirect=True)
ONE = pytest.mark.parametrize("short", ["classify"], indirect=True)


@pytest.fixture(scope="module")
def short(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, memory: Memory) -> Path:
    """The photos of a task; in ``runs`` beside them lies a run whose test photos did not fit the memory."""
    root = tmp_path_factory.mktemp("short")
    photos, runs = root / request.param, root / "runs"
    if request.param == "segment":
        write_figures(photos, 48)
    else:
        write_colours(photos, {"blue": 20, "green": 20})
    memory.holds, memory.most = 4, 0
    with pytest.raises(OutOfMemory) as caught:
        finetune(config_of(photos, runs), observers=[Watcher(memory, then=2)])
    command = f"simclrseg finetune --resume {photos.name} --runs {runs} --micro-batch 2"
    assert str(caught.value) == f"out of memory in scoring with micro-batch 4: finish the run with `{command}`"
    assert caught.value.exit_code == 1
    assert memory.most == 4  # of 11 validation photos
    return photos


@pytest.fixture
def unfinished(short: Path, tmp_path: Path) -> Run:
    """The run, in a folder of its own."""
    shutil.copytree(short.parent / "runs", tmp_path / "runs")
    return Run(tmp_path / "runs/finetune" / short.name)


def resumed(run: Run, photos: Path, **training: Any) -> FinetuneConfig:
    config = config_of(photos, run.root, resume=run.name).model_dump()
    return FinetuneConfig.model_validate(changed(config, "training", **training))


@BOTH
def test_the_weights_of_a_run_that_could_not_be_scored_are_saved_without_scores(unfinished: Run) -> None:
    _, metadata = read_weights(unfinished.folder / MODEL_FILE)
    assert metadata is not None and metadata.metrics == {} and metadata.epochs == 1
    assert not unfinished.finished and not unfinished.holds("test.json") and not unfinished.holds(ONNX_FILE)


@BOTH
@pytest.mark.usefixtures("unexported")
def test_a_run_that_was_short_is_finished_without_a_step(short: Path, unfinished: Run, memory: Memory) -> None:
    before, watcher = read_weights(unfinished.folder / MODEL_FILE)[0], Watcher(memory, then=2)
    memory.holds = 2
    test = finetune(resumed(unfinished, short, micro_batch=2), observers=[watcher]).test
    assert watcher.steps == 0 and memory.most == 2
    after, metadata = read_weights(unfinished.folder / MODEL_FILE)
    assert all((after[name] == tensor).all() for name, tensor in before.items())
    assert metadata is not None and metadata.metrics == test.get("original", test)["metrics"]
    assert json.loads((unfinished.folder / "test.json").read_text()) == test
    run = Run(unfinished.folder)
    assert run.finished and run.holds(ONNX_FILE) and run.holds("curves.png")
    memory.holds = 99
    result = evaluated(run.root, run.name, batch_size=99)
    assert memory.most > 4
    assert {name: result["metrics"][name] for name in metadata.metrics} == pytest.approx(metadata.metrics)


@BOTH
def test_an_unfinished_run_is_scored_in_its_micro_batches(unfinished: Run, memory: Memory) -> None:
    assert evaluated(unfinished.root, unfinished.name)["n"] > 4
    assert memory.most == 4
    with pytest.raises(OutOfMemory, match=r"out of memory in batches of 5: try --batch-size 2$"):
        evaluated(unfinished.root, unfinished.name, batch_size=5)
    memory.holds = 0
    with pytest.raises(OutOfMemory, match=r"out of memory in batches of 1: free some memory$"):
        evaluated(unfinished.root, unfinished.name, batch_size=1)
    assert model_run(unfinished.root, unfinished.name) == unfinished  # export takes it too


@ONE
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "out of memory in the export: free some memory"),
        (ValueError("no such\noperator"), r"the export failed \(ValueError: no such\)"),
    ],
)
def test_a_failed_export_leaves_a_finished_run_and_the_command_that_exports_it(
    short: Path, unfinished: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(recipe, "export_onnx", fail)
    command = f"`simclrseg export {unfinished.name} --runs {unfinished.root}`"
    with pytest.raises(GateError, match=f"^{says}; the run is finished without model.onnx[:;] try {command} later$"):
        finetune(resumed(unfinished, short))
    run = Run(unfinished.folder)
    assert run.finished and run.holds("test.json") and not run.holds(ONNX_FILE)
    with pytest.raises(RunError, match=f"there is nothing to resume; .*; {command} writes its model.onnx$"):
        finetune(resumed(run, short))


@ONE
def test_exports_of_a_run_that_is_trained_further_are_not_taken_for_its_network(
    short: Path, unfinished: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (ONNX_FILE, "model.int8.onnx"):
        (unfinished.folder / name).write_bytes(b"of the network before")
    monkeypatch.setattr(recipe, "export_onnx", lambda *_, **__: None)
    finetune(resumed(unfinished, short))
    assert not unfinished.holds(ONNX_FILE) and unfinished.holds("model.int8.onnx")
    assert "model.int8.onnx is of the network before: export it again, with --overwrite" in caplog.text


@ONE
@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OutputError("curves.png", "disk full"), TrainingError, "^curves.png .*; then finish the run with `{}`$"),
        (KeyboardInterrupt(), Interrupted, "^stopped in scoring; go on with: {}$"),
    ],
)
@pytest.mark.usefixtures("unexported")
def test_whatever_stops_a_run_after_its_last_step_the_command_that_finishes_it_is_told(
    short: Path,
    unfinished: Run,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    kind: type[SimclrsegError],
    says: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(training, "training_curves", fail)
        with pytest.raises(kind) as caught:
            finetune(resumed(unfinished, short))
    command = f"simclrseg finetune --resume {unfinished.name} --runs {unfinished.root}"
    assert re.search(says.format(re.escape(command)), str(caught.value))
    assert caught.value.exit_code in (1, 130)
    finetune(resumed(Run(unfinished.folder), short))
    assert Run(unfinished.folder).finished


def test_a_micro_batch_that_batch_norm_cannot_take_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    photos = write_figures(tmp_path / "segment")
    tree = changed(config_of(photos, tmp_path / "runs").model_dump(), "training", micro_batch=1)
    tree = changed(changed(tree, "model", backbone="resnet18"), "data", image_size=64)  # whose last maps are of 2 x 2
    session = Session("finetune", FinetuneConfig.model_validate(tree), MACHINE)
    prepared = prepare(session)
    Trainer(session, prepared.learner, prepared.batches, None, learning_rate=1e-3, suggestion=None)  # not refused
    tree = changed(tree, "data", image_size=32)
    says = "^--micro-batch 1: of one image a batch norm of this network sees one value a channel, .*; take 2 or more$"
    with pytest.raises(UsageError, match=says):
        finetune(FinetuneConfig.model_validate(tree))
    assert not (tmp_path / "runs").exists()


def test_reconstructions_are_painted_in_micro_batches_and_a_run_that_was_short_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    tree: dict[str, Any] = {
        "data": {"dataset": ["shapes"], "image_size": 32, "max_images": 40},
        "model": {"method": "reconstruction", "backbone": "cnn"},
        "reconstruction": {"held_out": 0.2},
        "training": {"epochs": 1, "batch_size": 16, "micro_batch": 4},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {"knn_every": 1},
        "console": {"runs": str(tmp_path)},
    }
    shown, lengths = Reconstruction.paint, []

    def seen(network: nn.Module, inputs: tuple[Tensor]) -> None:
        if isinstance(network, SegmentationModel) and not network.training:
            lengths.append(len(inputs[0]))  # the first is a single one, of which only the shapes are looked at

    def short(task: Any, images: Tensor, cut: Tensor) -> Any:
        if len(images) > 2:
            raise MemoryError
        return shown(task, images, cut)

    monkeypatch.setattr(Reconstruction, "paint", short)
    request.addfinalizer(register_module_forward_pre_hook(seen).remove)
    command = f"`simclrseg pretrain --resume shapes-reconstruction --runs {tmp_path} --micro-batch 2`"
    says = f"out of memory in drawing with micro-batch 4: finish the run with {command}$"
    with pytest.raises(OutOfMemory, match=says):
        pretrain(PretrainConfig.model_validate(tree))
    assert lengths == [1, 4, 4, 4, 4]  # held-out photos, before training and in validation
    tree = changed(changed(tree, "run", resume="shapes-reconstruction"), "training", micro_batch=2)
    assert Run(pretrain(PretrainConfig.model_validate(tree)).run).holds("reconstructions.png")
    assert lengths == [1, 4, 4, 4, 4, 1, 2, 2, 2, 2]
