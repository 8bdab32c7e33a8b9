"""Many images at once: while some are computed, others are read and written. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PIXELS_IN_FLIGHT = 1 << 28
"""Pixels of all images in work together, unless one alone has more."""


def run_all(
    work: Callable[[Sequence[Item]], Result],
    batches: Sequence[Sequence[Item]],
    *,
    threads: int,
    pixels: Callable[[Item], int],
) -> Iterator[tuple[int, Result]]:
    """Do the work of every batch on a pool of threads, in any order.

    Each thread reads, computes and writes its own batch: decoders, encoders and ONNX Runtime all release Python's
    lock, so reading and writing fill the time that computing leaves. Large images wait until there is room for them.

    Args:
        work: must not raise for a bad image; what it raises ends everything, once what has begun is done.
        pixels: of an item, before it is read.

    Yields:
        Number of the batch and what ``work`` returned, as they get ready.
    """
    begun: dict[Future[Result], tuple[int, int]] = {}  # -> number of the batch, and its pixels
    with ThreadPoolExecutor(threads, thread_name_prefix="photos") as pool:
        try:
            for number, batch in enumerate(batches):
                size = sum(map(pixels, batch))
                while begun and (
                    len(begun) >= 2 * threads or size + sum(other for _, other in begun.values()) > PIXELS_IN_FLIGHT
                ):
                    yield from _finished(begun)
                begun[pool.submit(work, batch)] = number, size
            while begun:
                yield from _finished(begun)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _finished(begun: dict[Future[Result], tuple[int, int]]) -> Iterator[tuple[int, Result]]:
    """Wait for at least one batch; what was done comes before what one of them raised."""
    done = wait(begun, return_when=FIRST_COMPLETED).done
    for future in sorted(done, key=lambda future: future.exception() is not None):
        number, _ = begun.pop(future)
        yield number, future.result()
