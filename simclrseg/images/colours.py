"""Class colours over a photo, the same in every picture that shows masks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORED = (255, 255, 255)
"""Colour of pixels that have no class."""
_OPACITY = 0.5


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
