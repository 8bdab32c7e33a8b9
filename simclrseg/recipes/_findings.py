"""The further parts of an evaluation, which are checked before anything is scored, and then look at each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclrseg.config import EvaluateConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.evaluation.results import Evaluated
from simclrseg.recipes import _calibration, _embed, _ood
from simclrseg.recipes._scored import Scored
from simclrseg.recipes._training import Machine


@dataclass(frozen=True)
class Plan:
    """What was asked for beside the scores, and can be had.

    Attributes:
        others: datasets of another kind, and their photos.
        draws: of Monte-Carlo dropout, for each model.
        method: to draw features by; None for no picture of them.
    """

    others: Sequence[tuple[Dataset, Sequence[int]]]
    draws: Sequence[int]
    method: str | None


def plan(scored: Sequence[Scored], config: EvaluateConfig) -> Plan:
    """Check what was asked for.

    Raises:
        SimclrsegError: if one of the models cannot have it.
    """
    others = _ood.open_others(config.uncertainty.ood)
    samples, method = config.uncertainty.mc_samples, config.features.embed
    draws = [
        _ood.check(others, one.dataset, one.network, one.metadata, samples) if others or samples is not None else 0
        for one in scored
    ]
    for one in scored:
        if method is not None:
            _embed.check(method, one.network)
    return Plan(others, draws, method)


def add(
    model: Evaluated, asked: Plan, draws: int, *, config: EvaluateConfig, machine: Machine, root: Path, folder: Path
) -> None:
    """Put findings to a model's evaluation, and write their files.

    Args:
        draws: the plan's for this model.
        root: of all runs.
        folder: of this model's files.
    """
    batch_size = config.data.batch_size
    model.findings["calibration"] = _calibration.calibrate(model, folder)
    if asked.others:
        model.findings["ood"] = _ood.measure(
            model, asked.others, draws=draws, machine=machine, batch_size=batch_size, folder=folder
        )
    if asked.method is not None:
        model.findings["embedding"] = _embed.embed(
            model, asked.method, machine=machine, batch_size=batch_size, root=root, folder=folder
        )


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """What a terminal has room for, of what ``metrics.json`` holds of the findings."""
    facts = {}
    if found := result.get("calibration"):
        facts["calibration"] = (
            f"ECE {found['ece']:.4f}, Brier {found['brier']:.4f}, risk {found['risk_at_coverage']['0.8']:.4f} of the "
            f"surest 80 % of {found['n']:,} {found['unit']}"
        )
    if found := result.get("embedding"):
        values = found["silhouette"] or {}
        facts["silhouette"] = ", ".join(f"{value:.4f} {title}" for title, value in values.items()) or "no classes"
    return facts


def tables(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The same, of what needs rows and columns."""
    rows = [
        {
            "out of distribution": name,
            "per": level,
            "score": score,
            **{curve: f"{value['value']:.4f}" for curve, value in curves.items()},
            "AUROC's 95 % interval": "-"
            if (ends := curves["auroc"]["interval"]) is None
            else "{:.4f} to {:.4f}".format(*ends),
        }
        for name, facts in result.get("ood", {}).items()
        for level in ("image", "pixel")
        for score, curves in facts.get(level, {}).items()
    ]
    return {"ood": rows} if rows else {}
