"""Ctrl-C, SIGTERM and a closed terminal as a request that training looks at between steps."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from simclrseg.system import distributed
from simclrseg.system.stopping import HANGUP

log = logging.getLogger(__name__)


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

    SIGHUP is a request too, but where it is ignored, as under nohup. It often comes twice, from the terminal and from
    its shell, so that no second one is different.

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
        request.signum = request.signum or number
        again = ""
        if number != HANGUP:
            restore(signal.SIGINT, signal.SIGTERM)
            again = "; once more stops at once and saves nothing"
        if distributed.is_main():
            log.warning(f"stopping after this step, then saving{again}")

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore(*before)
