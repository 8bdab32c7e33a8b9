"""Masks of pictures, with a model whose probability is the brightness of a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.errors import DataError
from simclrseg.images import read_image
from simclrseg.inference.masks import predict_mask, probabilities, to_mask
from simclrseg.inference.session import open_model


def halves(height: int, width: int) -> np.ndarray:
    """Dark on the left, bright on the right."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[:, width // 2 :] = 230
    return image


@pytest.mark.parametrize("size", [(16, 16), (40, 64), (7, 300), (1, 1)])
def test_probabilities_have_the_size_of_the_picture(make_model, size):
    probability = probabilities(open_model(make_model()), halves(*size))
    assert probability.shape == size
    assert probability.dtype == np.float32


def test_the_mask_of_a_picture_lies_where_the_model_sees_the_foreground(make_model):
    mask = predict_mask(open_model(make_model()), halves(40, 64))
    assert mask.dtype == np.uint8
    assert (mask[:, :28] == 0).all()
    assert (mask[:, 36:] == 255).all()


def test_several_classes_give_a_map_each_and_a_mask_of_class_ids(make_model):
    model = open_model(make_model(classes=3))
    image = np.zeros((24, 48, 3), np.uint8)
    for band in range(3):
        image[:, 16 * band : 16 * (band + 1), band] = 200
    assert probabilities(model, image).shape == (3, 24, 48)
    mask = predict_mask(model, image)
    assert [int(mask[12, column]) for column in (4, 24, 44)] == [0, 1, 2]


def test_the_threshold_decides_and_can_be_changed(make_model):
    metadata = open_model(make_model()).metadata
    probability = np.array([[0.4, 0.5, 0.6]], np.float32)
    assert to_mask(probability, metadata.threshold).tolist() == [[0, 0, 1]]
    assert to_mask(probability, 0.3).tolist() == [[1, 1, 1]]


def test_a_picture_of_other_bands_is_refused(make_model):
    with pytest.raises(DataError, match="4 bands"):
        probabilities(open_model(make_model()), np.zeros((8, 8, 4), np.uint8))


def test_a_real_photo_gets_a_mask_of_its_size(make_model, real_data):
    photo = read_image(sorted((real_data / "cats_vs_dogs" / "cat").iterdir())[0])
    mask = predict_mask(open_model(make_model(image_size=64)), photo)
    assert mask.shape == photo.shape[:2]
    assert 0 < (mask == 255).mean() < 1
