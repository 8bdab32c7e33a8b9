"""Charts, described once: drawn as a PNG beside a run, and as SVG inside a page."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.text import printable

DASHES = ("-", "--", "-.")  # lines differ in more than colour
POINTS_SEEN = 40  # of a line with fewer each is marked

# where the home folder cannot be written, it says so in three lines, and draws all the same
logging.getLogger("matplotlib").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Line:
    """Points of a chart.

    Attributes:
        dotted: something to compare with, rather than a result.
        bars: x, value, low and high of points with intervals, which need not lie on the line.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    dotted: bool = False
    bars: Sequence[tuple[float, float, float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """Lines, or columns, over one axis.

    Attributes:
        description: what is seen, for those who do not see it.
        columns: width of the columns that the first line is drawn as; 0 for a line.
        diagonal: where y = x would be perfect.
        whole: x counts something, so that its marks are whole numbers.
        share: both axes go from 0 to 1.
        hint: what is good, in a few words, which stand under the title.
        mark: an x that stands out, and what it is.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    description: str
    columns: float = 0.0
    diagonal: bool = False
    whole: bool = False
    share: bool = False
    hint: str = ""
    mark: tuple[float, str] | None = None


def draw(axes: Any, chart: Chart, *, colours: Sequence[str], ink: str) -> None:
    """Draw a chart into matplotlib's axes, its lines in these colours in turn."""
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], ":", color=ink, linewidth=0.8)
    for number, line in enumerate(chart.lines):
        colour, dash = colours[number % len(colours)], DASHES[number // len(colours) % len(DASHES)]
        if chart.columns and number == 0:
            axes.bar(line.x, line.y, width=chart.columns, color=colour, alpha=0.75, label=shortened(line.label))
            continue
        seen = len(line.x) < POINTS_SEEN and not line.dotted
        style = {"color": colour, "linewidth": 1.6, "marker": "." if seen else "", "label": shortened(line.label)}
        if line.dotted and len(line.x) == 1:
            style |= {"marker": "_", "markersize": 12}  # of one point there is no line to be seen
        axes.plot(line.x, line.y, ":" if line.dotted else dash, **style)
        if line.dotted and line.x:
            results = [other.y[-1] for other in chart.lines if other.y and not other.dotted]
            _name_level(axes, line, colour, above=line.y[-1] < min(results, default=-np.inf))
        if line.bars:
            x, y, low, high = np.array(line.bars).T
            away = np.maximum([y - low, high - y], 0)  # an interval need not hold its value
            axes.errorbar(x, y, away, fmt=".", color=colour, capsize=3, alpha=0.7)
    axes.set_title(printable(chart.title), fontsize=10, pad=17 if chart.hint else None)
    if chart.hint:
        place = {"xy": (0.5, 1), "xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
        axes.annotate(printable(chart.hint), **place, ha="center", va="bottom", fontsize=8.5)
    if chart.mark:
        at, what = chart.mark
        axes.axvline(at, color=ink, linewidth=1, linestyle=(0, (1, 2)), label=printable(what))
    axes.set(xlabel=chart.x, ylabel=chart.y)
    if chart.whole:
        axes.locator_params(axis="x", integer=True)
        if len({x for line in chart.lines for x in line.x}) == 1:
            axes.set(xticks=chart.lines[0].x[:1])
    if chart.share:
        axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.5, linewidth=0.6)
    axes.set_axisbelow(True)
    if len(chart.lines) > 1 or chart.mark:
        levels = {shortened(line.label) for line in chart.lines if line.dotted}  # which are named where they are
        named = zip(*axes.get_legend_handles_labels(), strict=True)
        handles, labels = zip(*((handle, label) for handle, label in named if label not in levels), strict=True)
        axes.legend(handles, labels, fontsize=8)


def _name_level(axes: Any, line: Line, colour: str, *, above: bool) -> None:
    """Name something to compare with at the right end of its line, on the side where no result is."""
    text = f"{shortened(line.label)} {line.y[-1]:.4g}"
    place = {"xy": (line.x[-1], line.y[-1]), "xytext": (0, 3 if above else -3), "textcoords": "offset points"}
    side = {"ha": "right" if len(line.x) > 1 else "center", "va": "bottom" if above else "top"}
    axes.annotate(text, **place, **side, fontsize=8, color=colour)


def shortened(label: str) -> str:
    """A name for a legend; of a long one, such as a path, the end, so that the legend does not crowd out the chart."""
    label = printable(label)
    return label if len(label) <= 32 else f"…{label[-31:]}"


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV."""
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file))


def points_of(rows: Sequence[Mapping[str, str]], column: str) -> tuple[list[int], list[float]]:
    """Epochs and their values, without the rows that have none or cannot be read."""
    points = []
    for row in rows:
        with suppress(KeyError, TypeError, ValueError):
            points.append((int(row["epoch"]), float(row[column])))
    return [epoch for epoch, _ in points], [value for _, value in points]
