"""Elements of a web page, whose text is always escaped, and charts in its colours, light or dark."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

from simclrseg.charts.chart import Chart, draw
from simclrseg.text import printable

INK = "#010203"  # becomes the page's text colour
GRID = "#040506"
SERIES = tuple(f"#0a0b{number:02x}" for number in range(1, 7))  # page.css gives them their colours
# Room for numbers of six digits. matplotlib's layouts measure every text, which takes as long as the drawing.
_MARGINS = {"left": 0.16, "right": 0.97, "bottom": 0.16, "top": 0.91}
_NAMES = {INK: "currentColor", GRID: "var(--grid)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)
}
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


class Html(str):
    """Text that is markup already; all other text is escaped before it comes into a page."""


def element(name: str, /, *content: str, **attributes: str | None) -> Html:
    """``<name attribute="...">content</name>``.

    Args:
        attributes: ``class_`` for ``class``, ``_`` for ``-``; without those that are None.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(printable(value))}"')
    return Html(f"<{' '.join(parts)}>{joined(content)}" + ("" if name in ("img", "meta") else f"</{name}>"))


def joined(parts: Sequence[str]) -> Html:
    """Markup as it is and text escaped, one after the other."""
    return Html("".join(part if isinstance(part, Html) else html.escape(printable(part)) for part in parts))


def drawn(charts: Sequence[Chart], identifier: str) -> Html:
    """Charts as SVG beside each other, as many as there is room for; the identifier is used once in a page."""
    figures = (
        element(
            "figure",
            _svg(chart, prefix=f"{identifier}-{number}-"),
            element("figcaption", chart.description),
            class_="chart",
        )
        for number, chart in enumerate(charts, start=1)
    )
    return element("div", *figures, class_="charts")


def _svg(chart: Chart, *, prefix: str) -> Html:
    """matplotlib's file as an element of a page: no prologue, no addresses, ids of its own, the page's colours."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")  # the browser has the font
        figure = Figure(figsize=(4.6, 3.1))
        figure.subplots_adjust(**_MARGINS)
        if chart.hint:
            figure.subplots_adjust(top=_MARGINS["top"] - 0.06)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes, chart, colours=SERIES, ink=INK)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    _, _, svg = buffer.getvalue().partition("<svg")
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    opening, _, rest = svg.partition(">")
    box = re.search(r'viewBox="[-0-9. ]+"', opening)
    assert box
    rest = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}\1"', rest)
    rest = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{prefix}\1"', rest)
    rest = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}\1)", rest)
    for colour, name in _NAMES.items():
        rest = rest.replace(colour, name)
    opened = element("svg", role="img", aria_label=f"{chart.title}: {chart.description}").removesuffix("></svg>")
    return Html(f"{opened} {box[0]}>{rest}")
