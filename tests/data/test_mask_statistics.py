"""Counting the pixels of masks: what it finds wrong, and the weights that follow from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.mask_statistics import balancing_weights, count_pixels, scaled_weights
from simclrseg.errors import DataError

CLASSES = ("background", "cat", "dog")


def dataset_of(folder: Path, *masks: np.ndarray, size: tuple[int, int] | None = None) -> FileDataset:
    for number, mask in enumerate(masks):
        Image.new("RGB", size or mask.shape[::-1]).save(folder / f"{number}.jpg")
        Image.fromarray(mask).save(folder / f"{number}.png")
    photos = [folder / f"{number}.jpg" for number in range(len(masks))]
    return FileDataset("toy", folder, photos, masks=[photo.with_suffix(".png") for photo in photos], classes=CLASSES)


def test_pixels_are_counted_by_photo_and_class_without_ignored_ones(tmp_path: Path) -> None:
    one = np.array([[0, 1, 1], [2, 255, 255]], np.uint8)
    counts, sums = count_pixels(dataset_of(tmp_path, one, np.zeros((2, 3), np.uint8)), [1, 0], threads=2)
    assert counts.tolist() == [[6, 0, 0], [1, 2, 1]]
    turned, others = count_pixels(dataset_of(tmp_path, one[:, ::-1], np.zeros((2, 3), np.uint8)), [1, 0], threads=2)
    assert turned.tolist() == counts.tolist()
    assert (sums == others).tolist() == [True, False]


def test_a_class_id_out_of_range_is_named_with_its_file(tmp_path: Path) -> None:
    good, bad = np.zeros((2, 3), np.uint8), np.array([[0, 3, 254]], np.uint8)
    with pytest.raises(DataError, match=r"1\.png has values 3, 254; toy has the class ids 0 to 2, and 255"):
        count_pixels(dataset_of(tmp_path, good, bad), [0, 1], threads=1)


def test_a_mask_of_another_shape_than_its_photo_is_named_and_a_coarser_one_is_fine(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    assert count_pixels(dataset_of(tmp_path, mask, size=(60, 40)), [0], threads=1)[0].tolist() == [[600, 0, 0]]
    with pytest.raises(DataError, match=r"0\.jpg: photo and mask are 20x30 and 30x20 pixels"):
        count_pixels(dataset_of(tmp_path, mask, size=(20, 30)), [0], threads=1)


def test_what_cannot_be_read_is_left_to_the_loader(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, *[np.ones((2, 3), np.uint8)] * 3)
    (tmp_path / "0.png").write_text("no picture")
    (tmp_path / "1.jpg").write_text("no picture")
    assert count_pixels(dataset, [0, 1, 2], threads=1)[0].tolist() == [[0, 0, 0], [0, 6, 0], [0, 6, 0]]


def test_balancing_weights_are_those_of_median_frequency_balancing() -> None:
    counts = np.array([[60, 40, 0, 0], [80, 0, 20, 0]])
    frequency = [140 / 200, 40 / 100, 20 / 100]  # share of the pixels of those photos that hold the class
    expected = [np.median(frequency) / value for value in frequency]
    assert balancing_weights(counts) == pytest.approx((*expected, 1.0))


def test_scaled_weights_keep_their_ratios_and_weigh_the_average_pixel_1() -> None:
    counts = np.array([[60, 40], [90, 10]])
    weights = scaled_weights([1.0, 3.0], counts)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert np.dot(weights, counts.sum(0)) / counts.sum() == pytest.approx(1)
