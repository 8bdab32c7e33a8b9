"""Charts as SVG inside a page, whose colours are those of the page, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

from simclrseg.charts.chart import Chart, draw
from simclrseg.charts.html import Html, element

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
_NAMES = {INK: "currentColor", GRID: "var(--grid)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)
}


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
        draw(axes, chart, colours=SERIES, ink=INK)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _for_page(buffer.getvalue(), prefix=prefix, label=f"{chart.title}: {chart.description}")


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
