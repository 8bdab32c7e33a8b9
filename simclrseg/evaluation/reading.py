"""Reading pictures ahead of the network that scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.errors import DataError, ImageError
from simclrseg.images import resize_image


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


def read_photos(
    dataset: Dataset, indices: Sequence[int], *, image_size: int, batch_size: int, workers: int, skipped: list[str]
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Batches of those photos that can be read, with their indices.

    Args:
        image_size: side S to which they are squashed.
        skipped: gets the reason for each that cannot be read.

    Yields:
        Indices, and (N, S, S, bands) of the dataset's type, N at least 1.

    Raises:
        DataError: at the end, if none could be read.
    """

    def load(index: int) -> np.ndarray | str:
        try:
            return resize_image(dataset.image(index), (image_size, image_size))
        except ImageError as error:
            return str(error)

    some = False
    with ThreadPoolExecutor(workers) as pool:
        for chunk, loaded in read_ahead(pool, load, indices, batch_size):
            read = [(index, item) for index, item in zip(chunk, loaded, strict=True) if not isinstance(item, str)]
            skipped += [item for item in loaded if isinstance(item, str)]
            if read:
                some = True
                yield tuple(index for index, _ in read), np.stack([photo for _, photo in read])
    if not some:
        raise DataError(f"{dataset.name}: none of the {len(indices)} photos could be read")
