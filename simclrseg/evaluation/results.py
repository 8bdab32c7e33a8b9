"""Results of an evaluation, as JSON, tables, Markdown and the page read them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from simclrseg.charts.html import joined
from simclrseg.evaluation.page import paragraph, table
from simclrseg.evaluation.scored import Scored
from simclrseg.metrics.table import COMPARED
from simclrseg.scores.doubts import coverage
from simclrseg.scores.results import Estimate, Scores
from simclrseg.scores.wording import duration, words, written
from simclrseg.text import in_markdown

if TYPE_CHECKING:
    from simclrseg.evaluation.groups import Group

ONE_SEED = "one seed proves nothing about a recipe: train several, as with --vary seed=0,1,2"
ORIGIN = ("pretrained", "data_ratio", "encoder", "pretraining_seconds", "finetuning_seconds")


@dataclass(frozen=True)
class Ungated(ABC):
    """What an evaluation comes to of which no value is asked for, and the folder of its files."""

    folder: Path
    missed: ClassVar = ()

    @abstractmethod
    def found(self) -> dict[str, Any]:
        """The content of its JSON file."""

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {**self.found(), "report": str(self.folder)}


class Finding(Protocol):
    """A further part of an evaluation, such as calibration."""

    @property
    def picture(self) -> Path | None:
        """A PNG that the report shows."""

    def facts(self) -> dict[str, Any]:
        """The form of ``metrics.json`` and ``--json``."""

    def rows(self) -> list[dict[str, Any]]:
        """The rows of its CSV file; the ends of intervals are columns ``<name>_low`` and ``<name>_high``."""


@dataclass(frozen=True, repr=False)
class Evaluated(Scored):
    """A model and what it said of its images, of which ``scores`` has those that could be read.

    Attributes:
        metrics: over the whole split, the one that decides first.
        origin: ``encoder``, ``pretrained``, ``data_ratio``, ``pretraining_seconds``, ``finetuning_seconds``, …; None
            where not known.
        notes: counts and choices that belong to the numbers: ``empty_masks``, ``best_threshold``, …
        doubts: what makes the numbers mean little, a line each.
        findings: of other parts of the evaluation, by name: ``calibration``, ``ood``, ``embedding``.
    """

    scores: Scores
    metrics: Mapping[str, Estimate]
    means: Mapping[str, Estimate]
    per_class: list[dict[str, Any]]
    origin: Mapping[str, Any]
    notes: Mapping[str, Any]
    doubts: Sequence[str] = ()
    findings: dict[str, Finding] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Evaluated({self.name!r}, {', '.join(f'{name} {found}' for name, found in self.metrics.items())})"

    @property
    def deciding(self) -> str:
        """The metric that says which of two models is the better."""
        return next(iter(self.metrics))

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            self.kind: str(self.path),
            "name": self.name,
            "task": self.target.TASK,
            "dataset": self.dataset.name,
            "split": self.split,
            "n": len(self.scores.keys),
            "test_hash": self.test_hash,
            **self.notes,
            **figures(self.metrics, self.scores.without_learning),
            "mean_over_images": {name: estimate.facts() for name, estimate in self.means.items()},
            "per_class": self.per_class,
            "skipped": list(self.scores.skipped),
            **self.origin,
            **{name: finding.facts() for name, finding in self.findings.items()},
        }


def by_value(found: Evaluated | Group) -> tuple[bool, float]:
    """A key by which the best comes first, and what has no value last."""
    value = found.metrics[found.deciding].value
    return math.isnan(value), -value


def figures(metrics: Mapping[str, Estimate], free: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The JSON form of metrics: their values, what they are without learning, and their intervals."""
    return {
        "metrics": {name: estimate.value for name, estimate in metrics.items()},
        "without_learning": dict(free),
        "intervals": {name: estimate.facts()["interval"] for name, estimate in metrics.items()},
    }


