"""The one training loop. It knows no task: what differs between tasks is in theirs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import nn

from simclrseg import distributed
from simclrseg.engine.average import WeightAverage
from simclrseg.engine.batch_norm import synchronized
from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.engine.footprint import explained_shortage, least_micro_batch
from simclrseg.engine.freezing import Freezing
from simclrseg.engine.gradients import Passes, accumulate_gradient, batch_length
from simclrseg.engine.history import EpochRecord, Observer, Plan, StepRecord
from simclrseg.engine.meter import STEPS_ON_A_GPU, Meter
from simclrseg.engine.runtime import autocast, freed_memory_kept
from simclrseg.engine.signals import Stop, StopRequest, stop_requests
from simclrseg.engine.task import Batch, Loader, Logs, MeasuredTask, Task, ValidatedTask
from simclrseg.errors import DataError, Interrupted, TrainingError

MEASURE_EVERY = 25  # steps, from an epoch's first: what a measured task costs is lost among them


def fit(
    task: Task,
    train: Loader,
    validation: Loader | None = None,
    *,
    validate_every: int = 1,
    keep: Literal["best", "last"] = "best",
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    epochs: int,
    device: torch.device,
    precision: str = "fp32",
    micro_batch: int | None = None,
    clip: float | None = None,
    freezing: Freezing | None = None,
    average: float | None = None,
    patience: int | None = None,
    observers: Sequence[Observer] = (),
    checkpoints: Checkpoints | None = None,
    start: TrainingState | None = None,
    seed: int = 0,
) -> FitResult:
    """Train a task. Interrupted and started again, it ends as if nothing had happened, bit for bit on a CPU.

    Several processes train as one, each on its share of every batch; the first writes and tells.

    Args:
        validation: batches to score on; the task must be a ``ValidatedTask``.
        validate_every: epochs between validations; the last epoch always has one.
        keep: whether the model ends with the weights of its best validation, which needs checkpoints, or its last ones.
        schedule: step, from 0 -> learning rate; a parameter group may scale it by its ``lr_scale``.
        micro_batch: samples per forward pass; the gradient stays that of the whole batch.
        clip: largest norm of the gradient.
        freezing: which parts of the model learn in which epoch; without it all do.
        average: decay of a moving average of the weights, which is then what validation, observers of an epoch and the
            best checkpoint see, and what the model ends with; None keeps none.
        patience: epochs without a better validation after which training stops.
        checkpoints: where the state is saved: after each epoch, when a signal comes, and as often as it says.
        start: state to go on from.
        seed: of the random numbers inside forward passes, such as dropout's.

    Returns:
        The history.

    Raises:
        Interrupted: after SIGINT or SIGTERM; the state has been saved.
        TrainingError: if loss or weights are not finite, or disk or memory is full; it says what is saved.
    """
    if len(train) == 0:
        raise DataError(f"there are fewer photos to train on than one batch of {train.batch_size}")
    model = task.model.to(device).to(memory_format=torch.channels_last)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    passes = Passes(device, precision, seed)
    step, finished, history = 0, 0, []
    meter = Meter(observers, every=1 if device.type == "cpu" else STEPS_ON_A_GPU)
    if start is not None:
        step, finished, history = start.step, start.epoch, [EpochRecord(**record) for record in start.history]
        meter.sums, meter.images = dict(start.sums), dict(start.images)
        model.load_state_dict(start.model)
        optimizer.load_state_dict(start.optimizer)
        scaler.load_state_dict(start.scaler)
    distributed.copy_from_main(model.state_dict().values())
    averaged = None if average is None else WeightAverage(model, average)
    if averaged is not None and start is not None:
        averaged.load_state_dict(start.average)

    def settle() -> None:
        """Know that the state is good: on a GPU its numbers come late, and a finite loss can have a bad gradient."""
        meter.flush()
        _require_finite(model, step)

    def save() -> None:
        if checkpoints is not None:
            states = model.state_dict(), optimizer.state_dict(), scaler.state_dict()
            records = [dataclasses.asdict(record) for record in history]
            means = {} if averaged is None else averaged.state_dict()
            checkpoints.save_last(TrainingState(finished, step, *states, meter.sums, meter.images, records, means))

    local_batch = train.batch_size // distributed.world_size()
    told = _told(observers, Plan(epochs, len(train), step, finished, train.batch_size))
    shortage = explained_shortage(
        min(micro_batch or local_batch, local_batch), local_batch, least=least_micro_batch(task)
    )
    with _remainder_told(checkpoints), freed_memory_kept(device), synchronized(model), told, shortage:
        try:
            with stop_requests() as stop:
                for epoch in range(finished, epochs):
                    if patience is not None and FitResult(history).without_progress >= patience:
                        break
                    model.train()
                    if freezing is not None:
                        freezing.apply(epoch)
                    began = ended = time.perf_counter()
                    for batch, waited in _timed(train.epoch(epoch, step - epoch * len(train))):
                        rate = _set_learning_rate(optimizer, schedule(step))
                        loss, logs = accumulate_gradient(
                            task,
                            _to_device(batch, device),
                            step=step,
                            micro_batch=micro_batch,
                            passes=passes,
                            scaler=scaler,
                        )
                        logs |= _measured(task, step % len(train))
                        _update(model, optimizer, scaler, clip)
                        step += 1
                        if averaged is not None:
                            averaged.update(step)
                        images = distributed.count(batch_length(batch))
                        seconds, ended = time.perf_counter() - ended, time.perf_counter()
                        record = StepRecord(step, epoch + 1, rate, {}, images, seconds, waited)
                        meter.add(record, {"loss": loss, **logs})
                        stop.check()
                        if checkpoints is not None and checkpoints.due(step):
                            settle()
                            save()
                    settle()
                    with nullcontext() if averaged is None else averaged.applied():
                        scores = {}
                        if validation is not None and ((epoch + 1) % validate_every == 0 or epoch + 1 == epochs):
                            scores = evaluate(task, validation, device=device, precision=precision, stop=stop)
                        finished += 1
                        seconds = time.perf_counter() - began
                        history.append(EpochRecord(finished, step, meter.take_means(), scores, seconds))
                        for observer in observers:
                            observer.on_epoch(history[-1])
                        if checkpoints is not None and keep == "best" and FitResult(history).best_epoch == finished:
                            checkpoints.save_best(model.state_dict(), score=_score(history[-1]), epoch=finished)
                    save()
        except Stop as request:
            settle()
            save()
            distributed.barrier()  # it is saved before anyone says so
            raise Interrupted(_farewell(step, epochs * len(train), checkpoints), signum=request.signum) from None
    distributed.barrier()
    if checkpoints is not None and keep == "best" and FitResult(history).best_epoch is not None:
        model.load_state_dict(checkpoints.load_best())
    elif averaged is not None:
        averaged.apply()
    return FitResult(history)


def evaluate(
    task: Task, loader: Loader, *, device: torch.device, precision: str = "fp32", stop: StopRequest | None = None
) -> dict[str, float]:
    """The task's scores over a loader's batches, without gradients; the model's mode is left as it was."""
    if not isinstance(task, ValidatedTask):
        raise TypeError(f"{type(task).__name__} has no evaluate(): it cannot be validated")

    def batches() -> Iterator[Batch]:
        for batch in loader.epoch(0):
            if stop is not None:
                stop.check()
            yield _to_device(batch, device)

    training = task.model.training
    task.model.eval()
    try:
        with torch.no_grad(), autocast(device, precision):
            return task.evaluate(batches())
    finally:
        task.model.train(training)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What training came to."""

    history: list[EpochRecord]

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest first score, from 1; None without validation."""
        scored = [record for record in self.history if record.validation]
        return max(scored, key=_score).epoch if scored else None

    @property
    def without_progress(self) -> int:
        """Epochs since the best one."""
        return 0 if self.best_epoch is None else self.history[-1].epoch - self.best_epoch

    @property
    def best(self) -> dict[str, float]:
        """Scores of the best epoch; empty without validation."""
        return self.history[self.best_epoch - 1].validation if self.best_epoch else {}

    @property
    def last(self) -> dict[str, float]:
        """Means of the last epoch's logs."""
        return self.history[-1].train if self.history else {}


