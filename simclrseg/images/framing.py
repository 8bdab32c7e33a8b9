"""Pictures of any shape as squares that a network sees: squashed, padded, or as windows at their own scale; and back.

Padding lies on the right and below. It has the mean colour, which is 0 once pixels are normalised: what exported graphs
pad with, too. Nothing that a network says of it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simclrseg.images.decode import Mask, Pixels
from simclrseg.images.resizing import resize_image, resize_mask
from simclrseg.metadata import IGNORE, ModelMetadata, Resize

Window = tuple[int, int, int, int]
"""Top, left, bottom and right, in pixels."""


@dataclass(frozen=True)
class Framing:
    """How pictures are brought to a network.

    Attributes:
        resize: ``squash`` does not keep the aspect; ``pad`` does, and fills up the shorter side; of ``tile`` a frame is
            a window of the picture at its own scale.
        size: (height, width) of what the network sees.
        fill: the stored value of padding, of each band.
    """

    resize: Resize
    size: tuple[int, int]
    fill: tuple[int, ...]

    @classmethod
    def of(cls, metadata: ModelMetadata, size: tuple[int, int] | None = None) -> Self:
        """That of a model, or of a file of it that takes pictures of one size only."""
        side = metadata.image_size
        return cls(metadata.resize, size or (side, side), padding(metadata.mean, metadata.full_scale))

    def window(self, shape: Sequence[int], marked: Mask | None = None) -> Window:
        """What a frame shows of a picture of (height, width, ...): all of it, but for tiles.

        Args:
            marked: (height, width), of tiles: where most pixels are neither 0 nor ignored; the middle by default.
        """
        if self.resize != "tile":
            return 0, 0, shape[0], shape[1]
        return middle(shape, self.size) if marked is None else window_of_most(marked, self.size)

    def inner(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width that a window of (height, width, ...) has in its frame; all else is padding."""
        if self.resize == "tile":
            return min(shape[0], self.size[0]), min(shape[1], self.size[1])
        return fitted(shape, self.size) if self.resize == "pad" else self.size

    def image(self, image: Pixels, window: Window | None = None) -> Pixels:
        """Bring a picture (H, W, bands), or its usual window, to a frame."""
        top, left, bottom, right = window or self.window(image.shape)
        part = image[top:bottom, left:right]
        part = part.copy() if self.resize == "tile" else part  # which else would keep the whole in memory
        return padded(resize_image(part, self.inner(part.shape)), self.size, self.fill)

    def mask(self, mask: Mask, shape: Sequence[int], window: Window | None = None) -> Mask:
        """Bring the mask of a picture of (height, width, ...) to the same frame; padding is ignored."""
        if self.resize == "tile":
            top, left, bottom, right = window or self.window(shape)
            inner = resize_mask(mask, (shape[0], shape[1]))[top:bottom, left:right].copy()
        else:
            inner = resize_mask(mask, self.inner(shape))
        return padded(inner, self.size, (IGNORE,))

    def cut(self, probability: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """The part of what a network says, (..., height, width), that is about a window of (height, width, ...)."""
        height, width = self.inner(shape)
        part: NDArray[Any] = probability[..., :height, :width]
        return part


def padding(mean: Sequence[float], full_scale: int) -> tuple[int, ...]:
    """The stored value of each band that is nearest to the mean."""
    return tuple(min(max(round(value * full_scale), 0), full_scale) for value in mean)


def fitted(shape: Sequence[int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) within ``size`` that has the aspect of (height, width, ...)."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    height, width = (min(most, max(1, round(scale * side))) for most, side in zip(size, shape, strict=False))
    return height, width


def padded(pixels: NDArray[Any], size: tuple[int, int], fill: Sequence[int]) -> NDArray[Any]:
    """Fill up (H, W[, bands]) on the right and below to at least (height, width); itself where nothing is missing."""
    height, width = (max(own, least) for own, least in zip(pixels.shape, size, strict=False))
    if (height, width) == pixels.shape[:2]:
        return pixels
    whole = np.empty((height, width, *pixels.shape[2:]), pixels.dtype)
    whole[...] = np.asarray(fill, pixels.dtype) if pixels.ndim == 3 else fill[0]
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole


def window_of_most(marked: Mask, size: tuple[int, int]) -> Window:
    """The window of (height, width) that holds about the most pixels of (H, W) that are neither 0 nor ignored.

    It is sought in steps of half a window, and is as large as the picture where that is smaller; without such pixels it
    is the middle.
    """
    steps = [max(1, side // 2) for side in size]
    bands = (marked[top : top + steps[0]] for top in range(0, marked.shape[0], steps[0]))
    rows = np.stack([((band != 0) & (band != IGNORE)).sum(axis=0) for band in bands])
    blocks = np.add.reduceat(rows, np.arange(0, marked.shape[1], steps[1]), axis=1)
    sums = np.pad(blocks, ((0, 1), (0, 1)))
    sums = sums[:-1, :-1] + sums[1:, :-1] + sums[:-1, 1:] + sums[1:, 1:]
    if not sums.any():
        return middle(marked.shape, size)
    down, right = np.unravel_index(sums.argmax(), sums.shape)
    return window_at((int(down) * steps[0], int(right) * steps[1]), size, marked.shape)


def middle(shape: Sequence[int], size: Sequence[int]) -> Window:
    """The window of (height, width) in the middle of a picture of ``shape``."""
    return window_at(((shape[0] - size[0]) // 2, (shape[1] - size[1]) // 2), size, shape)


def window_at(start: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> Window:
    """The window of (height, width) that begins at (top, left), or as near as a picture of ``shape`` allows."""
    (top, left), (height, width) = (
        [min(max(0, at), max(0, whole - side)) for at, side, whole in zip(start, size, shape, strict=False)],
        [min(side, whole) for side, whole in zip(size, shape, strict=False)],
    )
    return top, left, top + height, left + width
