"""Probabilities and masks of pictures, with a model whose probability is the brightness of a pixel; and tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simclrseg.images.decode import read_image
from simclrseg.inference import tiling
from simclrseg.inference.predictor import Predictor
from simclrseg.inference.session import open_model
from simclrseg.inference.tiling import mirrored, predict_tiles, strips, tile_starts, to_mask, to_size


def halves(height: int, width: int) -> np.ndarray:
    """Dark on the left, bright on the right."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[:, width // 2 :] = 230
    return image


def probabilities(model, image: np.ndarray, **options) -> np.ndarray:
    (found,) = Predictor(model, **options).predict([image])
    return np.concatenate([rows for _, rows in found], axis=-2)


@pytest.mark.parametrize("size", [(16, 16), (40, 64), (7, 300), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"flips": True}])
def test_probabilities_have_the_size_of_the_picture(make_model, size, options):
    probability = probabilities(open_model(make_model()), halves(*size), **options)
    assert probability.shape == size
    assert probability.dtype == np.float32


def test_the_mask_of_a_picture_lies_where_the_model_sees_the_foreground(make_model):
    model = open_model(make_model())
    mask = to_mask(probabilities(model, halves(40, 64)), model.metadata.threshold)
    assert mask.dtype == np.uint8
    assert (mask[:, :28] == 0).all()
    assert (mask[:, 36:] == 1).all()


def test_several_classes_give_a_map_each_and_a_mask_of_class_ids(make_model):
    model = open_model(make_model(classes=3))
    image = np.zeros((24, 48, 3), np.uint8)
    for band in range(3):
        image[:, 16 * band : 16 * (band + 1), band] = 200
    probability = probabilities(model, image)
    assert probability.shape == (3, 24, 48)
    assert [int(to_mask(probability, None)[12, column]) for column in (4, 24, 44)] == [0, 1, 2]


def test_the_threshold_decides_and_can_be_changed(make_model):
    metadata = open_model(make_model()).metadata
    probability = np.array([[0.4, 0.5, 0.6]], np.float32)
    assert to_mask(probability, metadata.threshold).tolist() == [[0, 0, 1]]
    assert to_mask(probability, 0.3).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("shape", [(16, 16), (4, 16, 16)])
@pytest.mark.parametrize("size", [(200, 50), (9, 300), (16, 16), (1, 5)])
def test_strips_of_a_large_picture_are_what_resizing_it_whole_gives(monkeypatch, shape, size):
    probability = np.random.default_rng(0).random(shape, np.float32)
    whole = to_size(probability, size)
    monkeypatch.setattr(tiling, "STRIP", 7 * size[1] * (shape[0] if len(shape) == 3 else 1))
    parts = list(strips(probability, size))
    assert [top for top, _ in parts] == list(range(0, size[0], 7))
    np.testing.assert_allclose(np.concatenate([rows for _, rows in parts], axis=-2), whole, atol=1e-6)


def test_flips_are_the_mean_of_the_picture_and_its_mirror_image():
    ramp = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (4, 8))  # more on the right, whatever it is
    both = mirrored(lambda batch: np.stack([ramp] * len(batch)))
    np.testing.assert_allclose(both(np.zeros((2, 4, 8, 3), np.uint8)), 0.5, atol=1e-6)


def test_flips_leave_the_order_of_classes_alone_where_there_are_as_many_as_columns():
    scores = np.linspace(0, 1, 8, dtype=np.float32)
    both = mirrored(lambda batch: np.stack([scores] * len(batch)))
    np.testing.assert_array_equal(both(np.zeros((2, 4, 8, 3), np.uint8))[1], scores)


def test_flips_change_nothing_for_a_model_that_sees_pixels_alone(make_model):
    model, image = open_model(make_model()), halves(16, 16)
    np.testing.assert_allclose(probabilities(model, image, flips=True), probabilities(model, image), atol=1e-6)


def test_a_real_photo_gets_a_mask_of_its_size(make_model, real_data):
    photo = read_image(sorted((real_data / "cats_vs_dogs" / "cat").iterdir())[0])
    probability = probabilities(open_model(make_model(image_size=64)), photo)
    assert probability.shape == photo.shape[:2]
    assert 0 < to_mask(probability, 0.5).mean() < 1


def brightness(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=-1, dtype=np.float32) / 255


def joined(*arguments, **options) -> np.ndarray:
    return np.concatenate([rows for _, rows in predict_tiles(*arguments, **options)], axis=-2)


@pytest.mark.parametrize("size", [(100, 130), (64, 64), (20, 300), (1, 1)])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_tiles_give_what_the_whole_gives_where_pixels_do_not_know_each_other(size, overlap):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    np.testing.assert_allclose(joined(brightness, image, 64, overlap), brightness(image[None])[0], atol=1e-6)


@pytest.mark.parametrize("size", [(20, 100), (100, 20), (9, 9)])
def test_a_picture_that_is_smaller_than_a_tile_in_one_way_is_filled_up_and_what_is_said_of_that_cut_off(size):
    image, seen = np.random.default_rng(0).integers(100, 256, (*size, 3)).astype(np.uint8), []

    def predict(batch: np.ndarray) -> np.ndarray:
        seen.extend(batch)
        return brightness(batch)

    np.testing.assert_allclose(joined(predict, image, 32, 0.5, fill=(7, 8, 9)), brightness(image[None])[0], atol=1e-6)
    assert {tile.shape for tile in seen} == {(32, 32, 3)}
    assert all(tile[31, 31].tolist() == [7, 8, 9] for tile in seen)


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
