"""Objects by their outlines: drawn into a mask, and traced from one. The one rasteriser of all label formats.

A point is (x, y) in pixels from the image's upper left corner, as in COCO: the pixel of column i and row j is the
square from (i, j) to (i + 1, j + 1). It belongs to a polygon if its centre lies inside, by the even-odd rule. Pillow,
OpenCV and pycocotools agree but for pixels on the edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.images.limits import MAX_PIXELS
from simclrseg.labels.rle import decode_rle

Ring = NDArray[np.float64]
"""(N, 2) corners of a polygon, x and y in pixels; the last is joined to the first."""

_EXACT, _COARSE = 1 / 3, 0.7
"""Pixels by which an outline may leave the middles of the pixels' sides. These lie 0.35 and more from the pixels'
centres: with the first, what is traced and drawn again is the same mask. The second changes pixels on the edge, and
needs a quarter of the points."""
_KEPT = 1 << 26  # bytes of objects that are not drawn a second time
_AT_ONCE = 1 << 20  # crossings of an outline and a column of pixels that are looked at together
_LONGEST = 1 << 24  # pixels from left to right and back that an outline may go in any image
_FARTHEST = 1e9  # pixels
_THIN = 15  # times the tolerance that an object is wide on average, to be traced with it


@dataclass(frozen=True)
class Region:
    """Pixels of an image: those that are True in (h, w), whose upper left pixel is at (top, left) of the image."""

    top: int
    left: int
    pixels: NDArray[np.bool_]


@dataclass(frozen=True)
class Runs:
    """Pixels as COCO's run lengths, for an image of ``size``, (height, width)."""

    size: tuple[int, int]
    counts: str | Sequence[int]


@dataclass(frozen=True)
class Object:
    """Something in an image: the id of its class, and where it is, in parts of which none is a hole in another."""

    label: int
    parts: tuple[Ring | Runs | Region, ...]


