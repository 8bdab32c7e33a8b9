"""The time of a step, told by smaller ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from simclrseg.engine import timing
from simclrseg.engine.gradients import Passes
from simclrseg.engine.task import CoupledTask, SeparableTask
from simclrseg.engine.timing import step_time

FIELDS = {"image": ((4,), np.uint8)}
CPU = Passes(torch.device("cpu"), "fp32", 0)
FIXED, EACH = 0.1, 0.05
CLOCK = SimpleNamespace(now=0.0)


class Sleeper(nn.Module):
    """A network that takes so long for a batch and for each image, and remembers their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.passes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes.append(len(images))
        CLOCK.now += FIXED + EACH * len(images)
        return self.norm(self.layer(images.float()))


class Separable(SeparableTask):
    def __init__(self) -> None:
        self.model = Sleeper()

    def training_loss(self, batch):
        return self.model(batch["image"]).square().mean(), {}


class Coupled(CoupledTask):
    def __init__(self) -> None:
        self.model = Sleeper()
        self.compared: list[int] = []

    def embed(self, batch):
        return self.model(batch["image"])[:, None]

    def batch_loss(self, embeddings, step):
        self.compared.append(len(embeddings))
        return embeddings.square().mean(), {}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time passes in the network alone."""
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: CLOCK.now))


@pytest.mark.parametrize(
    ("task", "micro_batch", "expected"),
    [
        (Separable, 400, FIXED + 400 * EACH),
        (Separable, 40, 10 * (FIXED + 40 * EACH)),
        (Coupled, 400, FIXED + 400 * EACH),
        (Coupled, 40, 2 * 10 * (FIXED + 40 * EACH)),  # each image is embedded twice
    ],
)
def test_small_steps_tell_the_time_of_a_large_one_in_micro_batches_too(task, micro_batch, expected):
    one = task()
    found = step_time(one, FIELDS, batch_size=400, micro_batch=micro_batch, passes=CPU)
    assert found.seconds == pytest.approx(expected, rel=0.01)
    assert max(one.model.passes) == found.images <= 32


def test_the_loss_is_that_of_the_whole_batch():
    task = Coupled()
    step_time(task, FIELDS, batch_size=400, micro_batch=40, passes=CPU)
    assert task.compared[-1] == 400


def test_a_step_that_is_quick_is_taken_whole():
    assert step_time(Separable(), FIELDS, batch_size=6, micro_batch=6, passes=CPU).images == 6


def test_nothing_is_changed_by_it():
    task = Separable()
    task.model.eval()
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    step_time(task, FIELDS, batch_size=6, micro_batch=3, passes=CPU)
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in task.model.state_dict().items())
    assert all(parameter.grad is None for parameter in task.model.parameters()) and not task.model.training
