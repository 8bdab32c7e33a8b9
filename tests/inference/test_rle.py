"""COCO's run lengths, against a decoder written from its C source's comments."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.labels import rle
from simclrseg.labels.rle import encode_rle


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


@pytest.mark.parametrize("shape", [(1, 1), (300, 200), (1, 900), (700, 3)])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_run_lengths_say_what_the_mask_is(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    np.testing.assert_array_equal(decoded(encode_rle(mask), shape), mask)


def test_long_runs_and_great_changes_are_kept():
    mask = np.zeros((3000, 2000), bool)
    mask[5:2000, 900:1900] = True
    np.testing.assert_array_equal(decoded(encode_rle(mask), mask.shape), mask)


@pytest.mark.parametrize(
    ("mask", "text"),
    [  # as pycocotools 2.0 encodes them
        (np.zeros((3, 3), bool), "9"),
        (np.ones((3, 3), bool), "09"),
        (np.eye(3, dtype=bool), "013000"),
        (np.arange(100).reshape(10, 10) % 7 == 0, "0160N020N070I020N070I020N020N01"),
    ],
)
def test_the_characters_are_those_of_pycocotools(mask, text):
    assert encode_rle(mask) == text


def test_blocks_of_columns_join_without_a_seam(monkeypatch):
    mask = np.random.default_rng(1).random((20, 40)) < 0.5
    whole = encode_rle(mask)
    monkeypatch.setattr(rle, "_BLOCK", 60)
    assert encode_rle(mask) == whole
