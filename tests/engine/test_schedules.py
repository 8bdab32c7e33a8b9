"""Schedules at their corners, and against torch's."""

from __future__ import annotations

import pytest
import torch

from simclrseg.engine import SCHEDULES
from simclrseg.engine.schedules import constant, cosine, ending_at, one_cycle


def test_cosine_warms_up_linearly_and_falls_to_zero() -> None:
    assert [cosine(step, 100, 10) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert cosine(55, 100, 10) == pytest.approx(0.5)
    assert 0 < cosine(99, 100, 10) < 0.001


def test_one_cycle_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=50)
    for step in range(50):
        assert one_cycle(step, 50, 15) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def test_one_cycle_rises_for_as_long_as_the_warm_up_says() -> None:
    rates = [one_cycle(step, 50, 5) for step in range(50)]
    assert rates.index(max(rates)) == 4


def test_a_one_cycle_without_warm_up_begins_at_its_peak_and_falls() -> None:
    rates = [one_cycle(step, 50) for step in range(50)]
    assert rates[0] == 1 and rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(1 / 25e4)


def test_constant_stays_after_its_warm_up() -> None:
    assert [constant(step, 10, 4) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert constant(0, 10) == 1


def test_a_cosine_that_ends_above_zero_is_torchs_with_eta_min() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0.01)
    ours = ending_at(0.01, cosine)
    for step in range(50):
        assert ours(step + 10, 60, 10) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert ours(60, 60, 10) == pytest.approx(0.01)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_where_a_schedule_ends_leaves_its_warm_up_and_its_peak_alone(name: str) -> None:
    plain, raised = SCHEDULES[name], ending_at(0.1, SCHEDULES[name])
    assert [raised(step, 40, 8) for step in range(8)] == [plain(step, 40, 8) for step in range(8)]
    assert max(raised(step, 40, 8) for step in range(40)) == pytest.approx(1)
    assert all(raised(step, 40, 8) >= 0.1 for step in range(8, 40))
    assert all(ending_at(0.0, plain)(step, 40, 8) == plain(step, 40, 8) for step in range(40))


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (2, 0), (3, 3), (7, 2), (100, 10)])
def test_every_schedule_stays_within_zero_and_one_and_never_wastes_its_first_step(
    name: str, total: int, warmup: int
) -> None:
    factors = [SCHEDULES[name](step, total, warmup) for step in range(total)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0
