"""The one map over images: threads, for reading and decoding release Python's lock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from simclrseg.system.hardware import cpu_cores

log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

SILENT = 2.0  # seconds before it is told how much is done; five times that between later words
MOST = 8  # threads where nobody names a number: a disk is not faster with more


def map_in_threads(
    work: Callable[[T], U], items: Iterable[T], *, threads: int | None = None, telling: str = ""
) -> list[U]:
    """Map work over items in threads, in their order; the first error ends it, and what has not begun is left.

    Args:
        telling: what the items are called; how many are done, and how long it takes, is told where it takes long.
    """
    items = list(items)
    done: list[U] = []
    began = told = time.monotonic()
    with ThreadPoolExecutor(threads or min(MOST, cpu_cores())) as pool:
        try:
            for result in pool.map(work, items):
                done.append(result)
                if telling and (now := time.monotonic()) - told > (SILENT if told == began else 5 * SILENT):
                    left = (now - began) / len(done) * (len(items) - len(done))
                    to_go = f", about {left:.0f} s to go" if len(done) >= MOST else ""  # the first ones tell little
                    log.info(f"{telling} looked at: {len(done):,} of {len(items):,}{to_go}")
                    told = now
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if told > began:
        log.info(f"{len(items):,} {telling} were looked at in {time.monotonic() - began:.0f} s")
    return done
