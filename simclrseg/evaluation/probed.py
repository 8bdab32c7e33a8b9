"""Results of a probe, as JSON, the terminal and the page read them: every figure before and after pretraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simclrseg.charts.html import joined
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.evaluation.backbones import Backbone
from simclrseg.evaluation.embedding import Embedding
from simclrseg.evaluation.page import paragraph, table
from simclrseg.evaluation.results import ONE_SEED, Ungated, figures, sentence, signed, verdict
from simclrseg.scores.doubts import coverage
from simclrseg.scores.intervals import Floats
from simclrseg.scores.results import Estimate
from simclrseg.scores.wording import words


@dataclass(frozen=True)
class Neighbours:
    """The photos that are nearest to each of n photos in the features of an encoder, by cosine.

    Attributes:
        places: (n, k) indices in the dataset, the nearest first.
        alike: share of them, over all n, that have the class of the photo; None without classes.
    """

    places: np.ndarray
    alike: Estimate | None


@dataclass(frozen=True)
class Probed(Ungated):
    """What the features of an encoder are good for: the metrics of n images, those by labels first.

    Attributes:
        before: the same of the network untrained.
        differences: what pretraining added, on the same images.
        hits: 1 where an image got its class, (n,) for each metric by labels.
        indices: of the n images in the dataset.
        table: a row an image, with what was said of it; empty without labels.
        neighbours: of the images before and after.
        doubts: what makes the figures mean little, a line each.
    """

    backbone: Backbone
    dataset: Dataset = field(repr=False)
    split: str
    indices: tuple[int, ...] = field(repr=False)
    metrics: Mapping[str, Estimate]
    before: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    hits: Mapping[str, Floats] = field(repr=False)
    table: Sequence[Mapping[str, Any]] = field(repr=False)
    neighbours: tuple[Neighbours, Neighbours] = field(repr=False)
    embedding: Embedding | None
    doubts: Sequence[str]

    @property
    def name(self) -> str:
        return self.backbone.name

    def found(self) -> dict[str, Any]:
        free = {name: estimate.value for name, estimate in self.before.items()}
        return {
            "backbone": str(self.backbone.path),
            "dataset": self.dataset.name,
            "split": self.split,
            "n": len(self.indices),
            **figures(self.metrics, free),
            "differences": {name: estimate.facts() for name, estimate in self.differences.items()},
            "verdicts": self.verdicts,
            **({"embedding": self.embedding.facts()} if self.embedding else {}),
        }

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return joined([table(self.rows(), caption=f"{self.name}, on {self.covered}"), *map(paragraph, self.verdicts)])

    def rows(self) -> list[dict[str, str]]:
        """A row a figure, before and after, as words."""
        return [
            {
                "figure": words(name),
                "before": str(self.before[name]),
                "after": str(found),
                "difference": signed(self.differences[name]),
            }
            for name, found in self.metrics.items()
        ]

    @property
    def covered(self) -> str:
        """The images, and what the intervals cover."""
        images = f"{len(self.indices):,} photos of {self.dataset.name}"
        return f"{images}, with {coverage(len(self.indices), 'test')}" if self.hits else images

    @property
    def verdicts(self) -> list[str]:
        """What pretraining brought by labels, a sentence each."""
        known = {"likely better": "more than chance", "likely worse": "less, and no chance"}
        start = self.backbone.metadata.pretrained  # whose part in it cannot be told
        before, after = ("with random weights", f", which began with {start}") if start else ("before", "")
        return [
            f"{words(name)} {self.before[name].value:.4f} {before} and {self.metrics[name].value:.4f} after "
            f"pretraining{after}: "
            f"{signed(self.differences[name])}, {known.get(verdict(self.differences[name]), 'which may be chance')}"
            for name in self.hits
        ]


@dataclass(frozen=True)
class ProbedSeveral(Ungated):
    """Several backbones on the same images; the others are compared with the first.

    Attributes:
        differences: by the name of each other backbone, what it has more than the first, by metric.
    """

    backbones: Sequence[Probed]
    differences: Mapping[str, Mapping[str, Estimate]]

    def found(self) -> dict[str, Any]:
        table, best = self.table
        return {
            "backbones": [{"name": one.name, **one.found()} for one in self.backbones],
            "baseline": self.backbones[0].name,
            "differences": {
                name: {metric: estimate.facts() for metric, estimate in found.items()}
                for name, found in self.differences.items()
            },
            "table": table,
            "best": sorted(best),
            "verdicts": self.verdicts,
        }

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        rows, best = self.table
        caption = f"Before and after pretraining, on {self.backbones[0].covered}"
        return joined([table(rows, caption=caption, strong=best), *map(paragraph, self.verdicts)])

    @property
    def table(self) -> tuple[list[dict[str, str]], set[tuple[int, str]]]:
        """The backbones as words, and the cells (row, column) with the highest accuracy.

        Each cell says what it was before pretraining and what it is after.
        """
        rows, best = [], set()
        for number, one in enumerate(self.backbones):
            row = {"name": one.name, "encoder": one.backbone.metadata.encoder}
            for name, found in one.metrics.items():
                row[words(name)] = f"{one.before[name].value:.4f} to {found.value:.4f}"
                if name in one.hits and found.value == max(other.metrics[name].value for other in self.backbones):
                    best.add((number, words(name)))
            rows.append(row)
        return rows, best

    @property
    def verdicts(self) -> list[str]:
        """How the others compare with the first by labels, a sentence each, and what that covers."""
        first = self.backbones[0]
        found = [
            sentence(name, first.name, words(metric), difference)
            for name, metrics in self.differences.items()
            for metric, difference in metrics.items()
        ]
        return [*found, ONE_SEED] if found else []
