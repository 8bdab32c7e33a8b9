"""A web page in one file: elements whose text is always escaped, style and script inside, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.charts.html import Html, element
from simclrseg.images.decode import read_image
from simclrseg.scores.wording import written

PICTURE_BYTES = 30_000
"""Most that one embedded image takes, before base64 adds a third."""
CHART_BYTES = 150_000
"""The same of a chart that is embedded as a picture."""
WIDE = 14
"""Characters from which on a heading or a name may be broken anywhere, where models are compared."""
Part = tuple[str, str, Html]
"""A section of a page: the identifier and title by which the contents lead to it, and its markup."""
_QUALITIES = (80, 60, 40, 20, 5, 1)


def section(title: str, identifier: str, *content: str, level: int = 2) -> Part:
    """A part of the page under a heading, which links point to."""
    heading = element(f"h{level}", title, id=f"{identifier}-title")
    markup = element("section", heading, *content, id=identifier, aria_labelledby=f"{identifier}-title")
    return identifier, title, markup


def remark(*text: str) -> Html:
    """A paragraph that explains what stands beside it."""
    return element("p", *text, class_="note")


def paragraph(text: str) -> Html:
    """A sentence of its own."""
    return element("p", f"{text}.")


def table(
    rows: Sequence[Mapping[str, Any]],
    *,
    caption: str,
    sortable: bool = False,
    compared: bool = False,
    strong: Collection[tuple[int, str]] = (),
) -> Html:
    """A table whose first column names the rows, in which numbers are written to four digits.

    Args:
        rows: one or more, cells by column.
        sortable: a button in each heading.
        compared: with columns as narrow as they can be, as for many models and their names.
        strong: cells (row, column) that stand out.
    """
    columns = list(rows[0])
    numeric = {name for name in columns if any(isinstance(row[name], int | float) for row in rows)}

    def heading(name: str) -> Html:
        kinds = (("number", name in numeric), ("wide", compared and len(name) > WIDE))
        kind = " ".join(kind for kind, holds in kinds if holds) or None
        if not sortable:
            return element("th", name, scope="col", class_=kind)
        return element("th", element("button", name, type="button"), scope="col", class_=kind, aria_sort="none")

    def cell(number: int, name: str, value: Any) -> Html:
        text: str = written(value)
        if (number, name) in strong:
            text = element("strong", text)
        if name == columns[0]:
            return element("th", text, scope="row")
        exact = repr(value) if sortable and isinstance(value, float) and not math.isnan(value) else None
        kind = "number" if name in numeric else None if isinstance(value, str) else "whole"
        if compared and len(text) > WIDE and " " not in text:
            kind = "wide"
        return element("td", text, class_=kind, data_value=exact)

    lines = (
        element("tr", *(cell(number, name, value) for name, value in row.items())) for number, row in enumerate(rows)
    )
    whole = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *map(heading, columns))),
        element("tbody", *lines),
        class_=" ".join(name for name, asked in (("sortable", sortable), ("compared", compared)) if asked) or None,
    )
    return scrolled(whole, label=caption)


def scrolled(content: Html, *, label: str) -> Html:
    """Something that may be wider than the page, which keys can scroll too."""
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def cards(rows: Iterable[tuple[str, str, str]]) -> Html:
    """Numbers that are printed large: of each its name, the number, and a word below it."""
    found = (
        element("div", element("dt", name), element("dd", number), element("dd", more)) for name, number, more in rows
    )
    return element("dl", *found, class_="cards")


def all_images(rows: Sequence[Mapping[str, Any]], more: int, *, caption: str, compared: bool = False) -> list[Html]:
    """A table of images that can be sorted; ``more`` of them have no room in it."""
    whole = element("div", table(rows, caption=caption, sortable=True, compared=compared), class_="long")
    return [whole, *([remark(f"{more:,} more are in per_image.csv.")] if more else [])]


def drawn_picture(path: Path, *, alt: str) -> Html:
    """A chart that lies beside the page as a picture."""
    shown = scrolled(picture(read_image(path), alt=alt, limit=CHART_BYTES), label=alt)
    return element("figure", shown, class_="drawn")


def picture(rgb: np.ndarray, *, alt: str, limit: int = PICTURE_BYTES) -> Html:
    """A picture (H, W, 3) uint8 inside the page, as WebP of at most ``limit`` bytes."""
    from PIL import Image

    for quality in _QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, format="WEBP", quality=quality)
        if buffer.tell() <= limit:
            break
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = rgb.shape[:2]
    return element("img", src=f"data:image/webp;base64,{data}", alt=alt, width=str(width), height=str(height))


def page(title: str, summary: str, sections: Sequence[Part]) -> str:
    """The whole file.

    Args:
        summary: a sentence under the title.
        sections: its parts, which links at the top lead to.
    """
    assets = files("simclrseg.evaluation")
    style, script = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # nothing but this page's own script runs and nothing is fetched, whatever a file is called
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    )
    links = (element("li", element("a", name, href=f"#{identifier}")) for identifier, name, _ in sections)
    body = element(
        "body",
        element("a", "To the results", href="#results", class_="skip"),
        element("header", element("h1", title), element("p", summary)),
        element("nav", element("ul", *links), aria_label="Parts of this report"),
        element("main", *(markup for _, _, markup in sections), id="results", tabindex="-1"),
        element("p", class_="status", role="status", aria_live="polite", id="status"),
        element("script", Html(script)),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'
