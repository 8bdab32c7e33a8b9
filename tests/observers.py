"""Observers of a training that remember what they were told, and act or stop it somewhere."""

from __future__ import annotations

import signal
from collections.abc import Callable

from simclrseg.engine.history import EpochRecord, Observer, Plan, StepRecord


class Watcher:
    """An observer that remembers, and does something at a step or an epoch."""

    def __init__(self, *, step: int = 0, epoch: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.step, self.epoch, self.act = step, epoch, act
        self.plans: list[Plan] = []
        self.steps: list[StepRecord] = []
        self.epochs: list[EpochRecord] = []
        self.ended = 0

    def on_start(self, plan: Plan) -> None:
        self.plans.append(plan)

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record)
        if record.step == self.step:
            self.act()

    def on_epoch(self, record: EpochRecord) -> None:
        self.epochs.append(record)
        if record.epoch == self.epoch:
            self.act()

    def on_end(self) -> None:
        self.ended += 1


def signal_self(number: int) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)  # handled before it returns, which os.kill does not promise


def stop_at(*, step: int = 0, epoch: int = 0, by: int = signal.SIGINT) -> Watcher:
    """Stop the training after a step or an epoch, as Ctrl-C or the system does."""
    return Watcher(step=step, epoch=epoch, act=signal_self(by))


def drive(observer: Observer, *, steps: int, seconds: float, start: int = 0) -> None:
    """Tell an observer of steps, of which the first two are slow."""
    observer.on_start(Plan(10, 100, start, (), 120))
    for step in range(start + 1, start + steps + 1):
        slow = 30.0 if step - start <= 2 else seconds
        observer.on_step(StepRecord(step, 1, 0.1, {"loss": 1.0}, 120, slow, 0.0))
