"""How long a run will take, said after its first steps."""

from __future__ import annotations

import logging
from collections.abc import Callable

from simclrseg.engine.history import Observer, Plan, StepRecord
from simclrseg.training.knobs import LONG_RUN

log = logging.getLogger(__name__)

FIRST_STEPS = 20
WARM_UP = 2  # steps that are slower than the rest


class Forecast(Observer):
    """Says, once, how long the whole run will take, validation aside.

    Args:
        steps: after so many; the first ones are slower than the rest and do not count.
        suggestion: the command of a smaller run, given the seconds of this one; None where none is to be suggested.
        plan: of the whole run, where the steps are those of a dry run.

    Attributes:
        step: seconds of one.
        epoch, run: seconds of an epoch and of the whole run; 0 until they are known.
    """

    def __init__(
        self,
        *,
        steps: int = FIRST_STEPS,
        suggestion: Callable[[float], str] | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.step = self.epoch = self.run = 0.0
        self._steps = steps
        self._suggestion = suggestion
        self._whole = plan
        self._timed: list[float] = []

    def on_start(self, plan: Plan) -> None:
        self._plan = plan

    def on_step(self, record: StepRecord) -> None:
        step = record.step - self._plan.start_step
        if not WARM_UP < step <= self._steps:
            return
        self._timed.append(record.seconds)
        if step == self._steps:
            self.tell(sum(self._timed) / len(self._timed))

    def tell(self, step: float) -> None:
        """Say how long the run takes whose steps take so many seconds."""
        plan = self._whole or self._plan
        self.step = step
        self.epoch = self.step * plan.steps_per_epoch
        self.run = self.epoch * plan.epochs
        log.info(
            f"about {in_words(self.run)} for the whole run: "
            f"{plan.batch_size / self.step:,.3g} {plan.unit}/s, {self.step:.2g} s a step"
        )
        if self._suggestion is not None and self.run > LONG_RUN:
            log.info(f"a smaller run: {self._suggestion(self.run)}")


def in_words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 20 min``, ``5 days 2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"
