"""Ctrl-C, SIGTERM and a closed terminal: they end a command, but in training are a request, looked at between steps."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from simclrseg.errors import Terminated

log = logging.getLogger(__name__)

INTERRUPTED = 128 + signal.SIGINT
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""Signal of a closed terminal; Windows has none."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated in the block when SIGTERM or SIGHUP comes, as Ctrl-C does, so that what was begun is cleaned up.

    A second SIGTERM ends the process at once. A second SIGHUP does not: a terminal that is closed sends one, and its
    shell another. Nothing changes outside the main thread, where Python allows no handlers, and for a signal that is
    ignored, as under nohup, or already somebody else's.
    """
    own = threading.current_thread() is threading.main_thread()
    numbers = [
        number
        for number in (signal.SIGTERM, HANGUP)
        if own and number is not None and signal.getsignal(number) == signal.SIG_DFL
    ]
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            signal.signal(number, signal.SIG_IGN if number == HANGUP else signal.SIG_DFL)
            raise Terminated(number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # a forked process is not ours to clean up

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let signals end the process at once in the block, in which C++ waits so that no handler of Python's would run.

    Nothing changes for those that are ignored, as SIGHUP under nohup, and outside the main thread.
    """
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop(Exception):
    """Training is to stop here, between two steps."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class StopRequest:
    """The signal that has asked training to stop, if one has."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def check(self) -> None:
        """Raise Stop if a signal has come to one of the processes, which all call this where their state is good."""
        from simclrseg.system import distributed  # with torch, which the command line does without

        if signum := distributed.largest(self.signum or 0):
            raise Stop(signum)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one does what it did before.

    SIGHUP is a request too, but where it is ignored, as under nohup. It often comes twice, from the terminal and from
    its shell, so that no second one is different; torchrun makes a SIGTERM of the second.

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    hangup = () if HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN else (HANGUP,)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, *hangup)}

    def restore(*numbers: int) -> None:
        for number in numbers:
            signal.signal(number, before[number])

    def note(number: int, frame: FrameType | None) -> None:
        again = ""
        if number != HANGUP:
            restore(signal.SIGINT, signal.SIGTERM)
            again = "; once more stops at once and saves nothing"
        if request.signum is None and os.environ.get("RANK", "0") == "0":  # the first process says what all would say
            log.warning(f"stopping after this step, then saving{again}")
        request.signum = request.signum or number

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore(*before)
