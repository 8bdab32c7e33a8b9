"""``log.txt`` of a run: what stderr was told, with times, and what ``--quiet`` kept from it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from simclrseg.errors import SimclrsegError

LOGGER = "simclrseg"
LOG_FILE = "log.txt"


def worded(record: logging.LogRecord) -> str:
    """Facts as they are, warnings marked as such."""
    prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
    return prefix + record.getMessage()


class LogFile(logging.Handler):
    """Keeps what is said until there is a file for it: a command speaks before its run has a folder."""

    def __init__(self) -> None:
        super().__init__()
        self._early: list[str] = []
        self._file: TextIO | None = None

    def emit(self, record: logging.LogRecord) -> None:
        moment = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        line = f"{moment}  {worded(record)}\n"
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
            self._file.writelines([f"$ {title}\n", *early])

    def end(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


@contextmanager
def kept(folder: Path, title: str) -> Iterator[None]:
    """Append what the package's loggers say to a run's ``log.txt`` while the block runs, and how it failed.

    Args:
        title: the command.
    """
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
        ours = isinstance(error, SimclrsegError | KeyboardInterrupt)
        text = f"error: {error}" if ours else "".join(traceback.format_exception(error))
        handler.handle(logger.makeRecord(LOGGER, logging.INFO, "", 0, "%s", (text,), None))
        raise
    finally:
        if known is None:
            logger.removeHandler(handler)
        handler.end()
