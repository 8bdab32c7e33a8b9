"""Rectangles cut out of a picture, for a network to paint back: coarse cutout (DeVries & Taylor 2017, many times)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

_BANDS_BEFORE = 1  # random numbers ahead of the rectangles: whole pixels, or bands on their own?


@dataclass(frozen=True)
class Cutout:
    """How much is cut out of a picture.

    Rectangles fall anywhere, also across the edge, so that every pixel is cut with the same probability. Each image
    draws whether whole pixels are cut, or each band on its own: then a band must be painted from what is left of the
    others. Its number of rectangles is fixed, so that what they cover varies by a few per cent.
    """

    share: float = 0.5
    """Expected share of the pixels (of each band) that are cut, in (0, 1)."""
    shortest: int = 2
    """Least side of a rectangle, in pixels; sides are uniform from here to ``longest``."""
    longest: int = 16
    single_band_probability: float = 0.5
    """Share of the images whose bands are cut each on their own."""

    def rectangles(self, size: int) -> int:
        """How many are drawn on a picture of ``size`` x ``size`` for the expected share; at least one.

        One covers a given pixel with probability p = (E[side / (size + side - 1)])², so n leave (1 - p)^n bare.
        """
        sides = np.arange(self.shortest, self.longest + 1)
        p = float(np.mean(sides / (size + sides - 1))) ** 2
        return max(1, round(math.log1p(-self.share) / math.log1p(-p)))

    def columns(self, size: int, bands: int) -> int:
        """Random numbers that one picture takes."""
        return _BANDS_BEFORE + 4 * bands * self.rectangles(size)


def cut(u: np.ndarray, cutout: Cutout, out: np.ndarray) -> None:
    """Mark what is cut out of one picture.

    Args:
        u: (columns,) numbers in [0, 1), as many as ``cutout.columns`` says.
        out: (S, S, bands) bool, overwritten; True where it is cut.
    """
    size, _, bands = out.shape
    boxes = u[_BANDS_BEFORE:].reshape(bands, 4, -1)
    alone = u[0] < cutout.single_band_probability
    planes = [_covered(rectangles(boxes[band], cutout, size), size) for band in range(bands if alone else 1)]
    for band in range(bands):
        out[:, :, band] = planes[band if alone else 0]


def rectangles(u: np.ndarray, cutout: Cutout, size: int) -> np.ndarray:
    """Turn numbers in [0, 1) (4, n) into boxes (4, n): top, left, bottom, right, the last two exclusive."""
    sides = (cutout.shortest + (cutout.longest - cutout.shortest + 1) * u[:2]).astype(np.int32)
    # from where only the last row is inside, to where only the first one is
    starts = ((size + sides - 1) * u[2:]).astype(np.int32) - (sides - 1)
    return np.concatenate([starts.clip(0), (starts + sides).clip(max=size)])


def _covered(boxes: np.ndarray, size: int) -> np.ndarray:
    """(S, S) bool: the union of boxes, in a time that hardly grows with their number.

    Each box adds 1 from its first corner on and takes it back behind its sides; the sums over all pixels above and to
    the left are then how many boxes cover a pixel. They are small whole numbers, exact in float32.
    """
    top, left, bottom, right = boxes
    width = size + 1
    plus = np.concatenate([top * width + left, bottom * width + right])
    minus = np.concatenate([top * width + right, bottom * width + left])
    changes = np.zeros(width * width, np.float32)
    np.add.at(changes, plus, np.float32(1))
    np.add.at(changes, minus, np.float32(-1))
    counts = np.asarray(cv2.integral(changes.reshape(width, width), sdepth=cv2.CV_32F))
    return counts[1:-1, 1:-1] > 0.5
