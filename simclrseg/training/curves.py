"""The curves that a run leaves: training and validation over its epochs, a chart a quantity."""

from __future__ import annotations

from pathlib import Path

from simclrseg.charts import plots
from simclrseg.charts.chart import Chart, Line, points_of, read_table
from simclrseg.scores.doubts import BASELINES

SAME = ("dice",)  # numbers that another chart shows, as f1
CHANCE = "_chance"
"""End of the name of what a network that knows nothing has of a quantity, which is drawn beside it."""


def draw_curves(metrics: Path, path: Path) -> None:
    """Draw a run's ``metrics.csv``.

    Args:
        metrics: one row an epoch; columns ``train_<name>`` and ``val_<name>``, empty cells are left out.
        path: the PNG to write.
    """
    plots.charts(training_curves(metrics), path)


def training_curves(metrics: Path) -> list[Chart]:
    """A chart for each quantity of a run's ``metrics.csv``."""
    rows = read_table(metrics)
    names = dict.fromkeys(
        name.partition("_")[2] for row in rows[:1] for name in row if name.startswith(("train_", "val_"))
    )
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
        if lines:
            ends = ", ".join(f"{line.label} {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines)
            title = name.replace("_", " ") + (f", {lines[0].label}" if len(lines) == 1 else "")
            charts.append(Chart(title, "epoch", "", lines, f"{ends}.", whole=True))
    return charts
