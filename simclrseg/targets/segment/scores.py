"""Scoring masks image by image, at the training resolution and at that of the masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.images.colours import overlay
from simclrseg.images.resizing import resize_image, resize_mask
from simclrseg.inference.masks import Predict, to_mask, to_size
from simclrseg.inference.outputs import class_colours
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import class_metrics, segmentation_metrics
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.estimates import over_images
from simclrseg.scores.gallery import errors, viewable
from simclrseg.scores.intervals import Floats, interval
from simclrseg.scores.pixels import RESOLUTIONS, THRESHOLDS, Pixels, Resolution
from simclrseg.scores.reading import read_ahead
from simclrseg.scores.results import Estimate, Example, Scores
from simclrseg.scores.wording import words

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentationScores:
    """Counts of every image, from which every metric follows.

    Attributes:
        metadata: of the model that was scored.
        keys: the N images' names in their dataset.
        indices: the same as numbers.
        pixels: per resolution, what was counted in each image.
        skipped: images that could not be read, with the reason.
        empty: what an image counts in which there is nothing to find and nothing was found.
        confidences: counts of all pixels by their confidence, at the resolution of the metrics.
    """

    metadata: ModelMetadata
    keys: tuple[str, ...]
    indices: tuple[int, ...]
    pixels: dict[Resolution, Pixels]
    skipped: tuple[str, ...]
    empty: float = 1.0
    confidences: Confidences = field(default_factory=Confidences.none)
    unit: ClassVar = "pixels"

    @property
    def counts(self) -> dict[Resolution, np.ndarray]:
        """Per resolution, (N, C, C) pixels by true and predicted class."""
        return {resolution: pixels.confusion.astype(np.int64) for resolution, pixels in self.pixels.items()}

    @property
    def resolution(self) -> Resolution:
        """The resolution of the metrics below: that of the masks, unless only the other one was counted."""
        return _finest(self.pixels)

    @property
    def chosen(self) -> Pixels:
        """The counts at that resolution."""
        return self.pixels[self.resolution]

    def resampled(self, weights: Floats) -> dict[str, Floats]:
        """Every metric over the split, from the sums of all images: weights (R, N) -> (R,) each."""
        return self.chosen.summed(weights).metrics(empty=self.empty)

    def by_class(self, weights: Floats) -> dict[str, Floats]:
        """The metrics of each class: weights (R, N) -> (R, C) each."""
        return self.chosen.summed(weights).by_class()

    def by_image(self) -> dict[str, Floats]:
        """Every metric of each image, (N,) each; NaN where it has none, as one that is wholly ignored."""
        pixels = self.chosen
        counted = pixels.confusion.sum((1, 2)) > 0
        return {name: np.where(counted, values, np.nan) for name, values in pixels.metrics(empty=self.empty).items()}

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) pixels of all images."""
        matrix: np.ndarray = self.chosen.confusion.sum(0).astype(np.int64)
        return matrix

    @property
    def empty_masks(self) -> int:
        """Images without a pixel of any class but the first, which is the background."""
        return int((self.chosen.confusion[:, 1:].sum((1, 2)) == 0).sum())

    def sweep(self) -> dict[str, Floats]:
        """Of two classes the metrics over the split at the thresholds 0.01 ... 0.99, (99,) each, and these.

        Precision is NaN where nothing is above the threshold. Empty where the masks have no foreground: there every
        threshold is as good that finds nothing.
        """
        if len(self.confusion) != 2 or not self.confusion[1].any():
            return {}
        counts = self.chosen.total().at_thresholds()[0]
        metrics: dict[str, Any] = segmentation_metrics(counts, empty=self.empty)
        metrics["precision"] = np.where(counts[:, :, 1].sum(1) > 0, metrics["precision"], np.nan)
        return {"threshold": THRESHOLDS, **metrics}

    def at_threshold(self, threshold: float, weights: Floats) -> dict[str, Floats]:
        """Of two classes the metrics at one of these thresholds: weights (R, N) -> (R,) each."""
        place = round(threshold * 100) - 1
        metrics: dict[str, Floats] = segmentation_metrics(
            self.chosen.summed(weights).at_thresholds()[:, place], empty=self.empty
        )
        return metrics

    def bad_and_good(self) -> tuple[list[int], list[int]]:
        """The lower and the upper half of the images by the metric that decides."""
        value = next(iter(self.by_image().values()))
        order: list[int] = np.argsort(value, kind="stable")[: (~np.isnan(value)).sum()].tolist()
        half = -(-len(order) // 2)
        return order[:half], order[half:]

    def examples(self, rows: Sequence[int], dataset: Dataset, predict: Predict) -> list[Example]:
        """Photos, both masks and where these differ; they are predicted once more, as one batch."""
        metadata = self.metadata
        images = [dataset.image(self.indices[row]) for row in rows]
        size = (metadata.image_size, metadata.image_size)
        probabilities = predict(np.stack([resize_image(image, size) for image in images]))
        deciding, values = next(iter(self.by_image().items()))
        colours = class_colours(metadata)
        found = []
        for row, image, probability in zip(rows, images, probabilities, strict=True):
            photo = viewable(image, dataset.bands)
            truth = resize_mask(dataset.mask(self.indices[row]), photo.shape[:2])
            predicted = to_mask(to_size(probability, photo.shape[:2]), metadata.threshold)
            pictures = (
                ("photo", photo),
                ("truth", overlay(photo, truth, colours)),
                ("prediction", overlay(photo, predicted, colours)),
                ("errors", errors(photo, truth, predicted)),
            )
            found.append(Example(self.keys[row], f"{words(deciding)} {values[row]:.4f}", pictures))
        return found

    def results(self, split: str) -> dict[str, dict[str, Any]]:
        """Per resolution, the metrics over the split, and of many classes the IoU of each."""
        return {
            resolution: {
                "split": split,
                "n": len(self.keys),
                "resolution": resolution,
                "border": self.metadata.border,
                "threshold": self.metadata.threshold,
                "metrics": segmentation_metrics(counts.sum(axis=0)),
                **_by_class(counts.sum(axis=0), self.metadata.classes),
            }
            for resolution, counts in self.counts.items()
        }

    @property
    def headline(self) -> dict[str, float]:
        """The metrics over the split at the resolution of the masks."""
        return segmentation_metrics(self.confusion)

    def rows(self) -> list[dict[str, Any]]:
        """A row an image: its own metrics."""
        columns = self.by_image()
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [
            {"image": key, **dict(zip(columns, row, strict=True))} for key, row in zip(self.keys, values, strict=True)
        ]

    def means(self, weights: Floats | None) -> dict[str, Estimate]:
        """The means over images of their own metrics."""
        return over_images(self.by_image(), weights)

    def notes(self, weights: Floats | None, validation: Callable[[], Self] | None) -> dict[str, Any]:
        """Empty masks, and what the best threshold on validation images would give."""
        found: dict[str, Any] = {
            "resolution": self.resolution,
            "border": self.metadata.border,
            "threshold": self.metadata.threshold,
            "empty_masks": self.empty_masks,
            "empty": f"{self.empty:g}",  # JSON has no nan
        }
        if self.metadata.threshold is None or validation is None:
            return found
        chosen_on = validation()
        threshold = best_threshold(chosen_on)
        if threshold is None:
            log.info("there is no best threshold to tell: the masks of the validation photos have no foreground")
            return found
        everything = np.ones((1, len(self.keys)))
        ends = None if weights is None else interval(self.at_threshold(threshold, weights)["iou"])
        found["best_threshold"] = {
            "threshold": threshold,
            "validation_photos": len(chosen_on.keys),
            "iou": Estimate(float(self.at_threshold(threshold, everything)["iou"][0]), ends).facts(),
        }
        return found

    def draw(self, folder: Path) -> None:
        """Nothing: the tables show it better than pictures."""


def _by_class(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """IoU of each of more than two classes; None, which JSON knows, where one is neither there nor predicted."""
    if len(classes) <= 2:
        return {}
    scores = [None if np.isnan(value) else value for value in class_metrics(matrix)["iou"].tolist()]
    return {"iou_by_class": dict(zip(classes, scores, strict=True))}


def best_threshold(scores: Scores) -> float | None:
    """The threshold with the highest IoU over the split; of several the one nearest to 0.5.

    None where there is none, or no foreground to find.
    """
    sweep = scores.sweep()
    if not sweep:
        return None
    best = sweep["threshold"][sweep["iou"] >= sweep["iou"].max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def score(
    predict: Predict,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    metadata: ModelMetadata,
    batch_size: int,
    workers: int,
    resolutions: Sequence[Resolution] = RESOLUTIONS,
    empty: float = 1.0,
) -> SegmentationScores:
    """Compare predictions with masks, at some resolutions in one pass.

    A probability map is brought to the mask's size before it becomes a mask (design §6).

    Args:
        predict: the model; it gets a batch of squashed photos.
        metadata: of the model; two classes have one probability, that of class 1, or one each.
        empty: what an image counts in which there is nothing to find and nothing was found.

    Raises:
        DataError: if no photo can be read.
    """
    side, threshold, classes = metadata.image_size, metadata.threshold, len(metadata.classes)
    scored: list[int] = []
    skipped: list[str] = []
    counts: dict[Resolution, list[Pixels]] = {resolution: [] for resolution in resolutions}
    confidences = Confidences.none()
    finest = _finest(resolutions)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        return resize_image(dataset.image(index), (side, side)), dataset.mask(index)

    def count(probability: np.ndarray, mask: np.ndarray) -> tuple[dict[Resolution, Pixels], Confidences]:
        found = {}
        for resolution in resolutions:
            if resolution == "training":
                here, truth = probability, resize_mask(mask, (side, side))
            else:
                here, truth = to_size(probability, mask.shape), mask
            found[resolution] = Pixels.of(here, truth, threshold, classes)
            if resolution == finest:
                sure = Confidences.of_pixels(here, truth)
        return found, sure

    with ThreadPoolExecutor(workers) as pool:
        for read, loaded in read_ahead(pool, load, dataset, indices, batch_size=batch_size, skipped=skipped):
            images, masks = zip(*loaded, strict=True)
            for result, sure in pool.map(count, predict(np.stack(images)), masks):
                confidences += sure
                for resolution in resolutions:
                    counts[resolution].append(result[resolution])
            scored += read
    keys = tuple(dataset.keys[index] for index in scored)
    stacked = {resolution: Pixels.stack(images) for resolution, images in counts.items()}
    return SegmentationScores(metadata, keys, tuple(scored), stacked, tuple(skipped), empty, confidences)


def _finest(resolutions: Collection[Resolution]) -> Resolution:
    return "original" if "original" in resolutions else "training"
