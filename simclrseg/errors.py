"""Errors that a user can cause. The CLI prints each as one line; anything else is a bug.

SimclrsegError          exit 2
├── UsageError          a knob with an impossible value
│   └── UnknownName     a dataset, preset, backbone … that no table holds
├── DataError           images, masks or labels that do not fit
│   └── ImageError      one picture that cannot be read
├── WeightsError        a weights file that cannot be read or does not match
├── ModelFileError      an exported model that cannot be read or is not ours
├── RunError            a run that does not exist, is unfinished or in the way
├── OutputError         a file or folder that cannot be written
├── HubError            a published backbone that cannot be fetched
├── DeviceError         exit 3: the requested device is not there
├── TrainingError       exit 1: training cannot go on (the loss is not finite)
├── OutOfMemory         exit 1: more images at once than the memory holds
├── GateError           exit 1: a check was not met, or some inputs failed
└── Interrupted         exit 129, 130 or 143: stopped by a signal, state saved

Each knows its ``reason``, and what it is about: ``option``, ``path``, ``value`` and ``remedy``, where there is one.

Terminated is no error: the signal itself, which like KeyboardInterrupt no ``except Exception`` holds up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from simclrseg.text import message, printable


class SimclrsegError(Exception):
    """Base of every error caused by input rather than by a bug.

    Args:
        reason: what was given, and why it cannot be.
        remedy: what to do; the message is both, in one line that can be shown (``message``).
        option: the option that it is about, as a keyword: ``data_ratio``.
        path: the file or folder that it is about.
        value: what was given.
    """

    exit_code = 2

    def __init__(
        self,
        reason: str,
        remedy: str = "",
        *,
        option: str | None = None,
        path: Path | str | None = None,
        value: object = None,
    ) -> None:
        join = "; " if ": " in re.sub(r"\([^()]*\)", "", reason) else ": "
        text = f"{reason}{join}{remedy}" if remedy else reason
        for thing in (path, value):
            if isinstance(thing, str | Path) and (name := str(thing)) != printable(name):
                text = text.replace(name, printable(name))
        super().__init__(message(text))
        self.reason, self.remedy, self.option, self.value = reason, remedy, option, value
        self.path = None if path is None else Path(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)  # for each class has arguments of its own


class UsageError(SimclrsegError):
    """A knob or a combination of knobs that cannot work."""


class UnknownName(UsageError):
    """A name that no table holds; the message offers the nearest one."""

    def __init__(self, kind: str, name: str, *, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}", suggestion(name, known), option=kind.replace(" ", "_"), value=name)


class DataError(SimclrsegError):
    """Images, masks or labels that do not fit."""


class ImageError(DataError):
    """One picture that cannot be read. The message names the file and the reason."""


class WeightsError(SimclrsegError):
    """A weights file that cannot be read or does not match the network."""


class ModelFileError(SimclrsegError):
    """An exported model that cannot be read or was not made by this tool."""


class RunError(SimclrsegError):
    """A run that does not exist, is unfinished or in the way."""


class OutputError(SimclrsegError):
    """A file or folder that cannot be written.

    Args:
        cause: the system's, such as "No space left on device".
    """

    def __init__(self, path: str, cause: str, *, remedy: str = "choose another folder") -> None:
        super().__init__(f"{path} cannot be written ({cause})", remedy, path=path)
        self.cause = cause


class HubError(SimclrsegError):
    """A published backbone that cannot be fetched."""


class DeviceError(SimclrsegError):
    """The requested device is not available."""

    exit_code = 3


class TrainingError(SimclrsegError):
    """Training cannot go on; the last good checkpoint stands."""

    exit_code = 1


class OutOfMemory(SimclrsegError):
    """More images at once than the memory holds."""

    exit_code = 1


class GateError(SimclrsegError):
    """A check was not met, or some of the inputs failed."""

    exit_code = 1


class Interrupted(SimclrsegError):
    """Stopped by a signal after the state was saved.

    Args:
        signum: the signal; the exit code is 128 + signum, as shells have it.
    """

    def __init__(self, reason: str, *, signum: int = 2) -> None:
        super().__init__(reason)
        self.signum = signum
        self.exit_code = 128 + signum


class Terminated(BaseException):
    """SIGTERM or SIGHUP came.

    Args:
        signum: which of them.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def _again(kind: type[SimclrsegError], args: tuple[Any, ...], attributes: dict[str, Any]) -> SimclrsegError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


def suggestion(name: str, known: Iterable[str]) -> str:
    """The remedy for a misspelt name: the nearest known one, else all of them."""
    names = list(known)
    close = get_close_matches(name, names, n=1) or get_close_matches(name.lower(), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"


def some(things: Sequence[object], *, shown: int = 5) -> str:
    """The first few of many, for a message of one line."""
    rest = len(things) - shown
    return ", ".join(map(str, things[:shown])) + (f" and {rest:,} more" if rest > 0 else "")
