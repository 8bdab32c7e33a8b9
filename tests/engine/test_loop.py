"""The training loop: exact resume, signals, bad losses, the best epoch."""

from __future__ import annotations

import math
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simclrseg.engine import OPTIMIZERS
from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.engine.history import FileHistory, Plan, StepRecord
from simclrseg.engine.loop import evaluate, fit
from simclrseg.engine.meter import Meter
from simclrseg.engine.optimizers import parameter_groups, sgd
from simclrseg.engine.task import Batch, Logs
from simclrseg.errors import DataError, Interrupted, OutOfMemory, OutputError, RunError, TrainingError
from tests.engine.small import (
    CPU,
    Classification,
    Contrast,
    Images,
    Scored,
    accuracy,
    assert_same_run,
    network,
    pixels,
    same,
    train,
    without_times,
)
from tests.gpu import EACH_DEVICE
from tests.observers import Watcher, signal_self, stop_at

STEPS = 4  # an epoch


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_memory_that_a_step_frees_serves_the_next(tmp_path: Path) -> None:
    import resource  # Unix alone has it

    new_pages = []

    class Large(Classification):
        def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            torch.ones(10, 2**20)
            new_pages.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
            return super().training_loss(batch)

    train(tmp_path, task=Large(network()), epochs=10)
    assert min(new_pages) < 100  # of 4 KB each; the tensor has 10,000, and the first steps get the heap its size


class Crash(Exception):
    pass


def crash() -> None:
    raise Crash


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("step", [1, 6, 8, 12])  # inside an epoch, before a validation, and after the last step
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path, optimizer: str, step: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    options = {"optimizer": OPTIMIZERS[optimizer], "validation": Images(2), "epochs": 3, "clip": 1.0}
    whole, _ = train(tmp_path / "whole", **options)
    with pytest.raises(Interrupted, match=f"after step {step} of 12") as stopped:
        train(tmp_path / "parts", observers=(stop_at(step=step),), **options)
    assert stopped.value.exit_code == 130
    watcher = Watcher()
    parts, _ = train(tmp_path / "parts", observers=(watcher,), **options)
    assert [record.step for record in watcher.steps] == list(range(step + 1, 13))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert without_times(whole.history) == without_times(parts.history)


def test_whoever_asks_the_network_after_an_epoch_changes_nothing_in_the_next(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "asked").mkdir()
    train(tmp_path / "alone", task=Classification(network(dropout=0.3)))
    task = Classification(network(dropout=0.3))
    train(tmp_path / "asked", task=task, observers=(Watcher(epoch=1, act=lambda: task.train(False)),))
    assert_same_run(tmp_path / "alone", tmp_path / "asked")


class Remembering(Classification):
    """Weighs its loss by how often it has been taken."""

    def __init__(self) -> None:
        super().__init__(network())
        self.memory = {"taken": torch.zeros(2)}

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        loss, logs = super().training_loss(batch)
        return loss / (1 + self.memory["taken"].sum()), logs

    def after_step(self, step: int, steps: int) -> None:
        self.memory["taken"] += 0.5


def test_what_a_task_remembers_survives_a_resume(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "whole", task=Remembering())
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", task=Remembering(), observers=(stop_at(step=6),))
    task = Remembering()
    train(tmp_path / "parts", task=task)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert task.memory["taken"].tolist() == [6.0, 6.0]  # of three epochs of four steps


