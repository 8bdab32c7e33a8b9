"""Reading pictures ahead of the network that scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.errors import DataError, ImageError
from simclrseg.images.framing import Framing
from simclrseg.images.resizing import resize_mask

Loaded = TypeVar("Loaded")


def read_ahead(
    pool: ThreadPoolExecutor,
    load: Callable[[int], Loaded],
    dataset: Dataset,
    indices: Sequence[int],
    *,
    batch_size: int,
    skipped: list[str],
) -> Iterator[tuple[tuple[int, ...], list[Loaded]]]:
    """Batches of those images that can be read; the next one is being read while the caller works on this one.

    Args:
        load: what is wanted of an image, by its index.
        skipped: gets the reason for each that cannot be read.

    Yields:
        Indices, and what was loaded of each, at least one.

    Raises:
        DataError: at the end, if none could be read.
    """
    some = False
    starts = range(0, len(indices), batch_size)
    batches = ([(i, pool.submit(load, i)) for i in indices[start : start + batch_size]] for start in starts)
    waiting = next(batches, None)
    while waiting is not None:
        coming = next(batches, None)
        read = []
        for index, future in waiting:
            try:
                read.append((index, future.result()))
            except ImageError as error:
                skipped.append(str(error))
        if read:
            some = True
            yield tuple(index for index, _ in read), [item for _, item in read]
        waiting = coming
    if not some:
        reason = f"; the first: {skipped[0]}" if skipped else ""
        raise DataError(f"{dataset.name}: none of the {len(indices)} photos could be read{reason}")


def read_images(
    dataset: Dataset, indices: Sequence[int], framing: Framing, *, batch_size: int, workers: int, skipped: list[str]
) -> Iterator[tuple[tuple[int, ...], np.ndarray, list[tuple[int, int]]]]:
    """The same of images alone, framed and stacked: (N, S, S, bands) of the dataset's type; of tiles the middle one.

    With them comes the height and width of each that is no padding.
    """

    def load(index: int) -> tuple[np.ndarray, tuple[int, int]]:
        image = dataset.image(index)
        return framing.image(image), framing.inner(image.shape)

    with ThreadPoolExecutor(workers) as pool:
        for read, images in read_ahead(pool, load, dataset, indices, batch_size=batch_size, skipped=skipped):
            yield read, np.stack([image for image, _ in images]), [inner for _, inner in images]


def readable_images(
    dataset: Dataset, indices: Sequence[int], framing: Framing
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read the images that can be read, framed, and their masks; none unless all have one.

    Of tiles it is the one that holds the most foreground.
    """
    images, masks = [], []
    masked = all(dataset.has_mask(index) for index in indices)
    for index in indices:
        try:
            mask = dataset.mask(index) if masked else None  # first, for it takes memory twice while it is read
            image = dataset.image(index)
        except ImageError:  # scoring has named it
            continue
        shape = image.shape[:2]
        # of the picture's own size, where a window is sought in it
        marked = resize_mask(mask, shape) if mask is not None and framing.resize == "tile" else None
        window = framing.window(shape, marked)
        images.append(framing.image(image, window))  # at once, for the originals may not fit in memory
        masks += [] if mask is None else [framing.mask(mask, shape, window)]
    return images, masks
