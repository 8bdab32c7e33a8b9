"""The further parts of an evaluation, which are checked before anything is scored, and then look at each model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from simclrseg.charts import plots
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.evaluation import embedding, ood
from simclrseg.evaluation.features import Reader
from simclrseg.evaluation.graphs import calibration_charts
from simclrseg.evaluation.results import Evaluated
from simclrseg.evaluation.scored import Scored
from simclrseg.images.depth import Range
from simclrseg.scores.confidences import Confidences
from simclrseg.system.files import write_rows
from simclrseg.training.machine import Machine

log = logging.getLogger(__name__)

COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)  # at which the risk is told


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy agree, over all images or pixels that were scored."""

    confidences: Confidences
    unit: str
    picture: ClassVar = None  # the report draws its charts

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        counted = self.confidences
        kept, risk = counted.risk_coverage()
        # of the surest predictions, of which at least so many are kept
        places = {at: min(int(np.searchsorted(kept, at - 1e-12)), len(risk) - 1) for at in COVERAGES}
        return {
            "unit": self.unit,
            "n": int(counted.number.sum()),
            "ece": counted.ece,
            "brier": counted.brier,
            "aurc": counted.aurc,
            "risk_at_coverage": {f"{at:g}": float(risk[place]) for at, place in places.items()},
            "reliability": self.rows(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row a bin; None where it is empty."""
        counted = self.confidences
        accuracy, confidence = counted.mean(counted.right).tolist(), counted.mean(counted.confidence).tolist()
        edges = np.linspace(0, 1, len(counted.number) + 1).round(4).tolist()
        return [
            {
                "from": edges[place],
                "to": edges[place + 1],
                "confidence": confidence[place] if number else None,
                "accuracy": accuracy[place] if number else None,
                "n": int(number),
            }
            for place, number in enumerate(counted.number)
        ]


@dataclass(frozen=True)
class Plan:
    """The findings beside the scores that were asked for, and can be had.

    Attributes:
        others: datasets of another kind, and their images, by a model's range of values.
        draws: of Monte-Carlo dropout, for each model.
        method: to draw features by; None for no picture of them.
    """

    others: Mapping[tuple[Range | None, tuple[str, ...]], Sequence[ood.Other]]
    draws: Sequence[int]
    method: str | None


def plan(scored: Sequence[Scored], config: EvaluateConfig) -> Plan:
    """Check what was asked for; SimclrsegError if one of the models cannot have it."""
    names = config.uncertainty.ood
    kinds = {(one.metadata.reach, one.metadata.bands) for one in scored}
    others = {kind: ood.open_others(names, *kind) for kind in kinds}
    samples, method = config.uncertainty.mc_samples, config.features.embed
    draws = [
        ood.check(others[one.metadata.reach, one.metadata.bands], one.dataset, one.learner, one.metadata, samples)
        if names
        else 0
        for one in scored
    ]
    for one in scored:
        if method is not None:
            embedding.check(method, one.learner, len(one.indices))
    return Plan(others, draws, method)


def add(model: Evaluated, asked: Plan, draws: int, *, machine: Machine, root: Path, folder: Path) -> None:
    """Put findings to a model's evaluation, and write their files into its folder.

    Args:
        draws: the plan's for this model.
        root: of all runs.
    """
    others = asked.others[model.metadata.reach, model.metadata.bands]
    if len(asked.draws) > 1 and (others or asked.method is not None):
        log.info(f"findings of {model.name}:")  # the lines that follow are the same for each model but for the numbers
    calibration = model.findings["calibration"] = Calibration(model.scores.confidences, model.scores.UNIT)
    write_rows(folder / "calibration.csv", calibration.rows())
    plots.charts(calibration_charts(model), folder / "calibration.png")
    reader = Reader(model.metadata, machine, model.batch_size)
    if others:
        model.findings["ood"] = ood.measure(model, others, reader, draws=draws, folder=folder)
    if asked.method is not None:
        model.findings["embedding"] = embedding.embed(model, asked.method, reader, root=root, folder=folder)
