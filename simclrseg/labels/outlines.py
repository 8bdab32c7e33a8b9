"""Exact outlines of the classes in a mask, along the pixels' corners, as maps have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.int64]
"""(N, 2) corners of a polygon, x and y in pixels from the mask's upper left corner; the last is joined to the first."""

_STEPS = {(1, 0): 0, (1, 1): 1, (0, 1): 2, (-1, 1): 3, (-1, 0): 4, (-1, -1): 5, (0, -1): 6, (1, -1): 7}
_STEP_OF = np.zeros((3, 3), np.int64)
for (_x, _y), _step in _STEPS.items():
    _STEP_OF[_y + 1, _x + 1] = _step
_STARTS = np.array([(1, 1), (0, 0), (0, 1), (0, 0), (0, 0), (0, 0), (1, 0), (0, 0)])
"""By a pixel's side, as a step over it: the corner from which an outline with the pixel at its left runs along it."""
_AT_ONCE = 1 << 22  # pixels whose values are summed up together


def _sides() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By the steps by which an outline comes to a pixel and leaves it: the sides that it runs along, and their number.

    Between the pixel that it comes from and the one that it goes to, turning against the clock, no pixel is of the
    object.
    """
    sides, counts = np.zeros((8, 8, 4), np.int64), np.zeros((8, 8), np.int64)
    for before in range(8):
        for after in range(8):
            turn = (before + 4 - after - 1) % 8
            between = [(before + 4 - 1 - number) % 8 for number in range(turn)]
            passed = [side for side in between if side % 2 == 0]
            sides[before, after, : len(passed)], counts[before, after] = passed, len(passed)
    return sides, counts


_SIDES, _COUNTS = _sides()


@dataclass(frozen=True)
class Part:
    """Pixels of one class that hang together by their sides.

    Attributes:
        outline: counter-clockwise as the image is seen; no corner stands twice in it, nor in a hole.
        holes: clockwise.
        area: in pixels.
        mean: of the values that were given, over its pixels.
    """

    label: int
    outline: Corners
    holes: tuple[Corners, ...]
    area: int
    mean: float


def parts_of(mask: NDArray[np.uint8], labels: range, values: NDArray[np.uint8]) -> Iterator[Part]:
    """The parts of each class, in order; where parts or holes touch at a corner they are apart.

    Args:
        mask: (H, W) class ids.
        values: (H, W), such as probabilities, to take the mean of.
    """
    for label in labels:
        where = (mask == label).view(np.uint8)
        count, numbers = cv2.connectedComponents(where, connectivity=4)
        lines, tree = cv2.findContours(where, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        del where
        groups: dict[int, list[Corners]] = {}
        for number, line in enumerate(lines):
            parent = int(tree[0][number][3])
            groups.setdefault(number if parent < 0 else parent, []).append(_around(line[:, 0].astype(np.int64)))
        sums = np.zeros(count)
        for top in range(0, len(mask), step := max(1, _AT_ONCE // mask.shape[1])):
            rows = slice(top, top + step)
            sums += np.bincount(numbers[rows].ravel(), values[rows].ravel(), count)
        for number in sorted(groups):
            for part, (outline, *holes) in _nested(_apart(groups[number]), numbers).items():
                pixels = sum(map(_doubled_area, (outline, *holes))) // 2
                yield Part(label, outline, tuple(holes), pixels, float(sums[part]) / pixels)


def _around(line: Corners) -> Corners:
    """The corners of the sides that an outline of pixels (N, 2), as OpenCV follows it, runs along."""
    if len(line) == 1:
        sides, repeats = np.array([6, 4, 2, 0]), np.array([4])
    else:
        x, y = (_following(line) - line).T
        after = _STEP_OF[y + 1, x + 1]
        before = np.roll(after, 1)
        repeats = _COUNTS[before, after]
        every = _SIDES[before, after]
        sides = every[np.arange(4) < repeats[:, None]]
    return np.asarray(np.repeat(line, repeats, axis=0) + _STARTS[sides], np.int64)


def _apart(rings: list[Corners]) -> list[Corners]:
    """The outlines of what hangs together by its sides, given those of what hangs together by its corners too.

    In no outline stands a corner twice, and none on a straight line.
    """
    if len(rings) == 1 and len(rings[0]) == 4:  # a pixel alone, as of noise most are
        return rings
    bent = [ring[(2 * ring != _following(ring) + np.concatenate([ring[-1:], ring[:-1]])).any(axis=1)] for ring in rings]
    every = np.concatenate(bent)
    keys = every[:, 0] << 32 | every[:, 1]
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if not len(twice):
        return bent
    ends = np.cumsum([len(ring) for ring in bent])
    after = np.arange(1, len(every) + 1)
    after[ends - 1] = ends - [len(ring) for ring in bent]
    one, other = order[twice], order[twice + 1]  # where corners touch, each way goes on along its own pixel
    after[one], after[other] = after[other], after[one]
    found, follows, key_of = list[Corners](), after.tolist(), keys.tolist()
    seen = np.zeros(len(every), bool)
    for start in range(len(every)):
        way = list[int]()
        place = start
        while not seen[place]:
            seen[place] = True
            way.append(place)
            place = follows[place]
        found += [every[loop] for loop in _loops(way, key_of)]
    return found


def _loops(way: list[int], keys: list[int]) -> Iterator[list[int]]:
    """A way around, cut where it comes to a corner again."""
    passed = list[int]()  # whose corners are all different
    place: dict[int, int] = {}
    for one in way:
        if (start := place.get(keys[one])) is None:
            place[keys[one]] = len(passed)
            passed.append(one)
        else:
            yield passed[start:]
            for closed in passed[start + 1 :]:
                del place[keys[closed]]
            del passed[start + 1 :]
    if passed:
        yield passed


def _nested(rings: list[Corners], numbers: NDArray[np.int32]) -> dict[int, list[Corners]]:
    """The outline of each part, by its number in (H, W), and behind it the holes that lie in it."""
    found: dict[int, list[Corners]] = {}
    for ring in sorted(rings, key=lambda ring: _doubled_area(ring) < 0):
        (x, y), (across, down) = ring[0], np.sign(ring[1] - ring[0])  # the part is to the left, as the image is seen
        place = y + min(0, down) - max(0, across), x + min(0, across) - max(0, -down)
        found.setdefault(int(numbers[place]), []).append(ring)
    return found


def _doubled_area(ring: Corners) -> int:
    """Twice the area in pixels, as a whole number; negative for holes."""
    ends = _following(ring)
    return int((ends[:, 0] * ring[:, 1] - ring[:, 0] * ends[:, 1]).sum())


def _following(ring: Corners) -> Corners:
    """To each corner the next one."""
    return np.concatenate([ring[1:], ring[:1]])
