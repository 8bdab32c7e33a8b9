"""Charts as SVG inside a page, whose colours are those of the page, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simclrseg.charts.html import Html, element
from simclrseg.charts.plots import shortened

INK = "#010203"  # becomes the page's text colour
GRID = "#040506"
SERIES = tuple(f"#0a0b{number:02x}" for number in range(1, 7))  # page.css gives them their colours
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "simclrseg",  # the same chart twice is the same file
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
}
_DASHES = ("-", "--", "-.", ":")  # lines differ in more than colour
_NAMES = {INK: "currentColor", GRID: "var(--grid)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)
}


@dataclass(frozen=True)
class Line:
    """Points of a chart.

    Attributes:
        ends: low and high of each point, where there are intervals.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    ends: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """Lines, or bars, over one axis.

    Attributes:
        description: what is seen, for those who do not see it.
        bars: width of the bars that the first line is drawn as; 0 for a line.
        diagonal: where y = x would be perfect.
        whole: x counts something, so that its marks are whole numbers.
        share: both axes go from 0 to 1.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    description: str
    bars: float = 0.0
    diagonal: bool = False
    whole: bool = False
    share: bool = False


def drawn(charts: Sequence[Chart], identifier: str) -> Html:
    """Charts beside each other, as many as there is room for; the identifier is used once in a page."""
    figures = (
        element(
            "figure",
            Html(_svg(chart, prefix=f"{identifier}-{number}-")),
            element("figcaption", chart.description),
            class_="chart",
        )
        for number, chart in enumerate(charts, start=1)
    )
    return element("div", *figures, class_="charts")


def _svg(chart: Chart, *, prefix: str) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")  # the browser has the font
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        if chart.diagonal:
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        for number, line in enumerate(chart.lines):
            _plot(axes, line, number, chart.bars if number == 0 else 0.0)
        axes.set_title(chart.title, fontsize=10)
        axes.set_xlabel(chart.x)
        axes.set_ylabel(chart.y)
        if chart.whole:
            axes.locator_params(axis="x", integer=True)
        if chart.share:
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.5, linewidth=0.6)
        axes.set_axisbelow(True)
        if len(chart.lines) > 1:
            axes.legend(fontsize=8)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _for_page(buffer.getvalue(), prefix=prefix, label=f"{chart.title}: {chart.description}")


def _plot(axes, line: Line, number: int, bars: float) -> None:  # type: ignore[no-untyped-def]
    colour, dash = SERIES[number % len(SERIES)], _DASHES[number // len(SERIES) % len(_DASHES)]
    if bars:
        axes.bar(line.x, line.y, width=bars, color=colour, alpha=0.75, label=shortened(line.label))
        return
    axes.plot(
        line.x,
        line.y,
        dash,
        color=colour,
        linewidth=1.6,
        marker="." if len(line.x) < 40 else "",
        label=shortened(line.label),
    )
    if line.ends:
        away = [[max(y - low, 0) for y, (low, _) in zip(line.y, line.ends, strict=True)]]
        away.append([max(high - y, 0) for y, (_, high) in zip(line.y, line.ends, strict=True)])
        axes.errorbar(line.x, line.y, away, fmt="none", color=colour, capsize=3, alpha=0.7)


def _for_page(svg: str, *, prefix: str, label: str) -> str:
    """matplotlib's file as an element of a page: no prologue, no addresses, ids of its own, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[-0-9. ]+"', opening)
    assert box
    rest = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}\1"', rest)
    rest = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{prefix}\1"', rest)
    rest = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}\1)", rest)
    for colour, name in _NAMES.items():
        rest = rest.replace(colour, name)
    opened = str(element("svg", role="img", aria_label=label)).removesuffix("></svg>")
    return f"{opened} {box[0]}>{rest}"
