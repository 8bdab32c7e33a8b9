"""The one geometry of training, evaluation and prediction: pictures, masks and probabilities in another size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.images.decode import Mask, Pixels

_MOST_CHANNELS = 4  # that most of OpenCV works on at once


def resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Bring (H, W[, C]) to ``size`` = (height, width), aspect not kept: area average down, bilinear up."""
    shrunk = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    if shrunk != image.shape[:2]:  # axis by axis: cv2's INTER_AREA does not average where the other axis grows
        image = _resize(image, shrunk, cv2.INTER_AREA)
    if tuple(size) != shrunk:
        image = _resize(image, size, cv2.INTER_LINEAR)
    return image


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Bring class ids (H, W) to ``size`` = (height, width): the pixel below the centre of each new one."""
    if mask.shape[:2] == tuple(size):
        return mask
    # INTER_NEAREST takes the pixel below the corner, which moves masks by half a pixel against their images
    return _resize(mask, size, cv2.INTER_NEAREST_EXACT)


def resize_part(mask: Mask, shape: Sequence[int], window: tuple[int, int, int, int], size: tuple[int, int]) -> Mask:
    """Bring class ids that lie on a window of an image to ``size``, as ``resize_mask``.

    Args:
        mask: of the whole image, (h, w): of its size, or a coarser one, whose pixels the window need not keep to.
        shape: (height, width, ...) of the image.
        window: top, left, bottom and right, in pixels of the image.
    """
    top, left, bottom, right = window
    if mask.shape == tuple(shape[:2]):
        mask = mask[top:bottom, left:right]
    elif window != (0, 0, *shape[:2]):
        rows = pixels_below(top, bottom, size[0], side=shape[0], own=mask.shape[0])
        columns = pixels_below(left, right, size[1], side=shape[1], own=mask.shape[1])
        part: Mask = mask[rows[:, None], columns]
        return part
    return resize_mask(np.ascontiguousarray(mask), size)


def pixels_below(first: int, last: int, count: int, *, side: int, own: int) -> NDArray[np.intp]:
    """The pixels, of ``own`` on a side, below the centres of ``count`` equal parts of ``first`` to ``last`` of it.

    Args:
        side: what ``first`` and ``last`` are counted in: pixels of an image.
    """
    centres = 2 * first * count + (2 * np.arange(count, dtype=np.int64) + 1) * (last - first)
    return (centres * own // (2 * count * side)).astype(np.intp)


def resize_probability(probability: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bring probabilities (H, W) or (H, W, C) to ``size`` = (height, width), bilinearly."""
    if probability.shape[:2] == tuple(size):
        return probability
    return _resize(np.ascontiguousarray(probability, np.float32), size, cv2.INTER_LINEAR)


def _resize(image: NDArray[Any], size: tuple[int, int], interpolation: int) -> NDArray[Any]:
    """Resize by OpenCV, with any number of channels; the type stays."""
    width_first = tuple(size)[::-1]
    if image.ndim == 2 or image.shape[2] <= _MOST_CHANNELS:
        few = cv2.resize(image, width_first, interpolation=interpolation)
        return few.reshape(*size, *image.shape[2:])  # OpenCV drops a channel that is alone
    resized = np.empty((*size, image.shape[2]), image.dtype)
    for first in range(0, image.shape[2], _MOST_CHANNELS):
        some = slice(first, first + _MOST_CHANNELS)
        group = cv2.resize(np.ascontiguousarray(image[:, :, some]), width_first, interpolation=interpolation)
        resized[:, :, some] = group.reshape(*size, -1)
    return resized
