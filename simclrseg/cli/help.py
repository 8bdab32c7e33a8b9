"""The help of every command: ``--help`` in one panel, ``--help-all`` in one for each section, on 80 columns."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDEST = 100  # columns; longer lines are hard to read
NAMES = 30  # columns for names and values
NARROW = 60  # columns below which there is no room beside the names

SHARED = {
    "--config": "Take values from this preset, YAML file or run folder.",
    "--set": "Set a key of such a file, as training.epochs=5; repeat it for several.",
    "--vary": "Train once for each of these values of a key, as seed=0,1,2; repeat it for all combinations.",
    "--print-config": "Print all keys with their values and what they mean, as a file for --config, and do nothing.",
    "--help-all": "Show all options, in groups, and exit.",
}
"""The options that every command has, ``--vary`` those that train, and their help."""


def render_help(
    usage: str,
    sentence: str,
    params: Iterable[Any],
    *,
    more: str = "",
    commands: Iterable[tuple[str, str]] = (),
    examples: Iterable[str] = (),
    terms: Iterable[tuple[str, str]] = (),
) -> str:
    """Draw a help page.

    Args:
        params: Typer's parameters, each drawn in the panel that it names.
        more: a line about what is left out; all options are in one panel then.
        commands: (name, sentence) of subcommands.
        examples: whole command lines.
        terms: (word, what it means).
    """
    from rich.console import Console, Group
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    width = min(shutil.get_terminal_size().columns, WIDEST)
    panels: dict[str, Table] = {}

    def add(title: str, name: Text, meaning: str, names: int = NAMES) -> None:
        if width < NARROW:
            table = panels.setdefault(title, Table.grid(expand=True))
            table.add_row(name)
            table.add_row(Padding(Text(meaning, overflow="fold"), (0, 0, 0, 2)))
        else:
            panels.setdefault(title, _table(names)).add_row(name, Text(meaning))

    for param in params:
        title = "Arguments" if param.param_type_name == "argument" else "Options"
        if title == "Options" and not more:
            title = param.rich_help_panel or title
        add(title, _names(param), param.help or "")
    for name, help_text in commands:
        add("Commands", Text(name, style="bold cyan"), help_text, names=12)
    for name, meaning in terms:
        add("Metrics", Text(name, style="bold cyan"), meaning, names=16)
    order = sorted(panels, key=lambda title: title != "Arguments")
    blocks: list[RenderableType] = [
        Text.assemble(("Usage: ", "yellow"), usage, "\n\n", sentence, "\n"),
        *(Panel(panels[title], title=title, title_align="left", border_style="dim") for title in order),
    ]
    if more:
        blocks.append(Text(more))
    if examples:
        blocks.append(Text("\nExamples:"))
    for example in examples:  # in lines that a shell takes
        *lines, last = textwrap.wrap(
            example,
            max(1, min(width, 80) - 4),
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        blocks.extend(Text(f"  {line}", style="cyan") for line in [*(f"{line} \\" for line in lines), last])
    page = io.StringIO()
    console = Console(
        file=page,
        width=width,
        force_terminal=sys.stdout.isatty(),
        highlight=False,
        legacy_windows=False,
        safe_box=True,
    )
    console.print(Group(*blocks))
    return page.getvalue().rstrip() + "\n"


def _table(names: int) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=names, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    return table


def _names(param: Any) -> Text:
    """``-d, --dataset <text>``; an option and its opposite are ``--[no-]strict``."""
    from rich.text import Text

    if param.param_type_name == "argument":
        return Text(param.metavar, style="bold cyan", overflow="fold")
    names = sorted(param.opts, key=len)
    if param.secondary_opts:
        names = [name.replace("--", "--[no-]", 1) if name.startswith("--") else name for name in names]
    text = Text(", ".join(names), style="bold cyan", overflow="fold")
    if param.metavar:
        text.append("\n  " if len(text) + len(param.metavar) >= NAMES else " ")
        text.append(param.metavar, style="yellow")
    return text
