"""Ctrl-C and SIGTERM as a request that training looks at between steps."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from simclrseg import distributed

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
        """Called where the state is consistent, by all processes: they stop at the same place.

        Raises:
            Stop: if a signal has come to one of them.
        """
        if signum := distributed.largest(self.signum or 0):
            raise Stop(signum)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one does what it did before.

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.signum = number
        restore()
        if distributed.is_main():
            log.warning("stopping after this step, then saving; once more stops at once and saves nothing")

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
