"""How training cuts samples out of images: squashed whole, padded whole, or as crops at the image's own scale.

Each of these gives a view of an image, and of its mask, from random numbers alone, and writes it to a square. In
evaluation ``images/framing.py`` does the same to whole images.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simclrseg.data.augment import GRID, VIEW_COLUMNS, Strengths, sample_view
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.mask_statistics import check_aspects
from simclrseg.data.rendering import Square, render_pair, render_part
from simclrseg.errors import ImageError
from simclrseg.images.bands import colour_bands
from simclrseg.images.decode import image_shape
from simclrseg.images.framing import Framing, Window, fitted, window_at
from simclrseg.images.resizing import pixels_below, resize_mask, resize_part
from simclrseg.system.threads import map_in_threads

CROPS = 2_048
"""Crops of an epoch, at most, unless there are more images."""
FOREGROUND = 0.5
"""Share of the crops that lie around foreground."""
ZOOM = 2.0
"""Area of a crop that changes its scale, at most, as a multiple of the square's; at least its inverse.

Scale jitter stays, for objects of one kind differ, but on both sides of the image's own scale, at which tiles are
predicted: crops that only enlarge, as of a squashed image, would train for larger objects than are met.
"""
_BAND = 64  # rows whose pixels of a class are counted together


class Cutting(ABC):
    """A way from an image to a sample.

    Attributes:
        columns: random numbers of a view.
        pads: whether a sample may hold padding.
    """

    columns = VIEW_COLUMNS
    pads = True

    @abstractmethod
    def write(self, dataset: Dataset, index: int, u: np.ndarray, strengths: Strengths, out: Square) -> Window:
        """Write a view of an image of the dataset, and of its mask where there is a place for it.

        Args:
            u: (columns,) random numbers in [0, 1).

        Returns:
            The window of the square that is no padding.
        """


def _read(dataset: Dataset, index: int, out: Square) -> tuple[np.ndarray, np.ndarray | None]:
    """An image, and its mask, which lies on it, where there is a place for that."""
    image = dataset.image(index)
    if out.mask is None:
        return image, None
    mask = dataset.mask(index)
    check_aspects(dataset.keys[index], image.shape, mask.shape)
    return image, mask


class Squashing(Cutting):
    """The whole image, or a crop of its shape, whose aspect is not kept."""

    pads = False

    def write(self, dataset: Dataset, index: int, u: np.ndarray, strengths: Strengths, out: Square) -> Window:
        view = sample_view(u.tolist(), GRID, GRID, strengths)
        image, mask = _read(dataset, index, out)
        render_pair(image, mask, view, out, colour_bands(dataset.bands))
        return 0, 0, *out.image.shape[:2]


@dataclass(frozen=True)
class Padding(Cutting):
    """The whole image with its aspect, padded to a square, or a crop of that square which shows as much as it can.

    Args:
        fill: the stored value of padding, of each band.
    """

    fill: tuple[int, ...]

    def write(self, dataset: Dataset, index: int, u: np.ndarray, strengths: Strengths, out: Square) -> Window:
        image, mask = _read(dataset, index, out)
        longer = max(image.shape[:2])
        content = fitted(image.shape, (GRID, GRID))
        view = sample_view(u.tolist(), GRID, GRID, strengths, content=content)
        parts: list[tuple[int, int, int]] = []  # of the image's sides, in pixels, and of the square's
        for start, extent, side, to in zip(view.box[:2], view.box[2:], image.shape, out.image.shape, strict=False):
            first, last = start * longer // GRID, (start + extent) * longer // GRID
            shown = min(side, max(first + 1, last)) - first
            # a whole side as in evaluation, to the pixel
            wanted = fitted(image.shape, (to, to))[len(parts)] if extent == GRID else to * shown / max(1, last - first)
            parts.append((first, first + shown, min(to, max(1, round(wanted)))))
        (top, bottom, height), (left, right, width) = parts
        crop = image[top:bottom, left:right]
        return render_part(
            np.ascontiguousarray(crop),
            None if mask is None else resize_part(mask, image.shape, (top, left, bottom, right), (height, width)),
            (height, width),
            view,
            out,
            fill=self.fill,
            colours=colour_bands(dataset.bands),
        )


class Cropping(Cutting):
    """Crops at the image's own scale, half of them around foreground where there is a mask.

    Around foreground means that a random pixel of a random class, of those that the mask holds, lies somewhere in the
    crop. Of an image only the rows of a crop are read, and of masks it is counted once where their classes lie.

    Args:
        fill: the stored value of padding, of each band.
        classes: number of classes in the masks.
    """

    columns = VIEW_COLUMNS + 5

    def __init__(self, fill: tuple[int, ...], classes: int) -> None:
        self.fill = fill
        self.classes = classes
        self._shapes: dict[int, tuple[int, int]] = {}
        self._masks: dict[int, _Mask] = {}  # the same whichever thread counts it

    def write(self, dataset: Dataset, index: int, u: np.ndarray, strengths: Strengths, out: Square) -> Window:
        numbers = u.tolist()
        view = sample_view(numbers[:VIEW_COLUMNS], GRID, GRID, strengths)
        size = _crop_size(numbers, out.image.shape[0], strengths)
        if index not in self._shapes:
            self._shapes[index] = dataset.image_shape(index)
        shape = self._shapes[index]
        if out.mask is not None and index not in self._masks:
            self._masks[index] = _Mask.of(dataset, index, shape, self.classes)
        mask = None if out.mask is None else self._masks[index]
        window = _place(shape, size, numbers[VIEW_COLUMNS:], mask)
        top, left, bottom, right = window
        image = dataset.image_rows(index, top, bottom)[:, left:right]
        height, width = (
            min(to, max(1, round(to * shown / side)))
            for to, shown, side in zip(out.image.shape, (bottom - top, right - left), size, strict=False)
        )
        return render_part(
            np.ascontiguousarray(image),
            None if mask is None else resize_mask(np.ascontiguousarray(mask.part(window)), (height, width)),
            (height, width),
            view,
            out,
            fill=self.fill,
            colours=colour_bands(dataset.bands),
        )


@dataclass(frozen=True)
class _Mask:
    """A mask of a dataset, and where its classes lie.

    Attributes:
        image: (height, width) of the image that it lies on.
        shape: its own, which may be coarser.
        counts: by class but the first, of those that occur, the pixels in all bands of rows down to each.
    """

    dataset: Dataset
    index: int
    image: tuple[int, int]
    shape: tuple[int, int]
    counts: tuple[tuple[int, NDArray[np.int64]], ...] = ()

    @classmethod
    def of(cls, dataset: Dataset, index: int, image: tuple[int, int], classes: int) -> Self:
        """Look through a mask once, a few rows at a time where it lies in a store."""
        bare = cls(dataset, index, image, dataset.mask_shape(index))
        bands = [np.bincount(bare._band(top).ravel(), minlength=256) for top in range(0, bare.shape[0], _BAND)]
        sums = np.stack(bands)[:, 1:classes].cumsum(axis=0)  # (bands, classes - 1)
        check_aspects(dataset.keys[index], image, bare.shape)
        return replace(bare, counts=tuple((n + 1, sums[:, n]) for n in np.flatnonzero(sums[-1]).tolist()))

    def _band(self, top: int) -> np.ndarray:
        return self.dataset.mask_rows(self.index, top, min(top + _BAND, self.shape[0]))

    def pixel(self, which: float, number: float) -> tuple[int, int]:
        """A pixel of a class, y and x in the image, by two random numbers."""
        label, sums = self.counts[int(which * len(self.counts))]
        place = int(number * int(sums[-1]))
        band = int(np.searchsorted(sums, place, side="right"))
        before = int(sums[band - 1]) if band else 0
        found = np.flatnonzero(self._band(band * _BAND) == label)[place - before]
        y, x = divmod(int(found), self.shape[1])
        (height, width), (own_height, own_width) = self.image, self.shape
        return int((band * _BAND + y + 0.5) * height / own_height), int((x + 0.5) * width / own_width)

    def part(self, window: Window) -> np.ndarray:
        """What lies on a window of the image, in its pixels."""
        top, left, bottom, right = window
        if self.shape == self.image:
            return self.dataset.mask_rows(self.index, top, bottom)[:, left:right]
        (height, width), (own_height, own_width) = self.image, self.shape
        rows, columns = (  # of the mask: those below the centres of the image's pixels
            pixels_below(first, last, last - first, side=side, own=own)
            for first, last, side, own in ((top, bottom, height, own_height), (left, right, width, own_width))
        )
        part = self.dataset.mask_rows(self.index, int(rows[0]), int(rows[-1]) + 1)
        fine: np.ndarray = part[(rows - rows[0])[:, None], columns]
        return fine


def _place(shape: tuple[int, int], size: tuple[int, int], numbers: Sequence[float], mask: _Mask | None) -> Window:
    """The window of a crop of (height, width) in an image, by five random numbers."""
    kind, which, pixel, down, right = numbers
    if mask is not None and mask.counts and kind < FOREGROUND:
        y, x = mask.pixel(which, pixel)
        return window_at((y - int(down * size[0]), x - int(right * size[1])), size, shape)
    start = int(down * (max(0, shape[0] - size[0]) + 1)), int(right * (max(0, shape[1] - size[1]) + 1))
    return window_at(start, size, shape)


def _crop_size(u: Sequence[float], side: int, strengths: Strengths) -> tuple[int, int]:
    """Height and width of a crop in pixels of the image: the square's own, unless crops are to change the scale."""
    if strengths.crop_scale[0] >= 1:
        return side, side
    low, high = (math.log(ratio) for ratio in strengths.crop_ratio)
    area = side**2 * ZOOM ** (2 * u[0] - 1)
    ratio = math.exp(low + (high - low) * u[1])
    return max(1, round(math.sqrt(area / ratio))), max(1, round(math.sqrt(area * ratio)))


