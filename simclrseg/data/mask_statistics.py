"""How many pixels each class has, counted before the first step, when it is still cheap to find a wrong mask."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.errors import DataError, ImageError
from simclrseg.images.decode import known_shape
from simclrseg.images.framing import window_of_most
from simclrseg.images.limits import room_for
from simclrseg.images.strips import histogram
from simclrseg.metadata import IGNORE
from simclrseg.system.threads import map_in_threads

_MEASURED = 4096  # side of the part of a mask whose objects are measured
_ASPECTS = 0.9, 1.1  # bounds of the ratio between those of an image and its mask, which may be coarser


def count_pixels(
    dataset: Dataset, indices: Sequence[int], *, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the masks of some images once.

    Returns:
        (N, C) pixels by image and class, ignored ones left out; and (N,) CRC-32 of each mask's ids. Zeros where a mask
        cannot be read.

    Raises:
        DataError: for a class id that no class has, or a mask that does not lie on its image; it is named.
    """
    classes = len(dataset.classes)

    def count(index: int) -> tuple[NDArray[np.int64], int]:
        shape = known_shape(dataset.path(index))
        with room_for(shape[0] * shape[1]):
            return count_mask(index, shape)

    def count_mask(index: int, shape: tuple[int, int]) -> tuple[NDArray[np.int64], int]:
        try:
            mask = dataset.mask(index)
        except ImageError:  # named by the loader too
            return np.zeros(classes, np.int64), 0
        if all(shape):
            check_aspects(dataset.keys[index], shape, mask.shape)
        pixels = histogram(mask)
        beyond = np.flatnonzero(pixels[classes:IGNORE]) + classes
        if beyond.size:
            values = ", ".join(map(str, beyond[:8]))
            raise DataError(
                f"{dataset.mask_path(index) or dataset.keys[index]} has values {values}; {dataset.name} has the class "
                f"ids 0 to {classes - 1}, and {IGNORE} for what is ignored",
                "correct the mask",
            )
        return pixels[:classes], zlib.crc32(np.ascontiguousarray(mask).data, mask.shape[1])

    rows = map_in_threads(count, indices, threads=threads, telling="masks")
    sums = np.array([checksum for _, checksum in rows], np.int64)
    return np.array([pixels for pixels, _ in rows], np.int64).reshape(-1, classes), sums


def check_aspects(key: str, image: Sequence[int], mask: Sequence[int]) -> None:
    """Refuse a mask of another shape than its image, (height, width, ...) each: squashing would hide it."""
    low, high = _ASPECTS
    if not low < image[0] / image[1] * mask[1] / mask[0] < high:
        sizes = " and ".join(f"{shape[1]}x{shape[0]}" for shape in (image, mask))
        raise DataError(
            f"{key}: photo and mask are {sizes} pixels, which do not lie on each other: is one of them turned?"
        )


@dataclass(frozen=True)
class ObjectSizes:
    """Square root of the area of objects: half of the foreground is in objects of that size or less, in pixels.

    Attributes:
        own, squashed: in the masks as they are, and in squares.
    """

    own: float
    squashed: float


def object_sizes(dataset: Dataset, indices: Sequence[int], side: int, *, threads: int) -> ObjectSizes | None:
    """Measure the connected objects of those masks that shrink to less than half in squares of a side.

    Sizes are weighed by their area, so that specks, of which masks may have many, do not decide.

    Returns:
        None where there is none.
    """

    def measure(index: int) -> NDArray[np.float64]:
        """(n, 2): area of each object, and how much squashing shrinks its side."""
        try:
            mask = dataset.mask(index)
        except ImageError:
            return np.empty((0, 2))
        scale = side / math.sqrt(mask.size)
        if scale > 1 / 2:
            return np.empty((0, 2))
        top, left, bottom, right = window_of_most(mask, (_MEASURED, _MEASURED))
        part = mask[top:bottom, left:right]
        areas = [np.empty(0)]
        for label in np.flatnonzero(np.bincount(part[::2, ::2].ravel(), minlength=256)[1:IGNORE]) + 1:
            _, _, stats, _ = cv2.connectedComponentsWithStats((part == label).astype(np.uint8))
            areas.append(stats[1:, cv2.CC_STAT_AREA].astype(np.float64))
        found = np.concatenate(areas)
        return np.stack([found, np.full(len(found), scale)], axis=1)

    objects = np.concatenate(map_in_threads(measure, indices, threads=threads) or [np.empty((0, 2))])
    if not len(objects):
        return None
    area, scale = objects.T
    squashed = np.sqrt(area) * scale
    order = np.argsort(squashed, kind="stable")
    middle = order[np.searchsorted(np.cumsum(area[order]), area.sum() / 2)]
    return ObjectSizes(math.sqrt(area[middle]), float(squashed[middle]))


def balancing_weights(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """A weight for each class by median frequency balancing (Eigen & Fergus 2015, §6.3.2).

    A class's frequency is its share of the pixels of those images in which it occurs; its weight is the median of all
    frequencies divided by its own. A class that occurs nowhere has weight 1.

    Args:
        counts: (N, C) pixels by image and class.
    """
    pixels = counts.sum(0)
    around = (counts.sum(1, keepdims=True) * (counts > 0)).sum(0)  # pixels of the images in which it occurs
    occurs = pixels > 0
    frequency = pixels[occurs] / around[occurs]
    weights = np.ones(counts.shape[1])
    weights[occurs] = np.median(frequency) / frequency
    return tuple(weights.tolist())


def scaled_weights(weights: Sequence[float], counts: NDArray[np.int64]) -> tuple[float, ...]:
    """The same weights, scaled so that the average counted pixel has weight 1: the learning rate keeps its meaning."""
    pixels = counts.sum(0)
    mean = float(np.dot(weights, pixels)) / max(1, int(pixels.sum()))
    return tuple(weight / mean for weight in weights) if mean else tuple(weights)
