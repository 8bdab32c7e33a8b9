"""Overlapping tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simclrseg.inference.tiles import predict_tiles, tile_starts


def brightness(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=-1, dtype=np.float32) / 255


def joined(*arguments, **options) -> np.ndarray:
    return np.concatenate([rows for _, rows in predict_tiles(*arguments, **options)], axis=-2)


@pytest.mark.parametrize("size", [(100, 130), (64, 64), (20, 300), (1, 1)])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_tiles_give_what_the_whole_gives_where_pixels_do_not_know_each_other(size, overlap):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    np.testing.assert_allclose(joined(brightness, image, 64, overlap), brightness(image[None])[0], atol=1e-6)


def test_strips_follow_one_another_and_are_final():
    image = np.zeros((100, 50, 3), np.uint8)
    place = 0
    for top, rows in predict_tiles(brightness, image, 32, 0.5):
        assert top == place
        place += rows.shape[0]
    assert place == 100


def test_tiles_are_blended_by_a_gaussian_as_the_definition_says():
    image = np.zeros((32, 80, 3), np.uint8)
    numbers = iter(range(100))  # each tile says its own number

    def numbered(batch: np.ndarray) -> np.ndarray:
        return np.stack([np.full(tile.shape[:2], next(numbers) / 10, np.float32) for tile in batch])

    found = joined(numbered, image, 32, 0.5)
    total, weights = np.zeros(80), np.zeros(80)
    for number, start in enumerate(tile_starts(80, 32, 0.5)):
        for column in range(32):
            weight = np.exp(-(((column - 15.5) / 4) ** 2) / 2)
            total[start + column] += weight * number / 10
            weights[start + column] += weight
    np.testing.assert_allclose(found, np.broadcast_to(total / weights, (32, 80)), atol=1e-5)


def test_several_classes_and_batches_of_tiles_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3)).astype(np.uint8)

    def bands(batch: np.ndarray) -> np.ndarray:
        return batch.transpose(0, 3, 1, 2).astype(np.float32) / 255

    one, four = (joined(bands, image, 64, 0.5, batch_size=size) for size in (1, 4))
    np.testing.assert_array_equal(one, four)
    np.testing.assert_allclose(one, image.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("length", [1, 64, 65, 100, 1000])
@pytest.mark.parametrize("overlap", [0, 0.5, 0.9])
def test_tiles_cover_a_side_and_overlap_at_least_as_asked(length, overlap):
    tile = min(64, length)
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0 and starts[-1] + tile == length
    assert all(0 < b - a <= tile * (1 - overlap) + 1 for a, b in pairwise(starts))