@dataclass(frozen=True)
class Report:
    """The results of one call of ``evaluate``.

    Attributes:
        models: in the order in which they were named.
        baseline: name of the model that the others are compared with; None with one model.
        differences: by the name of each other model, what it has more than the baseline on the same images, by metric.
        groups: the models by recipe, where several differ by their seed alone.
        missed: the values that ``--min`` asks for and that were not met, as sentences.
    """

    folder: Path
    models: Sequence[Evaluated]
    baseline: str | None = None
    differences: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    missed: Sequence[str] = ()
    groups: Sequence[Group] = ()

    def facts(self) -> dict[str, Any]:
        """The JSON form."""
        return {**self.found(), "report": str(self.folder), "missed": self.missed}

    def found(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        models = [model.facts() for model in self.models]
        if len(models) == 1:
            return models[0]
        table, best = self.table
        return {
            "models": models,
            "baseline": self.baseline,
            "differences": {
                name: {metric: estimate.facts() for metric, estimate in metrics.items()}
                for name, metrics in self.differences.items()
            },
            "table": table,
            "best": sorted(best),
            "groups": [group.facts() for group in self.groups],
            "recipes": self.recipes,
            "verdicts": self.verdicts,
        }

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        if len(self.models) > 1:
            rows, best = self.table
            parts = [table(rows, caption=f"Models, with {self.coverage}", strong=best)]
            return joined([*parts, *map(paragraph, self.verdicts)])
        model, free = self.models[0], self.models[0].scores.without_learning
        rows = [
            {"metric": words(name), "over the split": str(found), "without learning": written(free.get(name))}
            for name, found in model.metrics.items()
        ]
        return joined([table(rows, caption=f"{model.name}, with {self.coverage}"), *map(paragraph, model.doubts)])

    @property
    def recipes(self) -> list[dict[str, str]]:
        """The groups as words, the best first."""
        return [group.row(self.compared) for group in self.groups]

    @property
    def verdicts(self) -> list[str]:
        """What the comparison comes to, a sentence each, and what they cover."""
        first = self.models[0]
        images = f"{len(first.scores.keys):,} {first.split} photos".replace(" all ", " ")
        if not self.groups:
            found = [
                sentence(name, str(self.baseline), words(first.deciding), metrics[first.deciding])
                for name, metrics in self.differences.items()
            ]
            trained = any(model.kind == "run" for model in self.models)
            return [*found, *([f"{ONE_SEED}; intervals are over {images} alone"] if trained else [])]
        found = [group.sentence for group in self.groups if group.sentence]
        counts = {len(group.models) for group in self.groups}
        seeds = " or ".join(map(str, sorted(counts)))
        found.append(f"intervals of recipes are over {images} and {seeds} seeds")
        return [*found, *([ONE_SEED] if 1 in counts else [])]

    @property
    def coverage(self) -> str:
        """A line on what the intervals cover."""
        first = self.models[0]
        return coverage(len(first.scores.keys), first.split)

    @property
    def ranked(self) -> list[Evaluated]:
        """The models, the best first; those without a value, such as of empty masks that are left out, last."""
        return sorted(self.models, key=by_value)

    @property
    def compared(self) -> list[str]:
        """The metrics that have a column where models are compared."""
        return [name for name in COMPARED if all(name in model.metrics for model in self.models)]

    def rows(self) -> list[dict[str, Any]]:
        """The models as numbers, the best first; ends of intervals as ``<metric>_low`` and ``_high``."""
        table = []
        for model in self.ranked:
            row: dict[str, Any] = {"name": model.name, **{name: model.origin.get(name) for name in ORIGIN}}
            differences = self.differences.get(model.name)
            for name in self.compared:
                row |= model.metrics[name].columns(name)
            for name in self.compared:
                column = f"{name}_difference"
                none = dict.fromkeys((column, f"{column}_low", f"{column}_high"))  # of the baseline
                row |= differences[name].columns(column) if differences else none
            table.append(row)
        return table

    @cached_property
    def table(self) -> tuple[list[dict[str, str]], set[tuple[int, str]]]:
        """The models as words, the best first, and the cells (row, column) that hold the best value of a metric.

        The last row is what costs nothing, on the same images.
        """
        deciding = self.models[0].deciding
        highest = {name: np.fmax.reduce([model.metrics[name].value for model in self.models]) for name in self.compared}
        table, best = [], set()
        for number, model in enumerate(self.ranked):
            row = {"name": model.name, "pretrained": written(model.origin.get("pretrained"))}
            row["data ratio"] = written(model.origin.get("data_ratio"), ".4g")
            for name in self.compared:
                found = model.metrics[name]
                row[words(name)] = str(found) if name == deciding else written(found.value)
                if found.value == highest[name]:  # never where none has a value
                    best.add((number, words(name)))
            differences = self.differences.get(model.name)
            row[f"{words(deciding)} over {self.baseline}"] = _perhaps(differences[deciding]) if differences else "-"
            row["pretraining"] = duration(model.origin.get("pretraining_seconds"))
            row["fine-tuning"] = duration(model.origin.get("finetuning_seconds"))
            table.append(row)
        free = self.models[0].scores.without_learning
        known = {words(name): written(free[name]) for name in self.compared if name in free}
        table.append(dict.fromkeys(table[0], "-") | {"name": "(without learning)"} | known)
        return table, best

    def markdown(self) -> str:
        """The same in Markdown, the best cells between ``**``."""
        return markdown(*self.table)


def markdown(table: Sequence[Mapping[str, str]], best: Collection[tuple[int, str]] = ()) -> str:
    """Rows in Markdown, the best cells (row, column) between ``**``."""
    lines = [list(table[0]), ["---"] * len(table[0])]
    for number, row in enumerate(table):
        texts = {name: in_markdown(text) for name, text in row.items()}
        lines.append([f"**{text}**" if (number, name) in best else text for name, text in texts.items()])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def signed(difference: Estimate) -> str:
    """``+0.0123 [+0.0012, +0.0240]``."""
    if math.isnan(difference.value):
        return written(difference.value)
    if difference.interval is None:
        return f"{difference.value:+.4f}"
    return f"{difference.value:+.4f} [{difference.interval.low:+.4f}, {difference.interval.high:+.4f}]"


def _perhaps(difference: Estimate) -> str:
    """A difference whose interval holds 0 is marked as one that may be chance."""
    chance = difference.interval is not None and difference.interval.low <= 0 <= difference.interval.high
    return signed(difference) + (" (may be chance)" if chance else "")


def verdict(difference: Estimate) -> str:
    """What a difference from a baseline says by its interval."""
    if difference.interval is None or difference.interval.low <= 0 <= difference.interval.high:
        return "cannot tell"
    return "likely better" if difference.interval.low > 0 else "likely worse"


def sentence(name: str, baseline: str, metric: str, difference: Estimate) -> str:
    """The same as a sentence."""
    found, figures = verdict(difference), f"{metric} {signed(difference)}"
    if found == "cannot tell":
        return f"whether {name} is better than {baseline} cannot be told: {figures}"
    return f"{name} is {found} than {baseline}: {figures}"