def test_a_state_from_before_tasks_remembered_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, task=Remembering(), observers=(stop_at(step=6),))
    path = tmp_path / "checkpoints" / "last" / "state.pt"
    content = torch.load(path)
    del content["memory"]
    torch.save(content, path)
    task = Remembering()
    train(tmp_path, task=task)
    assert task.memory["taken"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (lambda: Contrast(network(dropout=0.3, out=8)), {"data": Images(4, 6, views=2), "micro_batch": 2}),
        (lambda: Contrast(network(dropout=0.3, out=8)), {"data": Images(4, 6, views=2), "precision": "bf16"}),
        (lambda: Classification(network(dropout=0.3)), {"precision": "fp16", "micro_batch": 4}),
    ],
    ids=["cached", "bf16", "fp16"],
)
def test_resume_is_exact_with_micro_batches_and_half_precision(
    tmp_path: Path, task: Callable[[], Classification], options: dict[str, object]
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "whole", task=task(), epochs=2, **options)
    with pytest.raises(Interrupted):
        train(
            tmp_path / "parts",
            task=task(),
            epochs=2,
            observers=(stop_at(step=3, by=signal.SIGTERM),),
            **options,
        )
    train(tmp_path / "parts", task=task(), epochs=2, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


class Measured(Classification):
    """Measures what the last forward pass left."""

    def measure(self) -> Logs:
        return {"norm": self.model[-1].weight.norm()}


@pytest.mark.parametrize("step", [1, 3, 5, 8])
def test_what_is_measured_every_few_steps_survives_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr("simclrseg.engine.loop.MEASURE_EVERY", 2)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    options = {"validation": Images(2), "validate_every": 2, "keep": "last"}
    watcher = Watcher()
    train(tmp_path / "whole", task=Measured(network()), observers=(watcher,), **options)
    assert [record.step for record in watcher.steps if "norm" in record.logs] == [1, 3, 5, 7, 9, 11]
    stopper = stop_at(step=step)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", task=Measured(network()), observers=(stopper,), **options)
    train(tmp_path / "parts", task=Measured(network()), **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


class Ending(Classification):
    """Does something in one training step, from 1."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        super().__init__(network())
        self.step, self.act, self.steps = step, act, 0

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        self.steps += 1
        if self.steps == self.step:
            self.act()
        return super().training_loss(batch)


@pytest.mark.parametrize(
    ("act", "ends"), [(signal_self(signal.SIGINT), Interrupted), (crash, Crash)], ids=["signal", "crash"]
)
def test_steps_whose_logs_are_read_late_count_once_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], ends: type[Exception]
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "whole", task=Classification(network()), validation=Images(2))
    monkeypatch.setattr("simclrseg.engine.loop.Meter", lambda observers, every: Meter(observers, every=3))  # as on GPUs
    options = {"validation": Images(2), "every_steps": 2}
    with pytest.raises(ends):  # at a step that is not yet read; the state of 6 stands, or that of 7
        train(tmp_path / "parts", task=Ending(7, act), **options)
    train(tmp_path / "parts", task=Classification(network()), **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("step", [5, 11])
def test_a_run_that_died_goes_on_from_its_last_checkpoint_to_the_same_bits(tmp_path: Path, step: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "whole", validation=Images(2))
    with pytest.raises(Crash):  # lines of steps that were lost are in the files already
        train(tmp_path / "parts", validation=Images(2), observers=(Watcher(step=step, act=crash),))
    assert len((tmp_path / "parts/metrics.jsonl").read_text().splitlines()) > step
    train(tmp_path / "parts", validation=Images(2))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_that_died_after_an_epochs_record_does_not_record_it_twice(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "whole", validation=Images(2))
    with pytest.raises(Interrupted):  # leaves the state before the validation of epoch 2
        train(
            tmp_path / "parts",
            validation=Images(2),
            observers=(stop_at(step=8),),
        )
    with pytest.raises(Crash):
        train(tmp_path / "parts", validation=Images(2), observers=(Watcher(epoch=2, act=crash),))
    train(tmp_path / "parts", validation=Images(2))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_an_epoch_is_saved_before_anyone_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "whole", validation=Images(2))
    with monkeypatch.context() as patch:
        tell = FileHistory.on_epoch
        patch.setattr(FileHistory, "on_epoch", lambda self, record: tell(self, record) if record.epoch < 2 else crash())
        with pytest.raises(Crash):
            train(tmp_path / "parts", validation=Images(2))
    state = Checkpoints(tmp_path / "parts/checkpoints").load_last()
    assert state is not None
    assert (state.epoch, state.step) == (2, 2 * STEPS)
    assert (tmp_path / "parts/metrics.csv").read_text().count("\n") == 2  # the header and one epoch
    watcher = Watcher()
    train(tmp_path / "parts", validation=Images(2), observers=(watcher,))
    assert watcher.steps[0].step == 2 * STEPS + 1
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_file_that_cannot_be_written_stops_the_run_and_says_what_is_left(tmp_path: Path) -> None:
    def full() -> None:
        raise OutputError("metrics.csv", "No space left on device", remedy="free some space")

    says = r"^metrics.csv cannot be written \(No space left on device\): free some space; the last checkpoint stands$"
    with pytest.raises(TrainingError, match=says):
        train(tmp_path, observers=(Watcher(epoch=2, act=full),))
    state = Checkpoints(tmp_path / "checkpoints").load_last()
    assert state is not None
    assert state.epoch == 2


def test_a_signal_during_validation_abandons_it_and_saves(tmp_path: Path) -> None:
    class SignalledImages(Images):
        def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
            for number, batch in enumerate(super().epoch(epoch, start_step)):
                if number == 1:
                    signal.raise_signal(signal.SIGTERM)
                yield batch

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "whole", validation=Images(3), epochs=2)
    with pytest.raises(Interrupted) as stopped:
        train(tmp_path / "parts", validation=SignalledImages(3), epochs=2)
    assert stopped.value.exit_code == 143
    state = Checkpoints(tmp_path / "parts/checkpoints").load_last()
    assert state is not None
    assert (state.epoch, state.step) == (0, STEPS)
    train(tmp_path / "parts", validation=Images(3), epochs=2)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


class Short(Classification):
    """Has memory for the validation of so many images at once."""

    def __init__(self, holds: int) -> None:
        super().__init__(network(dropout=0.3))
        self.holds = holds

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        hits, lengths = 0.0, []
        for batch in batches:
            lengths.append(len(batch["image"]))
            if lengths[-1] > self.holds:
                raise MemoryError
            hits += accuracy(self.model(pixels(batch)), batch).item() * lengths[-1]
        return {"accuracy": hits / sum(lengths), "most": max(lengths)}


def test_validation_runs_in_micro_batches(tmp_path: Path) -> None:
    result, _ = train(tmp_path, task=Short(2), validation=Images(2, 5), epochs=1, micro_batch=2)
    assert result.best["most"] == 2


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 9])
def test_scores_in_micro_batches_are_those_of_whole_batches(micro_batch: int) -> None:
    whole, parts = (
        evaluate(Short(9), Images(3, 5), device=CPU, micro_batch=size)["accuracy"] for size in (None, micro_batch)
    )
    assert parts == pytest.approx(whole)


def test_out_of_memory_in_validation_costs_no_step(tmp_path: Path) -> None:
    says = "out of memory in validation with micro-batch 6: try --micro-batch 3; the last checkpoint stands"
    (tmp_path / "straight").mkdir()
    with pytest.raises(OutOfMemory, match=says):
        train(tmp_path, task=Short(3), validation=Images(2), average=0.5, epochs=1)
    watcher = Watcher()
    again, state = train(
        tmp_path, task=Short(3), validation=Images(2), average=0.5, epochs=1, micro_batch=3, observers=(watcher,)
    )
    assert watcher.steps == []
    straight, expected = train(tmp_path / "straight", task=Short(6), validation=Images(2), average=0.5, epochs=1)
    assert same(state.model, expected.model) and same(state.average, expected.average)
    assert again.best["accuracy"] == pytest.approx(straight.best["accuracy"])


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """As in a terminal; what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_stops_at_once_and_the_handlers_come_back(tmp_path: Path, ctrl_c_interrupts: None) -> None:
    def twice() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    watcher = Watcher(step=2, act=twice)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, observers=(watcher,))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert Checkpoints(tmp_path / "checkpoints").load_last() is None
    assert watcher.ended == 1


@pytest.fixture
def hangup() -> Iterator[int]:
    """SIGHUP as in a terminal; nohup ignores it."""
    if not hasattr(signal, "SIGHUP"):
        pytest.skip("there is no SIGHUP")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield signal.SIGHUP
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("second", [None, signal.SIGTERM], ids=["its shell's", "torchrun's"])
def test_a_closed_terminal_which_signals_twice_stops_the_run_saves_it_and_says_so_once(
    tmp_path: Path,
    hangup: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    second: int | None,
) -> None:
    save = Checkpoints.save_last

    def save_last(self: Checkpoints, state: TrainingState) -> None:
        signal.raise_signal(second or hangup)  # the process would end here
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save_last", save_last)
    with pytest.raises(Interrupted) as stopped:
        train(tmp_path, observers=(stop_at(step=2, by=hangup),))
    assert stopped.value.exit_code == 129
    state = Checkpoints(tmp_path / "checkpoints").load_last()
    assert state is not None
    assert state.step == 2
    assert caplog.messages == ["stopping after this step, then saving"]
    assert signal.getsignal(hangup) == signal.SIG_DFL


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path: Path, hangup: int) -> None:
    signal.signal(hangup, signal.SIG_IGN)
    result, _ = train(tmp_path, observers=(stop_at(step=2, by=hangup),))
    assert len(result.history) == 3
    assert signal.getsignal(hangup) == signal.SIG_IGN


