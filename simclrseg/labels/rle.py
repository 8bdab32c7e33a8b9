"""Masks as run lengths in COCO's compressed form: what pycocotools calls RLE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SPARE = 1000  # run lengths that may be zero
_BLOCK = 1 << 24  # pixels looked at together


def encode_rle(mask: np.ndarray) -> str:
    """Lengths of runs of 0 and 1 in turn, column by column, beginning with 0, in COCO's characters.

    Args:
        mask: (H, W) of False and True.
    """
    height, width = mask.shape
    step = max(1, _BLOCK // height)
    changes, last = [], False
    for left in range(0, width, step):
        column = np.concatenate([[last], mask[:, left : left + step].T.ravel()])
        changes.append(np.flatnonzero(column[1:] != column[:-1]) + left * height)
        last = column[-1]
    ends = np.concatenate([[0], *changes, [height * width]])
    return _to_characters(np.diff(ends))


def _to_characters(lengths: np.ndarray) -> str:
    """From the fourth on each length less the one two before; then 5 bits a character, the lowest first.

    A character's sixth bit says that more follow; the fifth bit of the last one is the sign.
    """
    left = lengths.astype(np.int64)
    left[3:] -= lengths[1:-2]
    columns: list[np.ndarray] = []
    open_ = np.ones(len(left), bool)
    while open_.any():
        low = left & 31
        left >>= 5
        more = np.where(low & 16, left != -1, left != 0)
        columns.append(np.where(open_, low + 32 * more + 48, 0))
        open_ &= more
    text = np.stack(columns, axis=1).astype(np.uint8).ravel()
    return text[text > 0].tobytes().decode("ascii")


def decode_rle(counts: str | Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of run lengths, in COCO's characters or as plain numbers.

    Raises:
        ValueError: if they are no run lengths, or not those of an image of ``size``, (height, width).
    """
    pixels = size[0] * size[1]
    if len(counts) > 2 * pixels + _SPARE:  # each run has a pixel, and as many characters at most
        raise ValueError(f"its {len(counts):,} run lengths are more than {size[1]} x {size[0]} pixels need")
    lengths = _from_characters(counts) if isinstance(counts, str) else np.asarray(counts)
    if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or (lengths < 0).any():
        raise ValueError("its counts are no run lengths")
    if (total := sum(map(int, lengths)) if lengths.max() > pixels else int(lengths.sum())) != pixels:  # no sum wraps
        raise ValueError(f"its run lengths cover {total:,} pixels of {size[1]} x {size[0]} = {pixels:,}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size[1], size[0]).T


def _from_characters(text: str) -> np.ndarray:
    """The inverse of ``_to_characters``."""
    bits = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    last = bits & 32 == 0
    if not bits.size or bits.min() < 0 or bits.max() > 63 or not last[-1]:
        raise ValueError("its counts are no run lengths")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = 5 * (np.arange(len(bits)) - np.repeat(starts, ends - starts + 1))
    if place.max() > 40:
        raise ValueError("its counts are no run lengths")
    lengths = np.add.reduceat((bits & 31) << place, starts)
    lengths -= np.where(bits[ends] & 16, np.left_shift(32, place[ends]), 0)  # the sign
    for start in (1, 2):  # from the fourth on less the one two before
        lengths[start::2] = np.cumsum(lengths[start::2])
    return lengths
