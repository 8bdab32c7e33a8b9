"""What other tools get, and what is said when they are not there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from simclrseg.engine import LOGGERS, loggers
from simclrseg.engine.history import EpochRecord, Plan, StepRecord
from simclrseg.errors import TrainingError, UsageError
from tests.engine.small import Images, train
from tests.observers import Watcher

CONFIG = {"training.epochs": 2, "data.dataset": ["shapes"]}


@pytest.mark.parametrize("name", list(LOGGERS))
def test_a_tool_that_is_not_installed_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=rf"--log {name}: .*pip install 'simclrseg\[{name}\]'$"):
        loggers.logger(name)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of each scalar in TensorBoard's event files."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_gets_steps_and_epochs(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    watcher = loggers.logger("tensorboard")(tmp_path, CONFIG)
    result, _ = train(tmp_path, validation=Images(2), epochs=2, observers=(watcher,))
    written = scalars(tmp_path)
    assert {"step/loss", "step/accuracy", "learning_rate", "images_per_second", "train/loss", "val/accuracy"} == (
        written.keys() - {"train/accuracy"}
    )
    assert [step for step, _ in written["step/loss"]] == list(range(1, 9))
    assert written["val/accuracy"] == [(e.step, pytest.approx(e.validation["accuracy"])) for e in result.history]
    assert written["learning_rate"][1][1] == pytest.approx(0.005)


def step(number: int, loss: float) -> StepRecord:
    return StepRecord(number, 1, 0.3, {"loss": loss}, 8, seconds=2.0, data_seconds=0.5)


def plan(start_step: int = 0) -> Plan:
    return Plan(3, 2, start_step, (), 8)


def feed(observer: Any, start: Plan, *records: StepRecord) -> None:
    observer.on_start(start)
    for record in records:
        observer.on_step(record)
    observer.on_end()


def test_tensorboard_hides_steps_that_a_resumed_run_takes_again(tmp_path: Path) -> None:
    make = loggers.logger("tensorboard")
    feed(make(tmp_path, CONFIG), plan(), *(step(n, 1.0) for n in (1, 2, 3)))
    feed(make(tmp_path, CONFIG), plan(start_step=1), *(step(n, 2.0) for n in (2, 3)))
    assert scalars(tmp_path)["step/loss"] == [(1, 1.0), (2, 2.0), (3, 2.0)]


class FakeRun:
    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.calls.append(("log", step, values))

    def finish(self) -> None:
        self.calls.append(("finish",))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[Any, ...]]]:
    """A module with the three names of W&B's that are used; what was called, in order."""

    def install(problem: str | None = None) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []
        module = ModuleType("wandb")

        def init(**options: Any) -> FakeRun:
            if problem is not None:
                raise module.Error(problem)
            calls.append(("init", options))
            return FakeRun(calls)

        module.Error, module.init = type("Error", (Exception,), {}), init  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "wandb", module)
        monkeypatch.setattr(loggers, "find_spec", lambda package: object())
        return calls

    return install


def test_wandb_gets_steps_and_epochs_in_one_run_that_can_go_on(tmp_path: Path, wandb) -> None:
    calls = wandb()
    make = loggers.logger("wandb")
    first = make(tmp_path, CONFIG)
    first.on_start(plan())
    first.on_step(step(1, 0.5))
    first.on_epoch(EpochRecord(1, 2, {"loss": 0.4}, {"knn": 0.7}, seconds=1.0))
    first.on_end()
    options = calls[0][1]
    assert (options["project"], options["name"], options["resume"]) == ("simclrseg", tmp_path.name, "allow")
    assert options["config"] == CONFIG
    assert calls[1:] == [
        ("log", 1, {"step/loss": 0.5, "learning_rate": 0.3, "images_per_second": 4.0}),
        ("log", 2, {"epoch": 1, "train/loss": 0.4, "val/knn": 0.7}),
        ("finish",),
    ]
    feed(make(tmp_path, CONFIG), plan(start_step=1))
    assert calls[4][1]["id"] == options["id"]


def test_wandb_without_an_account_is_one_line(tmp_path: Path, wandb) -> None:
    wandb("api_key not configured.\n  run wandb login")
    observer = loggers.logger("wandb")(tmp_path, CONFIG)
    with pytest.raises(TrainingError, match=r"--log wandb: api_key not configured. run wandb login"):
        train(tmp_path, observers=(observer,))


@pytest.mark.parametrize("moment", ["on_step", "on_epoch", "on_end"])
def test_a_tool_that_fails_is_warned_of_once_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    class Failing(Watcher):
        def __getattribute__(self, name: str) -> Any:
            if name == moment:
                tried.append(name)
                raise ConnectionError("the server\n has gone")
            return super().__getattribute__(name)

    tried: list[str] = []
    result, _ = train(tmp_path, epochs=2, observers=(loggers.Dispensable("wandb", Failing()),))
    assert len(result.history) == 2
    assert tried == [moment]
    assert caplog.messages == ["--log wandb failed, and gets no more of this run (the server has gone)"]


def test_a_tool_that_cannot_begin_is_one_line_before_the_first_step(tmp_path: Path) -> None:
    class Closed(Watcher):
        def on_start(self, plan: Plan) -> None:
            raise PermissionError(13, "Permission denied")

    watcher = Watcher()
    tool = loggers.Dispensable("tensorboard", Closed())
    with pytest.raises(TrainingError, match=r"--log tensorboard: \[Errno 13\] Permission denied; nothing is saved yet"):
        train(tmp_path, observers=(watcher, tool))
    assert watcher.steps == []
