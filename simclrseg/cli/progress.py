"""How far a command is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from simclrseg.cli.console import PASSING, is_quiet
from simclrseg.system.log_file import LOGGER
from simclrseg.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from simclrseg.engine.history import EpochRecord, Plan, StepRecord

EVERY = 30.0  # seconds between plain lines
NOTEBOOK_EVERY = 5.0  # seconds between the epochs that a notebook is told of, which keeps all that it was told

log = logging.getLogger(f"{LOGGER}.progress")


class Bar:
    """A bar at the bottom of the terminal, with log lines above it.

    Where stderr is no terminal there is a line every half minute in its place, and nothing where it is quiet.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._spoke = clock()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def open(self, total: int, done: int = 0) -> None:
        if not sys.stderr.isatty() or is_quiet():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            expand=True,
            redirect_stdout=False,  # results go where stdout goes
            refresh_per_second=4,
        )
        self._bar.add_task("", total=total, completed=done, facts="")
        self._bar.start()

    @property
    def shown(self) -> bool:
        return self._bar is not None

    def move(self, done: int, description: str, facts: str, *, line: str) -> None:
        """Show how far it is, or where there is no bar, say ``line`` in place of description and facts."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, description=description, facts=printable(facts))
        elif self._clock() - self._spoke >= EVERY:
            self.say(line)

    def say(self, line: str, *, every: float = 0.0) -> None:
        """Say a line; where less than ``every`` seconds went by since the last one, in the log file alone."""
        passing = self._clock() - self._spoke < every
        log.info(line, extra={PASSING: passing})
        if not passing:
            self._spoke = self._clock()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class TrainingProgress(Bar):
    """An observer of the engine: loss, images/s, share of time spent waiting for data, and ETA of the whole run.

    Each epoch ends with a line.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._images = self._seconds = self._waited = 0.0
        self._logs: dict[str, float] = {}

    def on_start(self, plan: Plan) -> None:
        self._plan = plan
        self._total = plan.epochs * plan.steps_per_epoch
        self._first = self._done = plan.start_step
        self._began = self._spoke = self._clock()
        self.open(self._total, self._done)

    def on_step(self, record: StepRecord) -> None:
        self._done = record.step
        self._images += record.images
        self._seconds += record.seconds
        self._waited += record.data_seconds
        self._logs |= record.logs  # some are measured every few steps only
        epoch, speed = f"epoch {record.epoch}/{self._plan.epochs}", self._speed()
        loss = {name: value for name, value in record.logs.items() if name in ("loss", "confident")}
        line = f"{epoch}  step {self._done}/{self._total}  {_facts(self._logs, speed)}"
        self.move(self._done, epoch, _facts(loss, speed), line=line)

    def on_epoch(self, record: EpochRecord) -> None:
        self._done = record.step
        score = {f"val_{name}": value for name, value in list(record.validation.items())[:1]}  # what picks the best
        facts = _facts({**record.train, **score}, self._speed())
        in_notebook = type(sys.stderr).__module__.startswith("ipykernel.")
        among_others = in_notebook and 1 < record.epoch < self._plan.epochs
        line = f"epoch {record.epoch}/{self._plan.epochs}  {facts}"
        self.say(line, every=NOTEBOOK_EVERY if among_others else 0.0)
        self._images = self._seconds = self._waited = 0.0

    def on_end(self) -> None:
        self.close()

    def _speed(self) -> str:
        """Speed of this epoch so far; the ETA is by the wall clock, so that validation counts too."""
        rate = self._images / self._seconds if self._seconds else 0.0
        waited = 100 * self._waited / self._seconds if self._seconds else 0.0
        steps = self._done - self._first
        left = (self._clock() - self._began) / steps * (self._total - self._done) if steps else 0.0
        eta = timedelta(seconds=round(left)) if steps else "?"
        return f"{_rate(rate)} {self._plan.unit}/s  data {waited:.0f}%  ETA {eta}"


class FileProgress(Bar):
    """How many files are done; nothing for a single one."""

    def __call__(self, done: int, total: int) -> None:
        if total < 2:
            return
        if done <= 1:
            self.open(total)
        seconds = self._clock() - self._began
        rate = done / seconds if seconds > 0 else 0.0
        count, facts = f"{done}/{total}", f"{_rate(rate)} images/s" + _eta(total - done, rate)
        self.move(done, count, facts, line=f"{count}  {facts}")


class DownloadProgress(Bar):
    """How much of a download is there: bytes, speed and ETA."""

    _before = _done = -1  # bytes that were there when it began, and that are there now

    def __call__(self, done: int, total: int) -> None:
        if self._before < 0 or done < self._done:  # the first file, or the next
            self.close()
            self._before, self._began = done, self._clock()
            self._spoke = self._began
            self.open(total, done)
        self._done = done
        seconds = self._clock() - self._began
        rate = (done - self._before) / seconds if seconds > 0 else 0.0
        facts = f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
        if rate:
            facts += f"  {_rate(rate / 1e6)} MB/s" + _eta(total - done, rate)
        self.move(done, "", facts, line=facts)
        if done >= total:
            self.close()


def _eta(left: float, rate: float) -> str:
    return f"  ETA {timedelta(seconds=round(left / rate))}" if rate else ""


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _facts(logs: Mapping[str, float], speed: str) -> str:
    return "  ".join([*(f"{name} {value:.4g}" for name, value in logs.items()), speed])