def other_model(state: dict[str, Any]) -> None:
    state["model"]["0.weight"] = torch.zeros(8, 3, 5, 5)


def other_layers(state: dict[str, Any]) -> None:
    del state["model"]["3.bias"]


def other_groups(state: dict[str, Any]) -> None:
    group = state["optimizer"]["param_groups"][0]
    group["params"], rest = group["params"][:1], group["params"][1:]
    state["optimizer"]["param_groups"].append({**group, "params": rest})


def other_optimizer(state: dict[str, Any]) -> None:
    for group in state["optimizer"]["param_groups"]:
        del group["betas"]


def other_moments(state: dict[str, Any]) -> None:
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)


def other_parameters(state: dict[str, Any]) -> None:
    state["optimizer"]["state"][99] = {}


def other_average(state: dict[str, Any]) -> None:
    state["average"] = {}


def other_scaler(state: dict[str, Any]) -> None:
    state["scaler"] = {"scale": 1.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_model, "model.0.weight is (8, 3, 5, 5), and should be (8, 3, 3, 3)"),
        (other_layers, "model lacks 3.bias"),
        (other_groups, "optimizer has groups of [1, 5, 2] parameters, and should have [3, 5]"),
        (other_optimizer, "optimizer lacks betas"),
        (other_moments, "optimizer.state.0.exp_avg is (3,), and should be (8, 3, 3, 3)"),
        (other_parameters, "optimizer.state has 99, which does not belong there"),
        (other_average, "average lacks 0.weight"),
        (other_scaler, "scaler lacks growth_factor"),
    ],
)
def test_a_state_of_another_run_is_one_line_and_changes_nothing(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    options = {"average": 0.9, "precision": "fp16"}
    with pytest.raises(Interrupted):
        train(tmp_path, observers=(stop_at(step=2, by=signal.SIGTERM),), **options)
    path = tmp_path / "checkpoints/last/state.pt"
    state = torch.load(path)
    change(state)
    torch.save(state, path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(RunError) as refused:
        train(tmp_path, **options)
    assert str(refused.value) == f"{path} cannot be used ({reason}): start a new run"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_lost_best_model_is_missed_before_more_is_trained_and_comes_again_from_a_state_before_it(
    tmp_path: Path,
) -> None:
    def run(*scores: float, stop: int = 0) -> Scored:
        watcher, task = stop_at(step=stop, by=signal.SIGTERM), Scored([*scores])
        train(tmp_path, task=task, validation=Images(2), epochs=4, keep_states=5, observers=(watcher,))
        return task

    with pytest.raises(Interrupted):
        run(0.1, 0.2, 0.9, stop=3 * STEPS + 1)
    (tmp_path / "checkpoints/best/model.pt").write_bytes(b"damaged")
    last = tmp_path / "checkpoints/last"
    with pytest.raises(RunError, match=rf"copy {last}/state-000000008.pt over state.pt to go back to step 8, or"):
        run()
    shutil.copyfile(last / "state-000000008.pt", last / "state.pt")
    task = run(0.9, 0.3)
    assert torch.equal(task.model[0].weight, task.seen[0])


def test_a_run_that_is_killed_before_its_best_model_is_written_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, epoch: int, **__: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    before = Scored([0.1, 0.9])
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_best", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, task=before, validation=Images(2), epochs=3)
    task = Scored([0.2])
    train(tmp_path, task=task, validation=Images(2), epochs=3)
    assert torch.equal(task.model[0].weight, before.seen[1])


class Broken(Classification):
    """Becomes bad at one training step, from 1."""

    def __init__(self, step: int, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__(network())
        self.step, self.how, self.steps = step, how, 0

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        loss, logs = super().training_loss(batch)
        self.steps += 1
        return (self.how(loss) if self.steps == self.step else loss), logs


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_the_last_checkpoint_stands(tmp_path: Path, value: float) -> None:
    watcher = Watcher()
    says = r"step 6 \(epoch 2, learning rate 0.00167\).*; the last checkpoint stands$"
    with pytest.raises(TrainingError, match=says) as error:
        train(tmp_path, task=Broken(6, lambda loss: loss * value), observers=(watcher,))
    assert error.value.exit_code == 1
    assert [record.step for record in watcher.steps] == [1, 2, 3, 4, 5]
    assert watcher.ended == 1
    state = Checkpoints(tmp_path / "checkpoints").load_last()
    assert state is not None
    assert (state.epoch, state.step) == (1, STEPS)
    assert all(torch.isfinite(value).all() for value in state.model.values())


def test_an_error_before_the_first_checkpoint_promises_none(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 2 \(epoch 1, .*; nothing is saved yet$"):
        train(tmp_path, task=Broken(2, lambda loss: loss * math.nan))
    assert not Checkpoints(tmp_path / "checkpoints").exist


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    # the loss of the epoch's last step is finite, its gradient is not, and no step follows before the checkpoint
    with pytest.raises(TrainingError, match="weights are not finite after step 8"):
        train(tmp_path, task=Broken(8, InfiniteGradient.apply))
    state = Checkpoints(tmp_path / "checkpoints").load_last()
    assert state is not None
    assert state.step == STEPS


@EACH_DEVICE
def test_under_fp16_an_infinite_gradient_only_skips_the_step(tmp_path: Path, device: torch.device) -> None:
    weights: list[Tensor] = []

    class Recorded(Broken):
        def after_step(self, step: int, steps: int) -> None:
            weights.append(self.model[0].weight.detach().clone())

    task = Recorded(2, InfiniteGradient.apply)
    _, state = train(tmp_path, task=task, precision="fp16", epochs=1, optimizer=sgd, device=device)
    assert torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[2], weights[1])
    assert state.step == STEPS
    assert state.scaler["scale"] == 2.0**15  # halved once


def test_the_first_score_picks_the_best_epoch_and_its_weights(tmp_path: Path) -> None:
    task = Scored([0.2, 0.7, math.nan, 0.7, 0.1])
    result, state = train(tmp_path, task=task, validation=Images(2), epochs=5)
    assert result.best_epoch == 2
    assert result.best == {"iou": 0.7, "loss": -0.7}
    assert torch.equal(task.model[0].weight, task.seen[1])
    assert torch.equal(state.model["0.weight"], task.seen[4])  # last is last
    assert result.last == result.history[4].train


def test_the_last_weights_stay_where_the_best_are_not_asked_for(tmp_path: Path) -> None:
    task = Scored([0.7, 0.1])
    result, state = train(tmp_path, task=task, validation=Images(2), epochs=2, keep="last")
    assert result.best_epoch == 1
    assert same(task.model.state_dict(), state.model)
    assert not (tmp_path / "checkpoints/best").exists()


def test_validation_comes_every_few_epochs_and_after_the_last(tmp_path: Path) -> None:
    task = Scored([0.1, 0.2, 0.3])
    result, _ = train(tmp_path, task=task, validation=Images(2), epochs=5, validate_every=2)
    assert [record.validation.get("iou") for record in result.history] == [None, 0.1, None, 0.2, 0.3]
    assert result.best_epoch == 5


def test_without_validation_there_is_no_best_epoch_and_the_last_weights_stay(tmp_path: Path) -> None:
    task = Contrast(network(out=8))  # has no evaluate at all
    result, state = train(tmp_path, task=task, data=Images(views=2))
    assert result.best_epoch is None
    assert result.best == {}
    assert same(task.model.state_dict(), state.model)
    assert not (tmp_path / "checkpoints/best").exists()


def test_a_task_that_cannot_be_trained_as_asked_is_refused_before_its_first_step(tmp_path: Path) -> None:
    class Neither:
        model = network()

    apart, learning = Classification(network()), Classification(nn.Sequential(network(), network()))
    apart.teacher, learning.teacher = network(), learning.model[1]
    for task, validation, reason in (
        (Neither(), None, "Neither is neither a CoupledTask nor a SeparableTask"),
        (Contrast(network()), Images(views=2), r"Contrast has no evaluate\(\)"),
        (apart, None, "Classification.teacher is no part of its model"),
        (learning, None, r"Classification.teacher has a gradient: call requires_grad_\(False\)"),
    ):
        with pytest.raises(TypeError, match=reason):
            train(tmp_path, task=task, validation=validation)


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    first, _ = train(tmp_path, validation=Images(2))
    watcher = Watcher()
    again, _ = train(tmp_path, validation=Images(2), observers=(watcher,))
    assert watcher.steps == []
    assert again.history == first.history
    assert again.best_epoch == first.best_epoch


def test_the_task_learns(tmp_path: Path) -> None:
    result, _ = train(tmp_path, task=Classification(network()), epochs=12, learning_rate=0.1)
    assert result.history[-1].train["loss"] < 0.8 * result.history[0].train["loss"]


def test_every_step_sets_the_learning_rate_of_every_group() -> None:
    task = Classification(network())
    groups = parameter_groups(task.model, 0.0)
    groups[0]["lr_scale"] = 0.1
    optimizer = sgd(groups, learning_rate=1.0)
    rates: list[tuple[float, ...]] = []

    class Rates(Watcher):
        def on_step(self, record: StepRecord) -> None:
            rates.append((record.learning_rate, *(group["lr"] for group in optimizer.param_groups)))

    def schedule(step: int) -> float:
        return (step + 1) / 1000

    fit(task, Images(3), optimizer=optimizer, schedule=schedule, epochs=1, device=CPU, observers=[Rates()])
    assert rates == [pytest.approx((rate, rate / 10, rate)) for rate in (0.001, 0.002, 0.003)]


def test_records_tell_images_epochs_and_the_wait_for_data() -> None:
    class SlowImages(Images):
        def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
            for batch in super().epoch(epoch, start_step):
                time.sleep(0.03)
                yield batch

    watcher = Watcher()
    task = Classification(network())
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=0.1)
    fit(task, SlowImages(2), optimizer=optimizer, schedule=lambda step: 0.1, epochs=2, device=CPU, observers=[watcher])
    assert watcher.plans == [Plan(2, 2, 0, (), 6)]
    assert [(record.step, record.epoch, record.images) for record in watcher.steps] == [
        (1, 1, 6),
        (2, 1, 6),
        (3, 2, 6),
        (4, 2, 6),
    ]
    assert all(0.03 <= record.data_seconds <= record.seconds for record in watcher.steps)
    assert all(list(record.logs) == ["loss", "accuracy"] for record in watcher.steps)
    losses = [record.logs["loss"] for record in watcher.steps[:2]]
    assert watcher.epochs[0].train["loss"] == pytest.approx(sum(losses) / 2)
    assert [(record.epoch, record.step) for record in watcher.epochs] == [(1, 2), (2, 4)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])  # under fp16 gradients are scaled
def test_clipping_bounds_the_gradients_norm(precision: str) -> None:
    task = Classification(network())
    before = {name: value.clone() for name, value in task.model.named_parameters()}
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=1.0)
    options = {"epochs": 1, "device": CPU, "precision": precision}
    fit(task, Images(1), optimizer=optimizer, schedule=lambda step: 1.0, clip=0.01, **options)
    change = [(value - before[name]).flatten() for name, value in task.model.named_parameters()]
    assert torch.cat(change).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_weights_lie_in_memory_as_photos_do_with_channels_last() -> None:
    class Layouts(Classification):
        def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
            layouts.append(self.model[0].weight.stride())
            return super().training_loss(batch)

    layouts: list[tuple[int, ...]] = []
    task = Layouts(network())
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=0.1)
    fit(task, Images(2), optimizer=optimizer, schedule=lambda step: 0.1, epochs=1, device=CPU)
    assert layouts == [(27, 1, 9, 3)] * 2  # of (8, 3, 3, 3)


def test_no_batch_to_train_on_is_an_error() -> None:
    task = Classification(network())
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=1.0)
    with pytest.raises(DataError, match="one batch of 6"):
        fit(task, Images(0), optimizer=optimizer, schedule=lambda step: 1.0, epochs=1, device=CPU)


@pytest.mark.parametrize(("keep", "saved"), [("last", [6, 12, 14]), ("best", [2, 4, 6, 8, 10, 12, 14])])
def test_of_many_short_epochs_not_all_are_saved_where_the_last_weights_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, saved: list[int]
) -> None:
    monkeypatch.setattr("simclrseg.engine.loop.MANY", 6)
    monkeypatch.setattr("simclrseg.engine.loop.FEW", 5)
    steps, save = [], Checkpoints.save_last

    def note(self: Checkpoints, state: TrainingState) -> None:
        steps.append(state.step)
        save(self, state)

    monkeypatch.setattr(Checkpoints, "save_last", note)
    result, last = train(tmp_path, data=Images(2), epochs=7, keep=keep)
    assert steps == saved and last.step == 14 and len(result.history) == 7
