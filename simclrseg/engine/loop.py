"""The one training loop. It knows no task: what differs between tasks is in theirs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from simclrseg.engine.average import WeightAverage
from simclrseg.engine.batch_norm import synchronized
from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.engine.footprint import least_micro_batch, smaller_micro_batch
from simclrseg.engine.freezing import Freezing
from simclrseg.engine.gradients import Passes, accumulate_gradient, batch_length, number_of_parts, split
from simclrseg.engine.history import EpochRecord, Observer, Plan, StepRecord
from simclrseg.engine.meter import STEPS_ON_A_GPU, Meter
from simclrseg.engine.runtime import autocast, freed_memory_kept
from simclrseg.engine.stored import load_optimizer, require_fit
from simclrseg.engine.task import Batch, Loader, Task, check_task
from simclrseg.errors import DataError, Interrupted, OutOfMemory, OutputError, TrainingError
from simclrseg.system import distributed
from simclrseg.system.hardware import explained_shortage
from simclrseg.system.signals import Stop, StopRequest, stop_requests

MANY = 100  # epochs, of which those of fewer steps than this are not all saved: that would outweigh their training
FEW = 25
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
    together: int = 1,
    clip: float | None = None,
    freezing: Freezing | None = None,
    average: float | None = None,
    patience: int | None = None,
    patient_from: int = 0,
    observers: Sequence[Observer] = (),
    checkpoints: Checkpoints | None = None,
    start: TrainingState | None = None,
    seed: int = 0,
) -> FitResult:
    """Train a task. Interrupted and started again, it ends as if nothing had happened, bit for bit on a CPU.

    Several processes train as one, each on its share of every batch; the first writes and tells.

    Args:
        validation: batches for the task's ``evaluate``; without them there is no best epoch.
        validate_every: epochs between validations; the last epoch always has one.
        keep: whether the model ends with the weights of its best validation, which needs checkpoints, or its last ones.
        schedule: step, from 0 -> learning rate; a parameter group may scale it by its ``lr_scale``.
        micro_batch: samples per forward pass of a process; the gradient stays that of the whole batch.
        together: samples of all processes that a forward pass of training must have, of ``least_together``.
        clip: largest norm of the gradient.
        average: decay of a moving average of the weights, which is then what validation, observers of an epoch and the
            best checkpoint see, and what the model ends with.
        patience: epochs without a better validation after which training stops; those in which parts are still to be
            unfrozen do not count.
        patient_from: epochs before these do not count either.
        checkpoints: where the state is saved: after each epoch, when a signal comes, and as often as it says.
        start: state to go on from.
        seed: of the random numbers inside forward passes, such as dropout's.

    Raises:
        Interrupted: after SIGINT, SIGTERM or SIGHUP; the state has been saved.
        TrainingError: if loss or weights are not finite, or the disk is full; it says what is saved.
        OutOfMemory: if the memory is, with the next thing to try; it says what is saved.
    """
    check_task(task, scored=validation is not None)
    if len(train) == 0:
        raise DataError(f"there are fewer photos to train on than one batch of {train.batch_size}")
    passes = Passes(device, precision, seed)
    run = _Training(task, optimizer, observers, checkpoints, start, passes=passes, average=average, keep=keep)
    own = train.batch_size // distributed.world_size()
    at_once = min(micro_batch or own, own)
    fewer = smaller_micro_batch(at_once, own, least=least_micro_batch(task, together))
    counted_from = max(patient_from, 0 if freezing is None else freezing.complete)
    steps = epochs * len(train)
    task.average = run.average

    def shortage(phase: str, otherwise: str) -> AbstractContextManager[None]:
        remedy = f"try --micro-batch {fewer}" if fewer else otherwise
        return explained_shortage(f"in {phase} with micro-batch {at_once}", remedy)

    run.save_best()  # whoever stopped the run may have come between its state and this
    distributed.barrier()
    if checkpoints is not None and not checkpoints.gone_back(run.step):
        run.best_weights()  # better missed now than at the end
    plan = Plan(epochs, len(train), run.step, tuple(run.result.history), train.batch_size)
    with (
        _remainder_told(checkpoints),
        freed_memory_kept(device),
        synchronized(run.model, task.teacher),
        _told(observers, plan),
        shortage("training", "try a smaller --image-size or --backbone"),
        stop_requests() as stop,
    ):
        try:
            for epoch in range(run.finished, epochs):
                stale = min(run.result.without_progress, epoch - counted_from)
                if patience is not None and stale >= patience:
                    break
                run.begin_epoch()
                if freezing is not None:
                    freezing.apply(epoch)
                for batch, waited in _timed(train.epoch(epoch, run.step - epoch * len(train))):
                    rate = schedule(run.step)
                    task.before_step(run.step)
                    run.take_step(batch, rate, waited, micro_batch=micro_batch, together=together, clip=clip)
                    with torch.no_grad():
                        task.after_step(run.step - 1, steps)
                    stop.check()
                    if checkpoints is not None and checkpoints.due(run.step):
                        run.settle()
                        run.save()
                run.settle()
                scores: dict[str, float] = {}
                if validation is not None and ((epoch + 1) % validate_every == 0 or epoch + 1 == epochs):
                    try:
                        with shortage("validation", "free some memory and resume"), run.averaged():
                            scores = evaluate(
                                task, validation, device=device, precision=precision, micro_batch=at_once, stop=stop
                            )
                    except OutOfMemory:
                        run.save()  # the steps were taken
                        raise
                run.end_epoch(scores)
                many = keep == "last" and epochs > MANY
                if not many or run.step - run.saved >= FEW or epoch + 1 == epochs:
                    run.save()
                run.save_best()
                run.tell_epoch()  # now that whatever happens to an observer, the epoch is not lost
        except Stop as request:
            run.settle()
            run.save()
            distributed.barrier()  # it is saved before anyone says so
            saved = "nothing is saved" if checkpoints is None else f"the state is saved in {checkpoints.folder}"
            stopped = f"stopped after step {run.step} of {steps}; {saved}"
            raise Interrupted(stopped, signum=request.signum) from None
    distributed.barrier()
    run.choose_weights()
    return run.result


class _Training:
    """A task in training: what a checkpoint holds of it, and what changes that.

    Attributes:
        step: optimizer steps taken.
        finished: epochs, with their validation.
        saved: steps when the state was saved last.
        result: a record for each of them.
    """

    def __init__(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        observers: Sequence[Observer],
        checkpoints: Checkpoints | None,
        start: TrainingState | None,
        *,
        passes: Passes,
        average: float | None,
        keep: Literal["best", "last"],
    ) -> None:
        self.model = task.model.to(passes.device).to(memory_format=torch.channels_last)
        self.step, self.finished, self.saved = 0, 0, 0
        self.result = FitResult([])
        self._task, self._optimizer, self._observers, self._checkpoints = task, optimizer, observers, checkpoints
        self._best = checkpoints if keep == "best" else None
        self._scaler = torch.amp.GradScaler(passes.device.type, enabled=passes.precision == "fp16")
        self._passes = passes
        self._meter = Meter(observers, every=1 if passes.device.type == "cpu" else STEPS_ON_A_GPU)
        with nullcontext() if checkpoints is None else checkpoints.fitting():
            if start is not None:
                self._go_on_from(start)
            distributed.copy_from_main(self.model.state_dict().values())
            self.average = None if average is None else WeightAverage(self.model, average, task.teacher)
            if self.average is not None and start is not None:
                self.average.load_state_dict(start.average)
        self._began = self._ended = 0.0  # the epoch, and the step before

    def _go_on_from(self, start: TrainingState) -> None:
        self.step, self.finished, self.saved = start.step, start.epoch, start.step
        self.result.history.extend(EpochRecord(**record) for record in start.history)
        self._meter.sums, self._meter.images = dict(start.sums), dict(start.images)
        require_fit(start.model, self.model.state_dict(), "model")
        self.model.load_state_dict(start.model)
        load_optimizer(self._optimizer, start.optimizer)
        if start.memory:  # older states have none
            require_fit(start.memory, self._task.memory, "memory")
            for name, value in self._task.memory.items():
                value.copy_(start.memory[name])
        if self._scaler.is_enabled():
            require_fit(start.scaler, self._scaler.state_dict(), "scaler")
            self._scaler.load_state_dict(start.scaler)

    def begin_epoch(self) -> None:
        self._task.train()
        self._began = self._ended = time.perf_counter()

    def take_step(
        self,
        batch: Batch,
        learning_rate: float,
        waited: float,
        *,
        micro_batch: int | None,
        together: int,
        clip: float | None,
    ) -> None:
        """Update the weights once, for a batch that took ``waited`` seconds to come."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        loss, logs = accumulate_gradient(
            self._task,
            to_device(batch, self._passes.device),
            step=self.step,
            micro_batch=micro_batch,
            together=together,
            passes=self._passes,
            scaler=self._scaler,
        )
        history = self.result.history
        if (self.step - (history[-1].step if history else 0)) % MEASURE_EVERY == 0:
            logs |= self._task.measure()
        if clip is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self._scaler.step(self._optimizer)  # under fp16 an infinite gradient skips the update; the step counts
        self._scaler.update()
        self._optimizer.zero_grad()
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        images = distributed.count(batch_length(batch))
        seconds, self._ended = time.perf_counter() - self._ended, time.perf_counter()
        record = StepRecord(self.step, self.finished + 1, learning_rate, {}, images, seconds, waited)
        self._meter.add(record, {"loss": loss, **logs})

    def settle(self) -> None:
        """Know that the state is good: on a GPU its numbers come late, and a finite loss can have a bad gradient."""
        self._meter.flush()
        floats = [value for value in self.model.state_dict().values() if value.is_floating_point() and value.numel()]
        if not torch.stack([value.abs().amax() for value in floats]).isfinite().all():
            raise TrainingError(
                f"the weights are not finite after step {self.step}",
                "try a lower --learning-rate, --clip 1 or --precision fp32",
            )

    def averaged(self) -> AbstractContextManager[None]:
        """The average of the weights in their place while the block runs, where one is kept."""
        return nullcontext() if self.average is None else self.average.applied()

    def end_epoch(self, scores: dict[str, float]) -> None:
        self.finished += 1
        seconds = time.perf_counter() - self._began
        self.result.history.append(EpochRecord(self.finished, self.step, self._meter.take_means(), scores, seconds))

    def save(self) -> None:
        """Save the state, which is known to be good."""
        if self._checkpoints is not None:
            states = self.model.state_dict(), self._optimizer.state_dict(), self._scaler.state_dict()
            records = [dataclasses.asdict(record) for record in self.result.history]
            means = {} if self.average is None else self.average.state_dict()
            sums, images = self._meter.sums, self._meter.images
            memory = dict(self._task.memory)
            state = TrainingState(self.finished, self.step, *states, sums, images, records, means, memory)
            self._checkpoints.save_last(state)
        self.saved = self.step

    def save_best(self) -> None:
        """Save the weights, where they are those of the best epoch yet: it is the last one, and no step followed."""
        if self._best is None or self.result.best_epoch != self.finished:
            return
        record = self.result.history[-1]
        if record.step == self.step:
            with self.averaged():
                self._best.save_best(self.model.state_dict(), score=_score(record), epoch=self.finished)

    def tell_epoch(self) -> None:
        with self.averaged():
            for observer in self._observers:
                observer.on_epoch(self.result.history[-1])

    def best_weights(self) -> dict[str, Tensor] | None:
        """Weights of the best epoch so far, where training is to end with them and there is one."""
        epoch = self.result.best_epoch
        if self._best is None or epoch is None:
            return None
        return self._best.load_best(self.model.state_dict(), epoch=epoch)

    def choose_weights(self) -> None:
        """Give the model the weights that training leaves."""
        if (best := self.best_weights()) is not None:
            self.model.load_state_dict(best)
        elif self.average is not None:
            self.average.apply()


