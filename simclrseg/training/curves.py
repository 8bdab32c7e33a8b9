"""The curves that a run leaves: training and validation over its epochs, a chart a quantity, with what is good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from simclrseg.charts.chart import Chart, Line, points_of, read_table
from simclrseg.metrics.table import METRICS
from simclrseg.scores.doubts import BASELINES

SAME = ("dice",)  # numbers that another chart shows, as f1
CHANCE = "_chance"
"""End of the name of what a network that knows nothing has of a quantity, which is drawn beside it."""


class Quantity(NamedTuple):
    """How people call a number, what it is measured in, and what is good."""

    title: str
    unit: str
    good: str


QUANTITIES = {
    "loss": Quantity("loss", "loss", "lower is better"),
    "top1": Quantity("contrastive top-1", "share of views", "higher is better; 1: each finds its other view"),
    "alignment": Quantity("alignment", "squared distance of two views", "lower is better; 2 is chance, 0 one point"),
    "uniformity": Quantity("uniformity", "log of a mean similarity", "lower is better; 0 is collapse, -4 is even"),
    "effective_rank": Quantity("effective rank", "dimensions in use", "many are better; near 1 is collapse"),
    "knn": Quantity("k-NN accuracy", "share of photos", "higher is better; 1 is all"),
    "dense_loss": Quantity("loss of places", "loss", "lower is better"),
    "dense_top1": Quantity("top-1 of places", "share of places", "higher is better; 1: each is found again"),
    "photos": Quantity("loss of photos", "loss", "lower is better"),
    "places": Quantity("loss of places", "loss", "lower is better"),
    "psnr": Quantity("PSNR", "decibels", "higher is better"),
    "supervised": Quantity("loss of masks", "loss", "lower is better"),
    "consistency": Quantity("loss of photos without masks", "loss", "0: both views are seen alike"),
    "confident": Quantity("confident", "share of pixels", "how much of the unlabelled photos is believed"),
}
"""The numbers that trainings log beside those of ``METRICS``; others are drawn under their names."""


def training_curves(metrics: Path, before: Mapping[str, float], *, chosen: bool = True) -> list[Chart]:
    """A chart for each quantity of a run's ``metrics.csv``.

    Args:
        metrics: one row an epoch; columns ``train_<name>`` and ``val_<name>``, empty cells are left out.
        before: validation scores from before the first step.
        chosen: mark the best epoch; not where validation images are too few to say which it is.
    """
    rows = read_table(metrics)
    names = dict.fromkeys(
        name.partition("_")[2] for row in rows[:1] for name in row if name.startswith(("train_", "val_"))
    )
    best = _best_epoch(rows) if chosen else None
    charts = []
    for name in names:
        if name in (*BASELINES, *SAME) or name.endswith(CHANCE):
            continue
        columns = {"training": f"train_{name}", "validation": f"val_{name}", "chance": f"train_{name}{CHANCE}"}
        if name == "loss":
            columns |= {baseline.replace("_", " "): f"train_{baseline}" for baseline in BASELINES}
        lines = [
            Line(label, *points, dotted=label not in ("training", "validation"))
            for label, column in columns.items()
            if (points := points_of(rows, column))[0]
        ]
        if not lines:
            continue
        if name in before:
            epochs, _ = points_of(rows, "epoch")
            lines.append(Line("before", [epochs[0], epochs[-1]], [before[name]] * 2, dotted=True))
        quantity = _quantity(name)
        levels = [f"{line.y[-1]:.3g} is {line.label}" for line in lines if line.dotted and line.label != "before"]
        overfits = ["a rise in validation is overfitting"] if name == "loss" and len(lines) - len(levels) > 1 else []
        hint = "; ".join(filter(None, [quantity.good, *levels, *overfits]))
        ends = ", ".join(f"{line.label} {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines)
        title = quantity.title + (f", {lines[0].label}" if len(lines) == 1 else "")
        description = f"{ends}." + (f" {hint[0].upper()}{hint[1:]}." if hint else "")
        charts.append(Chart(title, "epoch", quantity.unit, lines, description, whole=True, hint=hint, mark=best))
    return charts


def _quantity(name: str) -> Quantity:
    if name in QUANTITIES:
        return QUANTITIES[name]
    if name not in METRICS:
        return Quantity(name.replace("_", " "), "", "")
    title, more = METRICS[name].title, METRICS[name].more_is_better
    return Quantity(title, "from 0 to 1" if more else title, f"{'higher' if more else 'lower'} is better")


def _best_epoch(rows: Sequence[Mapping[str, str]]) -> tuple[int, str] | None:
    """The epoch with the highest score that validation decides by, the first where several are; None without one."""
    deciding = next((name for row in rows[:1] for name in row if name.startswith("val_")), None)
    if deciding is None:
        return None
    epochs, values = points_of(rows, deciding)
    if len(epochs) < 2:
        return None
    best = epochs[values.index(max(values))]
    return best, f"best epoch: {best}"