def _score(record: EpochRecord) -> float:
    score = next(iter(record.validation.values()))
    return -math.inf if math.isnan(score) else score


def _farewell(step: int, steps: int, checkpoints: Checkpoints | None) -> str:
    saved = "nothing is saved" if checkpoints is None else f"the state is saved in {checkpoints.folder}"
    return f"stopped after step {step} of {steps}; {saved}"


def _measured(task: Task, step: int) -> Logs:
    """What a task measures at this step of an epoch, from 0."""
    return task.measure() if step % MEASURE_EVERY == 0 and isinstance(task, MeasuredTask) else {}


def _set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return rate


def _update(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, clip: float | None
) -> None:
    if clip is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    scaler.step(optimizer)  # under fp16 an infinite gradient skips the update; the step counts all the same
    scaler.update()
    optimizer.zero_grad()


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch, and the seconds spent waiting for it."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began


@contextmanager
def _told(observers: Sequence[Observer], plan: Plan) -> Iterator[None]:
    """Tell observers of the start and, whatever happens, of the end."""
    started: list[Observer] = []
    try:
        for observer in observers:
            started.append(observer)
            observer.on_start(plan)
        yield
    finally:
        for observer in started:
            observer.on_end()


@contextmanager
def _remainder_told(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Add to an error what is left of the run."""
    try:
        yield
    except TrainingError as error:
        left = "the last checkpoint stands" if checkpoints is not None and checkpoints.exist else "nothing is saved yet"
        raise TrainingError(f"{error}; {left}") from error


def _require_finite(model: nn.Module, step: int) -> None:
    floats = [value for value in model.state_dict().values() if value.is_floating_point() and value.numel()]
    if not torch.stack([value.abs().amax() for value in floats]).isfinite().all():
        raise TrainingError(
            f"the weights are not finite after step {step}: try a lower --learning-rate, --clip 1 or --precision fp32"
        )
