"""Out-of-distribution scores against their formulas, and their curves against scikit-learn's."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.seen import image_hashes, record
from simclrseg.evaluation.detection import (
    detection,
    energy,
    entropy,
    max_softmax,
    mutual_information,
    pair_logits,
    pair_probabilities,
)
from simclrseg.evaluation.features import Reader
from simclrseg.evaluation.ood import Other, check, measure
from simclrseg.metadata import ModelMetadata
from tests.small import MACHINE

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (40, 5))
PROBABILITIES = softmax(LOGITS, axis=1)


def test_the_sure_prediction_scores_lowest_and_the_even_one_highest() -> None:
    sure, even = np.array([[1.0, 0.0, 0.0, 0.0]]), np.full((1, 4), 0.25)
    assert max_softmax(sure) == 0 and max_softmax(even) == 0.75
    assert entropy(sure) == pytest.approx(0) and entropy(even) == pytest.approx(np.log(4))


def test_energy_is_its_definition() -> None:
    assert energy(LOGITS) == pytest.approx(-logsumexp(LOGITS, axis=1))


def test_scores_work_per_pixel() -> None:
    maps = RNG.normal(0, 2, (3, 4, 6, 7))
    assert entropy(softmax(maps, axis=1)).shape == (3, 6, 7)
    assert energy(maps)[1, 2, 3] == pytest.approx(energy(maps[1, :, 2, 3][None])[0])


def test_one_logit_counts_as_the_pair_of_zero_and_itself() -> None:
    x = RNG.normal(0, 2, (6, 1))
    pair = pair_logits(x)
    assert softmax(pair, axis=1)[:, 1] == pytest.approx(1 / (1 + np.exp(-x[:, 0])))
    probability = 1 / (1 + np.exp(-x[:, 0]))
    assert pair_probabilities(probability, binary=True) == pytest.approx(softmax(pair, axis=1))
    assert pair_logits(LOGITS) is LOGITS


def test_draws_that_agree_have_no_mutual_information() -> None:
    same = np.stack([PROBABILITIES] * 3)
    assert mutual_information(same) == pytest.approx(0, abs=1e-12)


def test_draws_that_contradict_each_other_have_all_the_information() -> None:
    draws = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert mutual_information(draws) == pytest.approx(np.log(2))


def test_the_curves_are_scikit_learns_with_ties_too() -> None:
    inside, outside = RNG.normal(0, 1, 300).round(1), RNG.normal(1, 1, 200).round(1)
    found = detection(inside, outside)
    truth, scores = np.r_[np.zeros(300), np.ones(200)], np.r_[inside, outside]
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert found.aupr == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert found.fpr95 == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)
    for name in ("auroc", "aupr", "fpr95"):
        around = found.intervals[name]
        assert around is not None and around.low <= getattr(found, name) <= around.high
        assert around.low < around.high


def test_a_turned_score_gives_one_minus_the_auroc() -> None:
    inside, outside = RNG.normal(0, 1, 50), RNG.normal(2, 1, 50)
    assert detection(-inside, -outside).auroc == pytest.approx(1 - detection(inside, outside).auroc)


def test_a_perfect_detector() -> None:
    found = detection(np.array([0.1, 0.2]), np.array([0.8, 0.9, 0.7]))
    assert (found.auroc, found.aupr, found.fpr95) == (1, 1, 0)
    assert (found.inside, found.outside) == (2, 3)


def test_one_sample_has_no_interval() -> None:
    assert detection(np.array([0.1]), np.array([0.2, 0.3])).intervals["auroc"] is None


def test_pixels_are_counted_one_by_one_and_drawn_by_image() -> None:
    own = RNG.normal(0, 1, (30, 1))
    inside, outside = own + RNG.normal(0, 0.1, (30, 50)), RNG.normal(1, 1, (20, 1)) + RNG.normal(0, 0.1, (20, 50))
    found = detection(inside, outside)
    truth, scores = np.r_[np.zeros(1500), np.ones(1000)], np.r_[inside.ravel(), outside.ravel()]
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert found.aupr == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    by_pixel, by_image = detection(inside.ravel(), outside.ravel()).intervals["auroc"], found.intervals["auroc"]
    assert by_pixel is not None and by_image is not None
    # pixels of an image are alike: as if there were 50 times fewer of them, the interval is about 7 times as wide
    assert 4 < (by_image.high - by_image.low) / (by_pixel.high - by_pixel.low) < 10
    assert (found.inside, found.outside) == (30, 20)


def test_intervals_of_many_scores_are_read_as_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = RNG.normal(0, 1, 400), RNG.normal(1, 1, 400)
    exact = detection(inside, outside).intervals
    monkeypatch.setattr("simclrseg.evaluation.detection.QUANTILES", 200)
    coarse = detection(inside, outside).intervals
    for name in ("auroc", "aupr", "fpr95"):
        one, other = exact[name], coarse[name]
        assert one is not None and other is not None
        assert other.low == pytest.approx(one.low, abs=0.01) and other.high == pytest.approx(one.high, abs=0.01)


class Shades(Dataset):
    """Images of plain grey."""

    def __init__(self, *shades: int) -> None:
        super().__init__("shades", [f"{shade}.png" for shade in shades])
        self.shades = shades

    def image(self, index: int) -> np.ndarray:
        return np.full((8, 8, 3), self.shades[index], np.uint8)


def test_strangers_that_trained_the_model_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    own, other = Shades(1, 2), Shades(3, 4, 5)
    other.name = "others"
    seen = record(image_hashes(other, [1]) + image_hashes(own, [0]))
    metadata = ModelMetadata(task="classification", encoder="cnn", classes=("a", "b"), image_size=8, seen=seen)
    check([Other("others", other, range(3))], own, None, metadata, None)
    assert "--ood others: 1 of its 3 photos were seen in training, with or without labels" in caplog.text
    caplog.clear()
    check([Other("others", other, [0, 2])], own, None, metadata, None)
    assert "seen in training" not in caplog.text


def test_a_score_that_points_the_wrong_way_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def by_brightness(images: np.ndarray) -> np.ndarray:
        bright = images[:, 0, 0, 0] / np.float32(255)
        return np.stack([1 - bright, bright], axis=1)

    def tell(own: Dataset, other: Dataset) -> None:
        metadata = ModelMetadata(task="classification", encoder="cnn", classes=("dark", "bright"), image_size=8)
        model: Any = SimpleNamespace(
            learner=None,
            predict=by_brightness,
            metadata=metadata,
            dataset=own,
            scores=SimpleNamespace(indices=range(2)),
        )
        others = [Other("others", other, range(2))]
        measure(model, others, Reader(metadata, MACHINE, batch_size=2), draws=0, folder=tmp_path)

    sure, unsure = Shades(240, 250), Shades(140, 150)
    with caplog.at_level(logging.WARNING):
        tell(sure, unsure)
        assert not caplog.records
        tell(unsure, sure)
    assert "AUROC below 0.5 (msp per image 0.000, entropy per image 0.000)" in caplog.text


class Corners(Dataset):
    """Dark images of four tiles, bright in the lower right one, which in some holds nothing."""

    def __init__(self, *, bright: int, blank: bool = False) -> None:
        super().__init__(f"corners of {bright}", ["a.tif", "b.tif"])
        self.bright, self.is_blank = bright, blank

    def image(self, index: int) -> np.ndarray:
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[8:, 8:] = self.bright
        return pixels

    def blank(self, index: int) -> np.ndarray | None:
        return (self.image(index) > 0).any(axis=2) if self.is_blank else None


@pytest.mark.parametrize("resize", ["tile", "squash"])
def test_all_that_an_image_holds_is_looked_at_and_nothing_else(tmp_path: Path, resize: str) -> None:
    def told(other: Dataset) -> dict[tuple[str, str], float]:
        metadata = ModelMetadata(
            task="segmentation",
            encoder="cnn",
            classes=("no", "yes"),
            image_size=8 if resize == "tile" else 16,
            resize=resize,
            threshold=0.5,
        )
        model: Any = SimpleNamespace(
            learner=None,
            predict=lambda images: images[..., 0].astype(np.float32) / 255,
            metadata=metadata,
            dataset=Corners(bright=0),
            scores=SimpleNamespace(indices=range(2)),
        )
        reader = Reader(metadata, MACHINE, batch_size=3)
        found = measure(model, [Other("others", other, range(2))], reader, draws=0, folder=tmp_path)
        levels = found.detections["others"]
        return {(level, score): one.auroc for level in levels for score, one in levels[level].items()}

    unsure = told(Corners(bright=120))
    assert unsure["image", "msp"] == unsure["image", "entropy"] == 1
    assert unsure["pixel", "entropy"] == pytest.approx(0.5 + 0.25 / 2, abs=0.06)  # a quarter of them is unsure
    assert set(told(Corners(bright=120, blank=True)).values()) == {0.5}
