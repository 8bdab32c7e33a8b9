"""The further parts of an evaluation, which are checked before anything is scored, and then look at each model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.evaluation import calibration, embedding, ood
from simclrseg.evaluation.scored import Scored
from simclrseg.scores.results import Evaluated
from simclrseg.training.machine import Machine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The findings beside the scores that were asked for, and can be had.

    Attributes:
        others: datasets of another kind, and their photos.
        draws: of Monte-Carlo dropout, for each model.
        method: to draw features by; None for no picture of them.
    """

    others: Sequence[ood.Other]
    draws: Sequence[int]
    method: str | None


def plan(scored: Sequence[Scored], config: EvaluateConfig) -> Plan:
    """Check what was asked for.

    Raises:
        SimclrsegError: if one of the models cannot have it.
    """
    others = ood.open_others(config.uncertainty.ood)
    samples, method = config.uncertainty.mc_samples, config.features.embed
    draws = [
        ood.check(others, one.target.dataset, one.learner, one.metadata, samples) if others else 0 for one in scored
    ]
    for one in scored:
        if method is not None:
            embedding.check(method, one.learner, len(one.indices))
    return Plan(others, draws, method)


def add(
    model: Evaluated, asked: Plan, draws: int, *, machine: Machine, batch_size: int, root: Path, folder: Path
) -> None:
    """Put findings to a model's evaluation, and write their files.

    Args:
        draws: the plan's for this model.
        batch_size: images per forward pass.
        root: of all runs.
        folder: of this model's files.
    """
    if len(asked.draws) > 1:
        log.info(f"findings of {model.name}:")  # the lines that follow are the same for each model but for the numbers
    model.findings["calibration"] = calibration.calibrate(model, folder)
    if asked.others:
        model.findings["ood"] = ood.measure(
            model, asked.others, draws=draws, machine=machine, batch_size=batch_size, folder=folder
        )
    if asked.method is not None:
        model.findings["embedding"] = embedding.embed(
            model, asked.method, machine=machine, batch_size=batch_size, root=root, folder=folder
        )
