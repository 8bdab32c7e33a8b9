"""From a coarse mask to a soft edge: how much of each pixel is foreground, and which colour that has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 512  # pixels of the squares that are worked on, to need little memory
WIDEST = 32  # pixels from the mask's edge
_SOFT = 0.6
"""Range of probabilities, around the middle, that become an edge: what is surer is foreground or background."""
_SMOOTH = 1e-3  # variance of the colours, in [0, 1], below which the photo shows no edge
_PRIOR = 1e-3  # weight of a colour that is known so far, beside those around
_FAR = 8  # times the reach: no pixel further away changes anything
_FINE = 4  # pixels of a reach that are fine enough for what is smooth over it (fast guided filter, He & Sun 2015)


def cut_out(
    rows_of: Callable[[int, int], NDArray[np.uint8]], likely: NDArray[np.uint8], scale: float
) -> Iterator[NDArray[np.uint8]]:
    """A photo with soft transparency around its foreground, without the colours of the old background in its edge.

    The edge is looked for near that of the mask only, about as far as one pixel of the network's picture reaches: there
    the probability follows the photo's own edges (guided filter, He et al. 2010, eq. 19), and the foreground's
    colours are estimated from those around (blur fusion, Forte 2021, alg. 1). Elsewhere the photo stays as it is, and
    is seen or not.

    Args:
        rows_of: gives the photo's rows from one number up to another, (h, W, 3) RGB.
        likely: (H, W) 255 times the probability of the foreground; a pixel is in the mask from 128 on.
        scale: pixels of the photo beside one of those that the network has seen.

    Yields:
        (h, W, 4) the next rows, the last band of which is 255 where the photo is seen.
    """
    reach = min(WIDEST, max(2, round(1.5 * scale)))
    height, width = likely.shape
    for top in range(0, height, SIDE):
        rows = slice(top, min(top + SIDE, height))
        high = _around(rows, height, reach)
        photo = rows_of(high.start, high.stop)
        inside = slice(rows.start - high.start, rows.stop - high.start)
        strip = np.dstack([photo[inside], np.where(likely[rows] > 127, 255, 0).astype(np.uint8)])
        for left in range(0, width, SIDE):
            columns = slice(left, min(left + SIDE, width))
            wide = _around(columns, width, reach)
            mask = likely[high, wide] > 127
            if mask.any() and not mask.all():
                found = _with_edge(photo[:, wide], likely[high, wide], reach)
                strip[:, columns] = found[inside, columns.start - wide.start : columns.stop - wide.start]
        yield strip


def _around(part: slice, length: int, reach: int) -> slice:
    """With what lies around and may matter; it begins where a cell of ``_coarser`` does, whatever the part."""
    cell, margin = _cell(reach), _FAR * reach
    return slice(max(0, part.start - margin) // cell * cell, min(part.stop + margin, length))


def _cell(reach: int) -> int:
    return max(1, reach // _FINE)


def _with_edge(image: NDArray[np.uint8], likely: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """One part (h, w, 4) of a photo, and what lies around it."""
    mask = (likely > 127).astype(np.uint8)
    photo, probability = (np.asarray(values / np.float32(255), np.float32) for values in (image, likely))
    soft = np.where(_near(mask, reach), _stretched(probability), mask).astype(np.float32)
    near = _near(mask, 2 * reach)
    alpha = np.where(near, _stretched(_guided(photo, soft, reach)), mask).astype(np.float32)
    cell = _cell(reach)
    few, some = _coarser(photo, cell), _coarser(alpha, cell)
    fore, back = (_finer(one, alpha.shape, cell) for one in _fused(few, few, few, some, 4 * reach // cell))
    fore, _ = _fused(photo, fore, back, alpha, max(2, reach // 2))
    found = np.dstack([image, (255 * alpha + 0.5).astype(np.uint8)])
    changed = near & (alpha < 1)
    found[:, :, :3][changed] = (255 * fore[changed] + 0.5).clip(0, 255)
    return found


def _near(mask: NDArray[np.uint8], reach: int) -> NDArray[np.bool_]:
    """Pixels that lie so near to the mask's edge."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near: NDArray[np.bool_] = cv2.dilate(mask, square) != cv2.erode(mask, square)
    return near


def _stretched(values: Floats) -> Floats:
    stretched: Floats = ((values - 0.5) / _SOFT + 0.5).clip(0, 1)
    return stretched


def _coarser(values: Floats, cell: int) -> Floats:
    """Means over squares of so many pixels; those at the end go on as in a mirror."""
    below, right = (-length % cell for length in values.shape[:2])
    whole = cv2.copyMakeBorder(values, 0, below, 0, right, cv2.BORDER_REFLECT)
    size = whole.shape[1] // cell, whole.shape[0] // cell
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)


def _finer(values: Floats, size: tuple[int, ...], cell: int) -> Floats:
    """Back to ``size``, (height, width)."""
    whole = cv2.resize(values, (values.shape[1] * cell, values.shape[0] * cell), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole[: size[0], : size[1]], np.float32)


def _blurred(values: Floats, reach: int) -> Floats:
    return np.asarray(cv2.blur(values, (2 * reach + 1, 2 * reach + 1), borderType=cv2.BORDER_REFLECT), np.float32)


def _guided(photo: Floats, values: Floats, reach: int) -> Floats:
    """Values (h, w) made as smooth as the photo (h, w, 3) is: in each square a linear function of its colours."""
    cell = _cell(reach)
    few, some, near = _coarser(photo, cell), _coarser(values, cell), reach // cell
    colours, mean = _blurred(few, near), _blurred(some, near)
    covariance = _blurred(few * some[..., None], near) - colours * mean[..., None]
    products = (few[..., :, None] * few[..., None, :]).reshape(*some.shape, 9)
    spread = _blurred(products, near).reshape(*some.shape, 3, 3) - colours[..., :, None] * colours[..., None, :]
    slope = np.linalg.solve(spread + _SMOOTH * np.eye(3, dtype=np.float32), covariance[..., None])[..., 0]
    offset = mean - (slope * colours).sum(2)
    lines = _finer(_blurred(np.dstack([slope, offset]), near), values.shape, cell)
    guided: Floats = (lines[..., :3] * photo).sum(2) + lines[..., 3]
    return guided


def _fused(photo: Floats, fore: Floats, back: Floats, alpha: Floats, reach: int) -> tuple[Floats, Floats]:
    """Smooth colours of foreground and background, the first such that both together give the photo's.

    Args:
        fore, back: as known so far, which stay where nothing is near.
    """
    share, rest = alpha[..., None], 1 - alpha[..., None]
    fore = (_blurred(fore * share, reach) + _PRIOR * fore) / (_blurred(share, reach)[..., None] + _PRIOR)
    back = (_blurred(back * rest, reach) + _PRIOR * back) / (_blurred(rest, reach)[..., None] + _PRIOR)
    return fore + share * (photo - share * fore - rest * back), back
