"""Scoring masks image by image, at the training resolution and at that of the masks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.images.colours import overlay
from simclrseg.images.resizing import resize_image, resize_mask
from simclrseg.inference.masks import Predict, to_mask, to_size
from simclrseg.inference.outputs import class_colours
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import binary_metrics
from simclrseg.scores import results
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.gallery import errors, viewable
from simclrseg.scores.intervals import Floats
from simclrseg.scores.pixels import THRESHOLDS, Pixels
from simclrseg.scores.reading import read_ahead
from simclrseg.scores.wording import words

Resolution = Literal["training", "original"]
RESOLUTIONS: tuple[Resolution, ...] = ("training", "original")


@dataclass(frozen=True)
class Scores:
    """Counts of every image, from which every metric follows.

    Attributes:
        keys: the N images' names in their dataset.
        indices: the same as numbers.
        pixels: per resolution, what was counted in each image.
        skipped: images that could not be read, with the reason.
        empty: what an image counts in which there is nothing to find and nothing was found.
        confidences: counts of all pixels by their confidence, at the resolution of the metrics.
    """

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
        """That of the metrics below: of the masks, unless only the other one was counted."""
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
        metrics: dict[str, Any] = binary_metrics(counts, empty=self.empty)
        metrics["precision"] = np.where(counts[:, :, 1].sum(1) > 0, metrics["precision"], np.nan)
        return {"threshold": THRESHOLDS, **metrics}

    def at_threshold(self, threshold: float, weights: Floats) -> dict[str, Floats]:
        """Of two classes the metrics at one of these thresholds: weights (R, N) -> (R,) each."""
        place = round(threshold * 100) - 1
        metrics: dict[str, Floats] = binary_metrics(
            self.chosen.summed(weights).at_thresholds()[:, place], empty=self.empty
        )
        return metrics

    def bad_and_good(self) -> tuple[list[int], list[int]]:
        """The lower and the upper half of the images by the metric that decides."""
        value = next(iter(self.by_image().values()))
        order: list[int] = np.argsort(value, kind="stable")[: (~np.isnan(value)).sum()].tolist()
        half = -(-len(order) // 2)
        return order[:half], order[half:]

    def examples(
        self, rows: Sequence[int], *, dataset: Dataset, predict: Predict, metadata: ModelMetadata
    ) -> list[results.Example]:
        """Photos, both masks and where these differ; they are predicted once more, as one batch."""
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
            found.append(results.Example(self.keys[row], f"{words(deciding)} {values[row]:.4f}", pictures))
        return found


def best_threshold(scores: results.Scores) -> float | None:
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
    image_size: int,
    classes: int,
    threshold: float | None,
    batch_size: int,
    workers: int,
    resolutions: Sequence[Resolution] = RESOLUTIONS,
    empty: float = 1.0,
) -> Scores:
    """Compare predictions with masks, at some resolutions in one pass.

    A probability map is brought to the mask's size before it becomes a mask (design §6).

    Args:
        predict: the model; it gets a batch of squashed photos.
        image_size: side S of the squares that the model was trained on.
        classes: number of classes C; two classes have one probability, that of class 1, or one each.
        threshold: probability above which a pixel is class 1; unused where there is a probability for each class.
        empty: what an image counts in which there is nothing to find and nothing was found.

    Raises:
        DataError: if no photo can be read.
    """
    scored: list[int] = []
    skipped: list[str] = []
    counts: dict[Resolution, list[Pixels]] = {resolution: [] for resolution in resolutions}
    confidences = Confidences.none()
    finest = _finest(resolutions)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        return resize_image(dataset.image(index), (image_size, image_size)), dataset.mask(index)

    def count(probability: np.ndarray, mask: np.ndarray) -> tuple[dict[Resolution, Pixels], Confidences]:
        found = {}
        for resolution in resolutions:
            if resolution == "training":
                here, truth = probability, resize_mask(mask, (image_size, image_size))
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
    stacked = {resolution: Pixels.stack(images, classes) for resolution, images in counts.items()}
    return Scores(keys, tuple(scored), stacked, tuple(skipped), empty, confidences)


def _finest(resolutions: Collection[Resolution]) -> Resolution:
    return "original" if "original" in resolutions else "training"