def draw(objects: Iterable[Object], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Class ids (H, W) of objects on background 0: where they overlap, the smaller is on top, or else the later.

    Raises:
        ValueError: for run lengths that do not fit the image, an outline without end, and an image of too many pixels.
    """
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{size[1]} x {size[0]} pixels, more than the {MAX_PIXELS:,} allowed")
    mask = np.zeros(size, np.uint8)
    kept, drawn = 0, []
    for one in objects:
        region = _region(one.parts, size)
        area, kept = np.count_nonzero(region.pixels), kept + region.pixels.nbytes
        drawn.append((area, one, region if kept < _KEPT else None))
    for _, one, held in sorted(drawn, key=lambda each: -each[0]):
        region = held or _region(one.parts, size)
        np.copyto(place(region, mask), np.uint8(one.label), where=region.pixels)
    return mask


def _region(parts: Sequence[Ring | Runs | Region], size: tuple[int, int]) -> Region:
    if len(parts) > 1:
        whole = np.zeros(size, bool)
        for region in (_region([part], size) for part in parts):
            place(region, whole)[...] |= region.pixels
        return Region(0, 0, whole)
    (part,) = parts
    if isinstance(part, Region):  # cut off where it leaves the image
        top, left = max(0, -part.top), max(0, -part.left)
        inside = part.pixels[top : max(0, size[0] - part.top), left : max(0, size[1] - part.left)]
        return Region(part.top + top, part.left + left, inside)
    if isinstance(part, Runs):
        if part.size != size:
            own, other = (f"{width} x {height}" for height, width in (part.size, size))
            raise ValueError(f"its run lengths are for {own} pixels, the photo is {other}")
        return Region(0, 0, decode_rle(part.counts, size))
    _refuse_endless(part, size)
    return fill(part, size)


def _refuse_endless(ring: Ring, size: tuple[int, int]) -> None:
    """Refuse an outline that leads far away, or to and fro so often that filling it takes long."""
    if np.abs(ring).max() > _FARTHEST:
        raise ValueError("a point of it lies outside of any photo")
    columns = ring[:, 0].clip(0, size[1])
    if (length := np.abs(columns - np.roll(columns, 1)).sum()) > max(size[0] * size[1], _LONGEST):
        raise ValueError(f"its outline goes to and fro over {length:,.0f} pixels")


def place(region: Region, image: NDArray[Any]) -> NDArray[Any]:
    """The part of an image that a region's pixels lie on."""
    height, width = region.pixels.shape
    return image[region.top : region.top + height, region.left : region.left + width]


def fill(ring: Ring, size: tuple[int, int]) -> Region:
    """The pixels of an image of ``size``, (height, width), whose centres lie inside a polygon."""
    starts = ring - 0.5  # pixels' centres are at whole numbers now
    ends = np.roll(starts, -1, axis=0)
    # from left to right, so that an edge that is gone there and back crosses a column twice in the very same place
    forward = (starts[:, 0] < ends[:, 0])[:, None]
    from_, to = np.where(forward, starts, ends), np.where(forward, ends, starts)
    first, last = (np.ceil(point[:, 0]).clip(0, size[1]).astype(np.int64) for point in (from_, to))
    count = last - first  # columns whose centres an edge crosses
    crossing = np.flatnonzero(count)
    if not crossing.size:
        return Region(0, 0, np.zeros((0, 0), bool))
    left, right = first[crossing].min(), last[crossing].max()
    above, below = (int(y.clip(0, size[0])) for y in (np.floor(starts[:, 1].min()), np.ceil(starts[:, 1].max())))
    turns = np.zeros((below - above + 2, right - left), np.uint8)
    top, bottom = size[0], 0
    for edges in np.split(crossing, np.flatnonzero(np.diff(np.cumsum(count[crossing]) // _AT_ONCE)) + 1):
        edge = np.repeat(edges, count[edges])
        columns = np.arange(edge.size) + np.repeat(
            first[edges] - (np.cumsum(count[edges]) - count[edges]), count[edges]
        )
        slope = (to[edge, 1] - from_[edge, 1]) / (to[edge, 0] - from_[edge, 0])
        crossings = from_[edge, 1] + (columns - from_[edge, 0]) * slope
        rows = np.ceil(crossings).clip(above, below + 1).astype(np.int64).clip(0, size[0])
        top, bottom = min(top, int(rows.min())), max(bottom, int(rows.max()))
        np.bitwise_xor.at(turns, (rows - above, columns - left), 1)
    inside = np.bitwise_xor.accumulate(turns[top - above : bottom - above], axis=0)
    return Region(top, int(left), inside.view(bool))


def trace(where: NDArray[np.bool_]) -> Iterator[tuple[Ring, list[Ring]]]:
    """The outline of each connected part of a mask, and the outlines of its holes; corners that touch connect.

    Drawn again, small and thin parts are the same, and of others no pixel changes but on their edge.

    Args:
        where: (H, W), True where the object is.
    """
    # goes on beyond the image, whose border is no edge of an object; twice as large, so that a line through the
    # outermost pixels tells on which of a pixel's sides it runs
    doubled = np.repeat(np.repeat(np.pad(where.astype(np.uint8), 1, "edge"), 2, axis=0), 2, axis=1)
    lines, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_cut(_straightened(line) - 1, where.shape).round(2) for line in lines]
    holes: dict[int, list[Ring]] = {}
    for ring, (_, _, _, parent) in zip(rings, tree[0] if rings else (), strict=True):
        holes.setdefault(parent, []).append(ring)
    for number, (ring, (_, _, _, parent)) in enumerate(zip(rings, tree[0] if rings else (), strict=True)):
        if parent < 0:
            yield ring, holes.get(number, [])


def _straightened(line: NDArray[Any]) -> Ring:
    """The polygon of a line around pixels, (N, 1, 2), in a mask twice as large."""
    corners = (line[:, 0] + 1) // 2
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    middles = ((corners + np.roll(corners, -1, axis=0)) / 2).astype(np.float32)
    width = 2 * cv2.contourArea(middles) / cv2.arcLength(middles, closed=True)
    tolerance = min(max(_EXACT, width / _THIN), _COARSE)
    return np.asarray(cv2.approxPolyDP(middles[:, None], tolerance, closed=True)[:, 0], np.float64)


def _cut(ring: Ring, size: tuple[int, ...]) -> Ring:
    """The part of a polygon that lies in an image of ``size``, (height, width) (Sutherland & Hodgman 1974)."""
    for axis, limit, sign in ((0, 0, 1), (0, size[1], -1), (1, 0, 1), (1, size[0], -1)):
        ends = np.roll(ring, -1, axis=0)
        before, after = ((points[:, axis] - limit) * sign for points in (ring, ends))
        crosses = (before < 0) != (after < 0)
        share = np.divide(before, before - after, out=np.zeros(len(ring)), where=crosses)[:, None]
        ring = np.stack([ring, ring + share * (ends - ring)], axis=1)[np.stack([before >= 0, crosses], axis=1)]
    return ring


def keyhole(outline: Ring, holes: Iterable[Ring]) -> Ring:
    """One polygon of an outline and its holes, joined by lines that are gone there and back and so enclose nothing."""
    for hole in holes:
        nearest = int(((outline - hole[0]) ** 2).sum(axis=1).argmin())
        outline = np.concatenate([outline[: nearest + 1], hole, hole[:1], outline[nearest:]])
    return outline