def evaluate(
    task: Task,
    loader: Loader,
    *,
    device: torch.device,
    precision: str = "fp32",
    micro_batch: int | None = None,
    stop: StopRequest | None = None,
) -> dict[str, float]:
    """The task's scores over a loader's batches, without gradients; the model's mode is left as it was.

    Args:
        micro_batch: samples per forward pass; the scores are those of the whole batches, but for rounding.
    """

    def batches() -> Iterator[Batch]:
        for batch in loader.epoch(0):
            if stop is not None:
                stop.check()
            parts = number_of_parts([batch_length(batch)], micro_batch) if micro_batch else 1
            for part in split(batch, parts):
                yield to_device(part, device)

    with task.mode(training=False), torch.no_grad(), autocast(device, precision):
        return task.evaluate(batches())


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Records of a training's epochs."""

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


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; to a GPU from pinned memory: from any other, the copy waits for what computes there."""
    if device.type == "cuda":
        batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch, and the seconds spent waiting for it."""
    while True:
        began = time.perf_counter()
        if (batch := next(batches, None)) is None:
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
    except (OutOfMemory, OutputError, TrainingError) as error:
        left = "the last checkpoint stands" if checkpoints is not None and checkpoints.exist else "nothing is saved yet"
        kind = OutOfMemory if isinstance(error, OutOfMemory) else TrainingError
        raise kind(f"{error}; {left}") from error
