"""Reading pictures ahead of the network that scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor


def read_ahead(
    pool: ThreadPoolExecutor, load: Callable[[int], object], indices: Sequence[int], batch_size: int
) -> Iterator[tuple[tuple[int, ...], list]]:
    """Batches of loaded images; the next one is being read while the caller works on this one."""
    waiting: tuple[tuple[int, ...], list] | None = None
    for start in range(0, len(indices), batch_size):
        chunk = tuple(indices[start : start + batch_size])
        coming = (chunk, [pool.submit(load, index) for index in chunk])
        if waiting is not None:
            yield waiting[0], [future.result() for future in waiting[1]]
        waiting = coming
    if waiting is not None:
        yield waiting[0], [future.result() for future in waiting[1]]
