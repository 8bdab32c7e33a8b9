"""Pictures of any bands as they are shown, and class colours over them, the same wherever masks are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORED = (255, 255, 255)
"""Colour of pixels that have no class."""
_OPACITY = 0.5
_STRETCH = (1, 99)  # percentiles of the values that become black and white
_LOOKED_AT = 1 << 20  # values that these are taken of


def overlay(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], colours: Sequence[tuple[int, int, int]]
) -> NDArray[np.uint8]:
    """Blend class colours over a photo (H, W, 3); class 0 stays bare and ignored pixels are white.

    Args:
        mask: (H, W) class ids, 255 where ignored.
        colours: RGB of each class.
    """
    table = np.full((256, 3), IGNORED, np.uint8)
    table[: len(colours)] = colours
    blended = cv2.addWeighted(image, 1 - _OPACITY, table[mask], _OPACITY, 0)
    return np.where((mask == 0)[:, :, None], image, blended)


def viewable(
    images: NDArray[Any],
    colours: Sequence[int],
    limits: tuple[float, float] | None = None,
    *,
    blank: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Pictures (..., bands) uint8 or uint16 as RGB uint8: photos as they are, others stretched over their own range.

    Args:
        colours: where red, green and blue stand; nothing where there are none, and the first three are shown.
        limits: the values that become black and white, as ``stretch`` gives them.
        blank: (...), True where pixels hold nothing, which stretch nothing.
    """
    if _is_photo(images):
        return images if tuple(colours) in ((), (0, 1, 2)) else np.take(images, colours, axis=-1)
    low, high = limits or stretch(images, colours, blank)
    shown = images[..., _shown(images, colours)].astype(np.float32)
    stretched: NDArray[np.float32] = (shown - low) * (255 / max(high - low, 1))
    return stretched.clip(0, 255).astype(np.uint8)


def stretch(
    images: NDArray[Any], colours: Sequence[int], blank: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """The values of pictures that become black and white: percentiles of pixels that hold something; of photos all."""
    if _is_photo(images):
        return 0.0, 255.0
    every = max(1, images.size // images.shape[-1] // _LOOKED_AT)
    pixels = images.reshape(-1, images.shape[-1])[::every]
    held = pixels if blank is None else pixels[~blank.reshape(-1)[::every]]
    low, high = np.percentile((held if len(held) else pixels)[:, _shown(images, colours)], _STRETCH)
    return float(low), float(high)


def _is_photo(images: NDArray[Any]) -> bool:
    """Tell whether pictures are shown as they are."""
    return images.shape[-1] == 3 and images.dtype == np.uint8


def _shown(images: NDArray[Any], colours: Sequence[int]) -> list[int]:
    return list(colours) or [min(band, images.shape[-1] - 1) for band in range(3)]
