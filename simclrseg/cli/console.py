"""The one place that prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import io
import logging
import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from simclrseg.system.files import json_text
from simclrseg.system.log_file import LOGGER, LogFile, traced, worded
from simclrseg.text import message, plain_addresses, printable

if TYPE_CHECKING:
    from rich.table import Table

BY_CLASS = "_by_class"  # at the end of the names of groups of numbers whose rows are classes
GONE = (errno.EPIPE, errno.EIO)  # nobody reads any more: the other end of a pipe is closed, or the terminal


PASSING = "passing"
"""Attribute of the records of lines that only the log file keeps."""


class Diagnostics(io.TextIOWrapper):
    """A stderr that ends no command: what nobody takes is lost, as where its reader, its terminal or its disk is gone.

    It is below all that writes there: log lines, progress bars, warnings of libraries.
    """

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except (OSError, RuntimeError):  # the second where a signal's line comes in the middle of another
            return len(text)

    def flush(self) -> None:
        with suppress(OSError, RuntimeError):
            super().flush()


def prepare_streams() -> None:
    """Make sure that nothing stops the output: an old Windows console lacks characters, and streams may be closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):  # the process's own
        sys.stderr = Diagnostics(sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def drop_unwritable() -> None:
    """Lose what stdout still holds where nobody takes it: Python would try once more at the end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_first_process() -> bool:
    """Tell whether this process speaks for all: under torchrun, only rank 0 does."""
    return os.environ.get("RANK", "0") == "0"


class StderrHandler(logging.Handler):
    """Log lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, PASSING, False):
            return
        # looked up each time: a progress bar puts a proxy here that writes above the bar
        print(worded(record), file=sys.stderr, flush=True)  # noqa: T201


_NOTES: dict[str, int] = {}
"""Lines that wait for the next session, and their level: a command line is read before it is known to be quiet."""


def note(text: str, *, level: int = logging.INFO) -> None:
    """Say a line once the command's session has begun."""
    _NOTES[text] = level


@contextmanager
def session(*, quiet: bool) -> Iterator[None]:
    """Show the package's log lines on stderr while a command runs; with ``quiet``, warnings only.

    All are kept for the ``log.txt`` of the run that the command may make.
    """
    logger, data = logging.getLogger(LOGGER), logging.getLogger(f"{LOGGER}.data")
    before = logger.level, data.level, logger.propagate
    handlers: list[logging.Handler] = [StderrHandler(), *([LogFile()] if is_first_process() else [])]
    for handler in handlers:
        logger.addHandler(handler)
    handlers[0].setLevel(logging.WARNING if quiet else logging.INFO)
    logger.setLevel(logging.INFO)
    if not is_first_process():  # the first says what all would say; each knows of its own photos only
        logger.setLevel(logging.ERROR)
        data.setLevel(logging.WARNING)
    logger.propagate = False  # a library that configures the root logger would print every line twice
    notes = dict(_NOTES)
    _NOTES.clear()
    try:
        for line, level in notes.items():
            logger.log(level, line)
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.setLevel(before[0])
        data.setLevel(before[1])
        logger.propagate = before[2]


def is_quiet() -> bool:
    """Tell whether stderr gets no facts, but warnings at most."""
    logger = logging.getLogger(LOGGER)
    heard = [handler.level for handler in logger.handlers if isinstance(handler, StderrHandler)]
    return not logger.isEnabledFor(logging.INFO) or min(heard, default=logging.WARNING) > logging.INFO


def print_error(text: str) -> None:
    """One line on stderr."""
    print(message(text), file=sys.stderr, flush=True)  # noqa: T201


def print_traceback(error: BaseException) -> None:
    """Where an error comes from, on stderr."""
    print(traced(error), file=sys.stderr, flush=True)  # noqa: T201


