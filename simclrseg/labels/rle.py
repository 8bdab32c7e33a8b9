"""Masks as run lengths in COCO's compressed form: what pycocotools calls RLE."""

from __future__ import annotations

import numpy as np

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
