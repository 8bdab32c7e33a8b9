"""Large pictures in strips of whole rows, so that no further copy of them is in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

AT_ONCE = 1 << 19  # pixels that are converted together
_BAND = 1 << 26  # bytes that are let go together: more than malloc keeps for itself


def strips_of(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First and last row, the latter not included, of strips of a picture of ``size``, (width, height)."""
    width, height = size
    rows = max(1, AT_ONCE // width)
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def cut(picture: Image.Image, top: int, bottom: int) -> Image.Image:
    """Rows of a picture; itself if they are all."""
    return picture if bottom - top == picture.height else picture.crop((0, top, picture.width, bottom))


def as_array(picture: Image.Image, part: Callable[[Image.Image], Image.Image] = lambda strip: strip) -> NDArray[Any]:
    """The pixels of a loaded picture as Pillow gives them, (H, W[, bands]), or those of what ``part`` makes of rows.

    Pillow would have them in memory three times.
    """
    result: NDArray[Any] | None = None
    for top, bottom in strips_of(picture.size):
        rows = np.asarray(part(cut(picture, top, bottom)))
        if bottom - top == picture.height:
            return rows
        if result is None:
            result = np.empty((picture.height, *rows.shape[1:]), rows.dtype)
        result[top:bottom] = rows
    assert result is not None  # no picture is empty
    return result


def histogram(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of 256 numbers occurs in (H, W): numpy would take eight bytes for each."""
    strips = strips_of((values.shape[1], values.shape[0]))
    counts = np.zeros(256, np.int64)
    for top, bottom in strips:
        counts += np.bincount(values[top:bottom].ravel(), minlength=256)
    return counts


def swap_red_and_blue(values: NDArray[Any]) -> NDArray[Any]:
    """Bring (H, W, 3 or 4) from OpenCV's order of the bands, in place."""
    for top, bottom in strips_of((values.shape[1], values.shape[0])):
        values[top:bottom, :, :3] = values[top:bottom, :, 2::-1].copy()
    return values


class Passing:
    """A picture of which rows are asked for from top to bottom: those above them are let go, and with them memory.

    Args:
        alone: the picture (H, W[, bands]), taken out of this list; where it is held elsewhere too, it stays whole.
    """

    def __init__(self, alone: list[NDArray[Any]]) -> None:
        picture = alone.pop()
        self.shape = picture.shape
        self._bands: deque[NDArray[Any]] = deque()
        self._top = 0  # row of the picture with which they begin
        high = max(1, _BAND // max(1, picture[:1].nbytes))
        while len(picture) > high:
            first = (len(picture) - 1) // high * high
            band = picture[first:].copy()
            try:
                picture.resize((first, *picture.shape[1:]))  # gives back the rows that were copied
            except ValueError:
                break
            self._bands.appendleft(band)
        self._bands.appendleft(picture)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last = rows.start or 0, self.shape[0] if rows.stop is None else rows.stop
        while self._top + len(self._bands[0]) <= first:
            self._top += len(self._bands.popleft())
        parts, top = [], self._top
        for band in self._bands:
            if top < last:
                parts.append(band[max(0, first - top) : last - top])
            top += len(band)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