def print_result(result: Any, *, as_json: bool = False, quiet: bool = False, kept: bool = False) -> None:
    """Print what a command returned: text, lines, or facts and metrics by their names, and last the next command.

    Args:
        as_json: JSON on stdout and nothing else.
        quiet: leave out the next command.
        kept: whether files hold it too, so that it is no failure where nobody reads it.
    """
    if not is_first_process():
        return
    if is_dataclass(result):
        # of results whose JSON is not their fields, and that say less to people
        own = (not as_json and getattr(result, "in_words", None)) or getattr(result, "facts", None)
        result = own() if own else {field.name: getattr(result, field.name) for field in fields(result)}
    try:
        _print(result, as_json=as_json)
        sys.stdout.flush()
    except OSError as error:
        if not kept or error.errno not in GONE:
            raise
        drop_unwritable()
    if not (as_json or quiet) and isinstance(result, Mapping) and (following := result.get("next")):
        print(f"next: {printable(plain_addresses(following))}", file=sys.stderr)  # noqa: T201


def _print(result: Any, *, as_json: bool) -> None:
    if as_json:
        print(plain_addresses(json_text(result, indent=1)), end="")  # noqa: T201
    elif isinstance(result, Mapping):
        _print_mapping(result)
    elif isinstance(result, str):
        print(result)  # noqa: T201
    else:
        for line in result or ():
            print(line)  # noqa: T201


def _print_mapping(result: Mapping[str, Any]) -> None:
    """Facts as lines, numbers as a table, rows as a table.

    The next command is no data, and ``best`` no fact either: the cells (row, column) of ``table`` that are bold.
    """
    facts = {key: value for key, value in result.items() if not isinstance(value, Mapping | list) and key != "next"}
    width = max(map(len, facts), default=0)
    for key, value in facts.items():
        print(f"{printable(key.replace('_', ' ')):<{width}}  {_text(value)}")  # noqa: T201
    columns = dict(_columns({key: value for key, value in result.items() if isinstance(value, Mapping)}))
    by_class = {title: column for title, column in columns.items() if title.endswith(BY_CLASS)}
    numbers = {title: column for title, column in columns.items() if title not in by_class}
    for side_by_side in (numbers, by_class):  # apart, for classes may be called as numbers are
        if side_by_side:
            longest_first = sorted(side_by_side.values(), key=len, reverse=True)
            names = dict.fromkeys(name for column in longest_first for name in column)
            rows = [[name, *(_text(column.get(name, "")) for column in side_by_side.values())] for name in names]
            _print_table(["", *(title.replace("_", " ") for title in side_by_side)], rows)
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            rows = [[_text(cell) for cell in row.values()] for row in value]
            _print_table(list(value[0]), rows, bold=result.get("best", ()) if key == "table" else ())


def _columns(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each group of numbers with its name, from however deep: ``test original`` -> {n, border, iou, …}."""
    groups = {key: value for key, value in tree.items() if isinstance(value, Mapping)}
    values = {key: value for key, value in tree.items() if key not in groups}
    if path and "metrics" in groups:
        values |= groups.pop("metrics")
    if values:
        yield " ".join(path), values
    for key, group in groups.items():
        yield from _columns(group, (*path, key))


def _print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, bold: Collection[tuple[int, str]] = ()
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, title in enumerate(header):
        numbers = all(_is_number(row[place]) for row in rows)
        table.add_column(Text(printable(title)), justify="right" if numbers else "left", overflow="fold")
    for number, row in enumerate(rows):
        cells = zip(header, row, strict=True)
        table.add_row(*(Text(printable(cell), "bold" if (number, title) in bold else "") for title, cell in cells))
    # a table that is read by another program is not to be folded
    width, terminal = (None, True) if sys.stdout.isatty() else (10_000, None)
    text = io.StringIO()  # rich ends the process where stdout has no reader
    Console(file=text, highlight=False, width=width, force_terminal=terminal).print(table)
    for line in text.getvalue().splitlines():
        print(line.rstrip())  # noqa: T201


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in {"", "-"}
    return True


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if not math.isnan(value) else "-"
    return "-" if value is None else printable(plain_addresses(str(value)))
