"""Reading pictures ahead of the network that scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import TypeVar

import numpy as np

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.errors import DataError, ImageError
from simclrseg.images.framing import Framing, Window
from simclrseg.images.resizing import resize_mask
from simclrseg.inference.tiling import tile_starts

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
        raise none_read(dataset, len(indices), skipped)


def none_read(dataset: Dataset, images: int, skipped: Sequence[str]) -> DataError:
    """The error where none of so many images could be read, for these reasons."""
    reason = f"; the first: {skipped[0]}" if skipped else ""
    return DataError(f"{dataset.name}: none of the {images} photos could be read{reason}")


@dataclass(frozen=True, eq=False)
class Frame:
    """What a network sees of an image at once: all of it, or of tiles one.

    Attributes:
        index: of the image.
        window: what it shows of that.
        image: (S, S, bands), as stored.
        held: (S, S), False in padding, where the image holds nothing, and where an earlier tile lies too.
        total: pixels that are held in all frames of the image.
    """

    index: int
    window: Window
    image: np.ndarray
    held: np.ndarray
    total: int


@dataclass(frozen=True)
class Frames:
    """Some frames, those of an image one after the other; none that holds nothing."""

    each: tuple[Frame, ...]

    @cached_property
    def images(self) -> np.ndarray:
        """(N, S, S, bands)."""
        return np.stack([one.image for one in self.each])

    @cached_property
    def held(self) -> np.ndarray:
        """(N, S, S)."""
        return np.stack([one.held for one in self.each])

    @property
    def shares(self) -> np.ndarray:
        """(N,) parts of what an image holds that each shows; they add up to 1 over all its frames."""
        return np.array([np.count_nonzero(one.held) / one.total for one in self.each])


def read_frames(
    dataset: Dataset, indices: Sequence[int], framing: Framing, *, batch_size: int, workers: int, skipped: list[str]
) -> Iterator[Frames]:
    """All that a network is to see of images, in batches: each image whole, or in tiles that cover it without overlap.

    Images that cannot be read are named in ``skipped``, as are those that hold nothing. Of tiles no more than two
    images are in memory.
    """

    def load(index: int) -> Iterable[Frame]:
        frames = _frames(dataset, index, framing)
        first = next(frames)
        return chain([first], frames if framing.resize == "tile" else [])

    at_once = 1 if framing.resize == "tile" else batch_size
    with ThreadPoolExecutor(workers) as pool:
        read = read_ahead(pool, load, dataset, indices, batch_size=at_once, skipped=skipped)
        each = chain.from_iterable(chain.from_iterable(images for _, images in read))
        while some := tuple(islice(each, batch_size)):
            yield Frames(some)


def _frames(dataset: Dataset, index: int, framing: Framing) -> Iterator[Frame]:
    """The frames of an image; an ImageError at the first, if it cannot be read or holds nothing."""
    image, blank = dataset.image(index), dataset.blank(index)
    empty = None if blank is None else blank.view(np.uint8)
    shape = image.shape[:2]
    total = 0
    if framing.resize == "tile":
        total = shape[0] * shape[1] - (0 if empty is None else int(np.count_nonzero(empty)))
    height, width = framing.inner(shape) if framing.resize == "tile" else shape
    below = 0
    for top in tile_starts(shape[0], height, overlap=0):
        beside = 0
        for left in tile_starts(shape[1], width, overlap=0):
            window = top, left, top + height, left + width
            rows, columns = framing.inner((height, width))
            held = np.zeros(framing.size, bool)
            held[max(0, below - top) : rows, max(0, beside - left) : columns] = True
            if empty is not None:
                held[:rows, :columns] &= (
                    resize_mask(empty[top : top + height, left : left + width], (rows, columns)) == 0
                )
            total = total or int(np.count_nonzero(held))
            if not total:
                path = dataset.path(index)
                name = dataset.keys[index] if path is None else path
                raise ImageError(f"{name}: it holds no values at all", "leave the picture out", path=path)
            if held.any():
                yield Frame(index, window, framing.image(image, window), held, total)
            beside = left + width
        below = top + height


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
