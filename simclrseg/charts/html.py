"""Elements of a web page, whose text is always escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence


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
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(value)}"')
    return Html(f"<{' '.join(parts)}>{joined(content)}" + ("" if name in ("img", "meta") else f"</{name}>"))


def joined(parts: Sequence[str]) -> Html:
    """Markup as it is and text escaped, one after the other."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))
