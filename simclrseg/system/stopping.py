"""SIGTERM and SIGHUP outside training: they end a command as Ctrl-C does, so that whatever was begun is cleaned up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from simclrseg.errors import Terminated

INTERRUPTED = 128 + signal.SIGINT
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""Signal of a closed terminal; Windows has none."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated in the block when SIGTERM or SIGHUP comes; a second SIGTERM ends the process at once.

    A second SIGHUP does not: a terminal that is closed sends one, and its shell another. Nothing changes outside the
    main thread, where Python allows no handlers, and for a signal that is ignored, as under nohup, or already somebody
    else's.
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
