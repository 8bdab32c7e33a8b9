"""Learning-rate schedules: step -> factor of the peak learning rate.

To add one: a function of (step, total, warmup) and its line in SCHEDULES. Steps count from 0; step s has ended its
warm-up when s >= warmup. The first step has a rate already: with 0 it would be wasted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, int, int], float]


def cosine(step: int, total: int, warmup: int = 0) -> float:
    """Linear warm-up, then half a cosine down to 0 (Loshchilov & Hutter 2017, eq. 5, as SimCLR has it)."""
    if step < warmup:
        return (step + 1) / warmup
    return _cosine(1.0, 0.0, (step - warmup) / max(1, total - warmup))


def one_cycle(step: int, total: int, warmup: int = 0) -> float:
    """Cosine up from 1/25, then down to 1/250,000 (Smith & Topin 2018, with the figures of torch's OneCycleLR)."""
    start, end = 1 / 25, 1 / 25e4
    rise = max(0, warmup - 1)  # the last step of the rise is the peak, and without one the first step
    if step <= rise:
        return _cosine(start, 1.0, step / rise if rise > 0 else 1.0)
    return _cosine(1.0, end, (step - rise) / max(1, total - 1 - rise))


def constant(step: int, total: int, warmup: int = 0) -> float:
    """Linear warm-up, then the peak rate."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def ending_at(final: float, schedule: Schedule) -> Schedule:
    """The same schedule, but what falls to 0 after its warm-up falls to ``final`` (η_min of Loshchilov & Hutter)."""

    def raised(step: int, total: int, warmup: int = 0) -> float:
        factor = schedule(step, total, warmup)
        return factor if step < warmup else final + (1 - final) * factor

    return raised


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
