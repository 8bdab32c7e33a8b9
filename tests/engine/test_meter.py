"""Numbers on their way from the device."""

from __future__ import annotations

import math

import pytest
import torch

from simclrseg.engine.history import EpochRecord, Plan, StepRecord
from simclrseg.engine.meter import Meter
from simclrseg.errors import TrainingError


class Told:
    def __init__(self) -> None:
        self.steps: list[StepRecord] = []

    def on_start(self, plan: Plan) -> None: ...
    def on_epoch(self, record: EpochRecord) -> None: ...
    def on_end(self) -> None: ...
    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record)


def record(step: int, images: int = 4) -> StepRecord:
    return StepRecord(step, 1, 0.1, {}, images, 1.0, 0.0)


def test_steps_are_read_several_at_once_and_in_order() -> None:
    told = Told()
    meter = Meter([told], every=3)
    for step in (1, 2):
        meter.add(record(step), {"loss": torch.tensor(float(step)), "chance": 5.5})
    assert told.steps == []
    meter.add(record(3), {"loss": torch.tensor(3.0), "chance": 5.5})
    assert [(r.step, r.logs) for r in told.steps] == [(s, {"loss": float(s), "chance": 5.5}) for s in (1, 2, 3)]


def test_means_are_weighted_by_images_and_start_anew() -> None:
    meter = Meter([], every=1)
    meter.add(record(1, images=6), {"loss": torch.tensor(1.0)})
    meter.add(record(2, images=2), {"loss": torch.tensor(5.0)})
    assert meter.take_means() == {"loss": 2.0}
    meter.add(record(3), {"loss": torch.tensor(7.0)})
    assert meter.take_means() == {"loss": 7.0}


def test_a_bad_loss_among_pending_steps_is_named_after_the_good_ones_were_told() -> None:
    told = Told()
    meter = Meter([told], every=10)
    for step, loss in enumerate([0.5, 0.4, math.nan, 0.3], start=1):
        meter.add(record(step), {"loss": torch.tensor(loss)})
    with pytest.raises(TrainingError, match="nan at step 3"):
        meter.flush()
    assert [r.step for r in told.steps] == [1, 2]


def test_what_some_steps_log_is_averaged_over_those_steps() -> None:
    meter = Meter([], every=1)
    meter.add(record(1, images=6), {"loss": torch.tensor(1.0), "rank": 30.0})
    meter.add(record(2, images=2), {"loss": torch.tensor(5.0)})
    assert meter.take_means() == {"loss": 2.0, "rank": 30.0}
