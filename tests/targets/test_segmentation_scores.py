"""Scores are counts of pixels, image by image, at two resolutions."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.errors import DataError, ImageError
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import confusion_matrix, segmentation_metrics
from simclrseg.targets.base import Scoring
from simclrseg.targets.classify import scores as classification
from simclrseg.targets.segment.scores import score


class Halves(Dataset):
    """Photos whose brightness is the truth: 255 in the foreground. The third cannot be read."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__("halves", [f"{i}.png" for i in range(5)], classes=[f"c{i}" for i in range(classes)])

    def mask(self, index):
        mask = np.zeros((40 + index, 60), np.uint8)
        mask[:, : 12 * (index + 1)] = len(self.classes) - 1
        mask[0] = 255
        return mask

    def image(self, index):
        if index == 2:
            raise ImageError("2.png: broken")
        mask = np.where(self.mask(index) == 255, 0, self.mask(index))
        return np.repeat(mask[..., None] * (255 // (len(self.classes) - 1)), 3, axis=2)


def brightness(images):
    return images[..., 0].astype(np.float32) / 255


def described(classes: int = 2, threshold: float | None = 0.5) -> ModelMetadata:
    names = tuple(f"c{number}" for number in range(classes))
    return ModelMetadata(task="segmentation", encoder="cnn", image_size=32, classes=names, threshold=threshold)


def scored(**options):
    return score(brightness, Halves(), range(5), described(), Scoring(**{"batch_size": 2, "workers": 2, **options}))


def test_an_oracle_is_right_but_for_the_edges_that_resizing_blurs():
    metrics = {name: segmentation_metrics(pixels.confusion.sum(0)) for name, pixels in scored().pixels.items()}
    assert metrics["training"]["iou"] > 0.97 and metrics["original"]["iou"] > 0.97


def test_ignored_pixels_count_nowhere():
    original = scored().pixels["original"].confusion
    assert original.sum(axis=(1, 2)).tolist() == [(40 + index - 1) * 60 for index in (0, 1, 3, 4)]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 5}, {"workers": 1}])
def test_batches_and_threads_change_nothing(options):
    expected, other = scored(), scored(**options)
    assert other.keys == expected.keys
    for name, pixels in expected.pixels.items():
        assert (other.pixels[name].confusion == pixels.confusion).all()


def test_a_photo_that_cannot_be_read_is_named_and_left_out():
    scores = scored()
    assert scores.keys == ("0.png", "1.png", "3.png", "4.png") and scores.skipped == ("2.png: broken",)


@pytest.mark.parametrize("indices", [[2], [2, 2, 2]])
def test_photos_none_of_which_can_be_read_are_an_error(indices):
    number = f"none of the {len(indices)} photos could be read; the first: 2.png: broken"
    with pytest.raises(DataError, match=number):
        score(brightness, Halves(), indices, described(), Scoring(workers=1, batch_size=2))
    with pytest.raises(DataError, match=number):
        classification.score(brightness, Halves(), indices, described(), Scoring(workers=1, batch_size=2))


def test_a_score_follows_from_its_confusion_matrix():
    dataset = Halves()
    scores = score(
        lambda images: np.ones(images.shape[:3], np.float32),
        dataset,
        [0],
        described(),
        Scoring(workers=1, batch_size=1),
    )
    mask = dataset.mask(0)
    (counts,) = scores.pixels["original"].confusion
    assert (counts == confusion_matrix(np.ones_like(mask), mask, 2)).all()
    assert segmentation_metrics(counts)["iou"] == pytest.approx(12 / 60)


def test_a_probability_a_class_is_decided_by_the_likeliest():
    def three(images):
        bright = images[..., 0].astype(np.float32) / 255
        return np.stack([1 - bright, np.zeros_like(bright), bright], axis=1)

    scores = score(three, Halves(classes=3), [0, 1], described(3, None), Scoring(workers=1, batch_size=2))
    original = scores.pixels["original"].confusion.sum(0)
    assert np.trace(original) / original.sum() > 0.98 and original[1].sum() == 0 and original[2, 2] > 0


@pytest.mark.parametrize(("probability", "foreground"), [(0.52, True), (0.48, False)])
def test_both_resolutions_decide_at_the_same_threshold(probability, foreground):
    scores = score(
        lambda images: np.full(images.shape[:3], probability, np.float32),
        Halves(),
        [0],
        described(),
        Scoring(workers=1, batch_size=1),
    )
    for pixels in scores.pixels.values():
        assert pixels.confusion[0][:, int(not foreground)].sum() == 0
