"""Large pictures in overlapping tiles, blended by a Gaussian, in strips that are final. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simclrseg.inference.masks import Predict

SIGMA = 1 / 8
"""Standard deviation of a tile's weight, in sides of the tile (Isensee et al. 2021, nnU-Net)."""


def predict_tiles(
    predict: Predict, image: np.ndarray, tile: int, overlap: float, *, batch_size: int = 1
) -> Iterator[tuple[int, np.ndarray]]:
    """Probabilities of a picture, strip by strip from top to bottom.

    Tiles lie on a grid that is spread evenly to the picture's edges. Where they overlap, their probabilities are
    averaged, with a Gaussian weight that makes a tile's middle count most. Only one row of tiles is in memory.

    Args:
        image: (H, W, bands).
        tile: side of a tile in pixels; the picture's own where that is less.
        overlap: share of a tile that its neighbour covers too, at least; in [0, 1).
        batch_size: tiles given to ``predict`` together; all have one size.

    Yields:
        Number of rows above, and the probabilities (h, W) or (C, h, W) float32 of the next rows.
    """
    height, width = image.shape[:2]
    rows, columns = min(tile, height), min(tile, width)
    tops, lefts = tile_starts(height, rows, overlap), tile_starts(width, columns, overlap)
    # the grid is a product of two lines, and so is the sum of all weights: each line is normalised by itself
    vertical, horizontal = _shares(tops, rows, height), _shares(lefts, columns, width)
    total: np.ndarray | None = None
    for number, top in enumerate(tops):
        for first in range(0, len(lefts), batch_size):
            places = lefts[first : first + batch_size]
            found = predict(np.stack([image[top : top + rows, left : left + columns] for left in places]))
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
    weight = np.exp(-0.5 * ((np.arange(tile) - (tile - 1) / 2) / (SIGMA * tile)) ** 2)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += weight
    return [(weight / total[start : start + tile]).astype(np.float32) for start in starts]
