"""``log.txt`` of a run: what stderr was told, with times, and what ``--quiet`` kept from it."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from simclrseg.errors import SimclrsegError
from simclrseg.text import message, printable, without_secrets

LOGGER = "simclrseg"
LOG_FILE = "log.txt"


def worded(record: logging.LogRecord) -> str:
    """Facts as they are, warnings marked as such, in one line that can be shown."""
    prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
    return prefix + message(record.getMessage())


@contextmanager
def shown_as_ours(library: str) -> Iterator[None]:
    """Show what a library logs on its own, such as addresses and what servers say, as messages of ours are shown."""

    def show(record: logging.LogRecord) -> bool:
        record.msg, record.args = message(record.getMessage()), ()
        return True

    handlers = list(logging.getLogger(library).handlers)
    for handler in handlers:
        handler.addFilter(show)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(show)


def traced(error: BaseException) -> str:
    """The traceback of an error, in lines that can be shown."""
    return "\n".join(map(printable, without_secrets("".join(traceback.format_exception(error))).splitlines()))


class LogFile(logging.Handler):
    """Keeps what is said until there is a file for it: a command speaks before its run has a folder."""

    def __init__(self) -> None:
        super().__init__()
        self._early: list[str] = []
        self._file: TextIO | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._write(record.created, worded(record))

    def end_with(self, error: BaseException) -> None:
        """Say how a run failed."""
        ours = isinstance(error, SimclrsegError | KeyboardInterrupt)
        self._write(time.time(), f"error: {error}" if ours else traced(error))

    def _write(self, moment: float, text: str) -> None:
        line = f"{datetime.fromtimestamp(moment).astimezone().isoformat(timespec='seconds')}  {text}\n"
        if self._file is None:
            self._early.append(line)
            return
        with suppress(OSError):  # a full disk is said where it loses something
            self._file.write(line)

    def open(self, path: Path, title: str) -> None:
        """Append to a file, from now on and what was said before."""
        with suppress(OSError):
            self._file = open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
            early, self._early = self._early, []
            self._file.writelines([f"$ {printable(title)}\n", *early])

    def end(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


@contextmanager
def kept(folder: Path, title: str) -> Iterator[None]:
    """Append what the package's loggers say meanwhile to a run's ``log.txt``, below the command, and how it failed."""
    logger = logging.getLogger(LOGGER)
    # a command has one that has listened from its beginning
    known = next((handler for handler in logger.handlers if isinstance(handler, LogFile)), None)
    handler = known or LogFile()
    if known is None:
        logger.addHandler(handler)
    handler.open(folder / LOG_FILE, title)
    try:
        yield
    except BaseException as error:
        handler.end_with(error)
        raise
    finally:
        if known is None:
            logger.removeHandler(handler)
        handler.end()
