"""COCO's run lengths say what the mask is."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.labels.rle import encode_rle
from tests.labels.run_lengths import decoded


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


def test_blocks_of_columns_join_without_a_seam():
    mask = np.zeros((4096, 4106), bool)  # more than the 16,777,216 pixels that are looked at together
    mask[:, 4086:] = np.random.default_rng(1).random((4096, 20)) < 0.5
    np.testing.assert_array_equal(decoded(encode_rle(mask), mask.shape), mask)
