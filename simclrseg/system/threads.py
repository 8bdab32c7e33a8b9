"""The one map over images: threads, for reading and decoding release Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from simclrseg.system.hardware import cpu_cores

T = TypeVar("T")
U = TypeVar("U")

MOST = 8  # threads where nobody names a number: a disk is not faster with more


def map_in_threads(work: Callable[[T], U], items: Iterable[T], *, threads: int | None = None) -> list[U]:
    """Map work over items in threads, in their order; the first error ends it, and what has not begun is left."""
    with ThreadPoolExecutor(threads or min(MOST, cpu_cores())) as pool:
        try:
            return list(pool.map(work, items))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
