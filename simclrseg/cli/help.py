"""The ``--help`` of every command: one panel for each section, and what fits on 80 columns."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDEST = 100  # columns; longer lines are hard to read
NAMES = 30  # columns for names and values


def render_help(
    usage: str,
    sentence: str,
    params: Iterable[Any],
    *,
    commands: Iterable[tuple[str, str]] = (),
    examples: Iterable[str] = (),
    terms: Iterable[tuple[str, str]] = (),
) -> str:
    """Draw a help page.

    Args:
        params: Typer's parameters; each is drawn in the panel that it names.
        commands: (name, sentence) of subcommands.
        examples: whole command lines.
        terms: (word, what it means).
    """
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.text import Text

    panels: dict[str, Table] = {}
    for param in params:
        title = "Arguments" if param.param_type_name == "argument" else param.rich_help_panel or "Options"
        panels.setdefault(title, _table()).add_row(_names(param), Text(param.help or ""))
    for name, help_text in commands:
        panels.setdefault("Commands", _table(names=12)).add_row(Text(name, style="bold cyan"), Text(help_text))
    for name, meaning in terms:
        panels.setdefault("Metrics", _table(names=16)).add_row(Text(name, style="bold cyan"), Text(meaning))
    order = sorted(panels, key=lambda title: title != "Arguments")
    blocks: list[RenderableType] = [
        Text.assemble(("Usage: ", "yellow"), usage, "\n\n", sentence, "\n"),
        *(Panel(panels[title], title=title, title_align="left", border_style="dim") for title in order),
    ]
    if examples:
        blocks.append(Text("\nExamples:"))
        blocks.extend(Text(f"  {example}", style="cyan", no_wrap=True, overflow="ignore") for example in examples)
    page = io.StringIO()
    console = Console(
        file=page,
        width=min(shutil.get_terminal_size().columns, WIDEST),
        force_terminal=sys.stdout.isatty(),
        highlight=False,
        legacy_windows=False,
        safe_box=True,
    )
    console.print(Group(*blocks))
    return page.getvalue().rstrip() + "\n"


def _table(names: int = NAMES) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=names, overflow="fold")
    table.add_column(ratio=1)
    return table


def _names(param: Any) -> Text:
    """``-d, --dataset <text>``; an option and its opposite are ``--[no-]strict``."""
    from rich.text import Text

    if param.param_type_name == "argument":
        return Text(param.metavar, style="bold cyan")
    names = sorted(param.opts, key=len)
    if param.secondary_opts:
        names = [name.replace("--", "--[no-]", 1) if name.startswith("--") else name for name in names]
    text = Text(", ".join(names), style="bold cyan")
    if param.metavar:
        text.append("\n  " if len(text) + len(param.metavar) >= NAMES else " ")
        text.append(param.metavar, style="yellow")
    return text
