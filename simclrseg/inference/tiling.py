"""Probabilities of pictures, whole or in tiles, in strips of rows, and the masks they give. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from simclrseg.images.framing import padded
from simclrseg.images.resizing import resize_probability


class Rows(Protocol):
    """A picture whose rows are read as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice) -> np.ndarray: ...


Predict = Callable[[np.ndarray], np.ndarray]
"""Pictures (N, H, W, bands) -> float32 probabilities.

(N, H, W) of the foreground, (N, C, H, W) of each class, or (N, K) of whole pictures.
"""

OVERLAP = 0.5
"""Share of a tile that its neighbour covers too, where nothing else is said."""
STRIP = 1 << 20  # values in memory at once, of a large picture
_SIGMA = 1 / 8
"""Standard deviation of a tile's weight, in sides of the tile (Isensee et al. 2021, nnU-Net)."""


def mirrored(predict: Predict) -> Predict:
    """Take the mean of a prediction and that of the mirror image, the one change that training knows too."""

    def both(batch: np.ndarray) -> np.ndarray:
        there, back = predict(batch), predict(batch[:, :, ::-1])
        is_map = back.ndim > 2  # else classes of the whole picture
        mean: np.ndarray = (there + (back[..., ::-1] if is_map else back)) / 2
        return mean

    return both


def strips(probability: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Resize as ``to_size`` does, in strips of whole rows where the result is large.

    Yields:
        Number of rows above, and the probabilities of the next rows.
    """
    height, width = size
    classes = 1 if probability.ndim == 2 else len(probability)
    count = max(1, STRIP // (classes * width))
    if count >= height:
        yield 0, to_size(probability, size)
        return
    last = probability.shape[-2] - 1
    for top in range(0, height, count):
        # rows by hand, as OpenCV does it, then columns by OpenCV
        rows = (np.arange(top, min(top + count, height)) + 0.5) * ((last + 1) / height) - 0.5
        above = np.clip(np.floor(rows).astype(int), 0, last)
        share = np.clip(rows - above, 0, 1).astype(np.float32)[:, None]
        below = np.minimum(above + 1, last)
        tall = probability[..., above, :] * (1 - share) + probability[..., below, :] * share
        yield top, to_size(tall, (len(rows), width))


def predict_tiles(
    predict: Predict,
    image: np.ndarray | Rows,
    tile: int,
    overlap: float,
    *,
    batch_size: int = 1,
    fill: Sequence[int] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Probabilities of a picture, strip by strip from top to bottom.

    Tiles lie on a grid that is spread evenly to the picture's edges. Where they overlap, their probabilities are
    averaged, with a Gaussian weight that makes a tile's middle count most. Only one row of tiles is in memory.

    Args:
        image: (H, W, bands), or what has that shape and gives its rows as ``image[first:last]``.
        tile: side of a tile in pixels; the picture's own where that is less.
        overlap: share of a tile that its neighbour covers too, at least; in [0, 1).
        batch_size: tiles given to ``predict`` together; all have one size.
        fill: the stored value of each band that a smaller picture is padded with to a tile, as in training; by default
            the only tile is as small as the picture.

    Yields:
        Number of rows above, and the probabilities (h, W) or (C, h, W) float32 of the next rows.
    """
    if fill is not None and min(image.shape[:2]) < tile:
        own_height, own_width = image.shape[:2]
        whole = padded(image[:own_height], (tile, tile), fill)
        for top, found in predict_tiles(predict, whole, tile, overlap, batch_size=batch_size):
            if top < own_height:
                yield top, found[..., : own_height - top, :own_width]
        return
    height, width = image.shape[:2]
    rows, columns = min(tile, height), min(tile, width)
    tops, lefts = tile_starts(height, rows, overlap), tile_starts(width, columns, overlap)
    # the grid is a product of two lines, and so is the sum of all weights: each line is normalised by itself
    vertical, horizontal = _shares(tops, rows, height), _shares(lefts, columns, width)
    total: np.ndarray | None = None
    for number, top in enumerate(tops):
        band = image[top : top + rows]
        for first in range(0, len(lefts), batch_size):
            places = lefts[first : first + batch_size]
            found = predict(np.stack([band[:, left : left + columns] for left in places]))
            if total is None:
                total = np.zeros((*found.shape[1:-2], rows, width), np.float32)
            for left, probability, share in zip(places, found, horizontal[first:], strict=False):
                total[..., left : left + columns] += probability * (vertical[number][:, None] * share)
        assert total is not None  # a picture has a tile
        done = (tops[number + 1] if number + 1 < len(tops) else height) - top
        yield top, total[..., :done, :].clip(0, 1)  # shares add up to 1 but for rounding
        total[..., : rows - done, :] = total[..., done:, :].copy()
        total[..., rows - done :, :] = 0


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side: at 0, at ``length - tile``, and evenly between."""
    step = max(1, int(tile * (1 - overlap)))
    count = -((tile - length) // step) + 1
    return [round(start) for start in np.linspace(0, length - tile, count)]


def _shares(starts: list[int], tile: int, length: int) -> list[np.ndarray]:
    """For each tile, its part of the sum of all weights, along one side."""
    weight = np.exp(-0.5 * ((np.arange(tile) - (tile - 1) / 2) / (_SIGMA * tile)) ** 2)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += weight
    return [(weight / total[start : start + tile]).astype(np.float32) for start in starts]


def to_size(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize probabilities (H, W) or (C, H, W) to ``size``, (height, width), in the same layout."""
    if probability.ndim == 2:
        return resize_probability(probability, size)
    resized = resize_probability(np.ascontiguousarray(probability.transpose(1, 2, 0)), size)
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


def to_mask(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """Class ids (H, W) uint8: 1 where the foreground's probability exceeds the threshold, or the likeliest class.

    Args:
        probability: (H, W) of the foreground, or (C, H, W) of each class.
        threshold: in (0, 1); it has no meaning for several classes.
    """
    if probability.ndim == 3:
        likeliest: np.ndarray = probability.argmax(axis=0)
        return likeliest.astype(np.uint8)
    return (probability > (0.5 if threshold is None else threshold)).astype(np.uint8)
