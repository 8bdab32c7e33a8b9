"""COCO's run lengths, read by a decoder written from its C source's comments."""

from __future__ import annotations

import numpy as np


def decoded(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The mask, one character at a time."""
    lengths: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            character = ord(text[place]) - 48
            value |= (character & 31) << shift
            more = bool(character & 32)
            place, shift = place + 1, shift + 5
            if not more and character & 16:
                value |= -1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(shape[1], shape[0]).T
