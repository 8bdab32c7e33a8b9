"""Ctrl-C, SIGTERM and a closed terminal: they end a command, but in training are a request, looked at between steps."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from simclrseg.errors import Terminated

log = logging.getLogger(__name__)

INTERRUPTED = 128 + signal.SIGINT
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""Signal of a closed terminal; Windows has none."""


def asking_to_end() -> list[signal.Signals]:
    """SIGINT and SIGTERM, and SIGHUP where it is not ignored, as under nohup."""
    hangup = [] if HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN else [HANGUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """Give signals a handler in the block; nothing changes outside the main thread, where Python allows none."""
    own = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if own}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated in the block when SIGTERM or SIGHUP comes, as Ctrl-C does, so that what was begun is cleaned up.

    A second SIGTERM ends the process at once. A second SIGHUP does not: a terminal that is closed sends one, and its
    shell another. A signal that is ignored, or already somebody else's, stays so.
    """
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            signal.signal(number, signal.SIG_IGN if number == HANGUP else signal.SIG_DFL)
            raise Terminated(number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # a forked process is not ours to clean up

    with handled(end, *(number for number in asking_to_end() if signal.getsignal(number) == signal.SIG_DFL)):
        yield


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let signals end the process at once in the block, in which C++ waits so that no handler of Python's would run."""
    kept = (None, signal.SIG_IGN)  # None is of a handler that Python did not set
    with handled(signal.SIG_DFL, *(number for number in asking_to_end() if signal.getsignal(number) not in kept)):
        yield


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

    SIGHUP is a request too. It often comes twice, from the terminal and from its shell, so that no second one is
    different; torchrun makes a SIGTERM of the second.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in asking_to_end()}

    def note(number: int, frame: FrameType | None) -> None:
        again = ""
        if number != HANGUP:
            for either in (signal.SIGINT, signal.SIGTERM):
                signal.signal(either, before[either])
            again = "; once more stops at once and saves nothing"
        if request.signum is None and os.environ.get("RANK", "0") == "0":  # the first process says what all would say
            log.warning(f"stopping after this step, then saving{again}")
        request.signum = request.signum or number

    with handled(note, *before):
        yield request