def tiles_of(dataset: Dataset, indices: Sequence[int], side: int) -> NDArray[np.int64]:
    """How many squares cover each image, (N,)."""

    def covering(index: int) -> int:
        path = dataset.path(index)
        try:
            height, width = dataset.image_shape(index) if path is None else image_shape(path)
        except ImageError:  # the loader names it
            return 1
        return math.ceil(height / side) * math.ceil(width / side)

    return np.array(map_in_threads(covering, indices), np.int64)


def crops_of(dataset: Dataset, indices: Sequence[int], side: int) -> list[int]:
    """How often each image comes in an epoch of crops: as often as squares cover it, if that is not too much.

    No image comes more often than a number that is the same for all, which is as large as keeps the epoch at ``CROPS``,
    or at one crop an image.
    """
    needed = tiles_of(dataset, indices, side)
    most = max(CROPS, len(needed))
    low, high = 1, int(needed.max(initial=1))
    while low < high:  # the largest number with which the sum is not above
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(needed, middle).sum() <= most else (low, middle - 1)
    crops: list[int] = np.minimum(needed, low).tolist()
    return crops


def cutting_of(framing: Framing, dataset: Dataset) -> Cutting:
    """The way that training has for what evaluation does."""
    if framing.resize == "squash":
        return Squashing()
    return Padding(framing.fill) if framing.resize == "pad" else Cropping(framing.fill, len(dataset.classes))
