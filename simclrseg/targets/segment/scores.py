"""Scoring masks image by image, at the training resolution and at that of the masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.errors import ImageError
from simclrseg.images.colours import overlay
from simclrseg.images.framing import Framing, window_of_most
from simclrseg.images.resizing import resize_mask
from simclrseg.images.strips import Passing
from simclrseg.inference.outputs import class_colours
from simclrseg.inference.tiling import OVERLAP, Predict, Rows, predict_tiles, to_mask, to_size
from simclrseg.metadata import IGNORE, ModelMetadata
from simclrseg.metrics.counts import class_metrics, segmentation_metrics, without_learning
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.estimates import over_images
from simclrseg.scores.gallery import SIDE, errors, viewable
from simclrseg.scores.intervals import Floats, interval
from simclrseg.scores.pixels import THRESHOLDS, Pixels, Resolution
from simclrseg.scores.reading import none_read, read_ahead
from simclrseg.scores.results import Estimate, Example, Scores
from simclrseg.scores.wording import words
from simclrseg.targets.base import Scoring

log = logging.getLogger(__name__)

TOGETHER = 8  # tiles of a picture that is drawn


@dataclass(frozen=True)
class SegmentationScores(Scores):
    """Counts of every image, from which every metric follows.

    Attributes:
        pixels: per resolution, what was counted in each of the N images.
        empty: what an image counts in which there is nothing to find and nothing was found.
    """

    UNIT = "pixels"
    pixels: dict[Resolution, Pixels]
    empty: float = 1.0

    @property
    def resolution(self) -> Resolution:
        """The resolution of the metrics below: that of the masks, unless only the other one was counted."""
        return "original" if "original" in self.pixels else "training"

    @property
    def chosen(self) -> Pixels:
        """The counts at that resolution."""
        return self.pixels[self.resolution]

    def resampled(self, weights: Floats) -> dict[str, Floats]:
        """Weights (R, N) -> every metric over the split, from sums over all images, (R,) each; NaN of ignored ones."""
        return self._known(self.chosen.summed(weights))

    def by_class(self, weights: Floats) -> dict[str, Floats]:
        return self.chosen.summed(weights).by_class()

    def by_image(self) -> dict[str, Floats]:
        """Every metric of each image, (N,) each; NaN where it has none, as one that is wholly ignored."""
        return self._known(self.chosen)

    def _known(self, pixels: Pixels) -> dict[str, Floats]:
        """Every metric of each row, NaN of one in which no pixel counts."""
        counted = pixels.confusion.sum((1, 2)) > 0
        return {name: np.where(counted, values, np.nan) for name, values in pixels.metrics(empty=self.empty).items()}

    @property
    def confusion(self) -> np.ndarray:
        matrix: np.ndarray = self.chosen.confusion.sum(0).astype(np.int64)
        return matrix

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
        counts = self.chosen.summed(weights).at_thresholds()[:, round(threshold * 100) - 1]
        metrics: dict[str, Floats] = segmentation_metrics(counts, empty=self.empty)
        return metrics

    def bad_and_good(self) -> tuple[list[int], list[int]]:
        """Rows of the lower and the upper half of the images by the metric that decides."""
        value = next(iter(self.by_image().values()))
        order: list[int] = np.argsort(value, kind="stable")[: (~np.isnan(value)).sum()].tolist()
        half = -(-len(order) // 2)
        return order[:half], order[half:]

    def examples(self, rows: Sequence[int], dataset: Dataset, predict: Predict) -> list[Example]:
        """Images, both masks and where these differ, predicted once more as one batch."""
        metadata, framing = self.metadata, Framing.of(self.metadata)
        tiled = metadata.resize == "tile"
        images = [] if tiled else [dataset.image(self.indices[row]) for row in rows]
        probabilities = np.empty(0) if tiled else predict(np.stack([framing.image(image) for image in images]))
        deciding, values = next(iter(self.by_image().items()))
        colours = class_colours(metadata)
        found = []
        for place, row in enumerate(rows):
            if tiled:
                shown, truth, predicted = self._in_tiles(self.indices[row], dataset, predict)
            else:
                image = images[place]
                shown = viewable(image, dataset.bands, dataset.blank(self.indices[row]))
                truth = resize_mask(dataset.mask(self.indices[row]), shown.shape[:2])
                probability = framing.cut(probabilities[place], image.shape)
                predicted = to_mask(to_size(probability, shown.shape[:2]), metadata.threshold)
            pictures = (
                ("photo", shown),
                ("truth", overlay(shown, truth, colours)),
                ("prediction", overlay(shown, predicted, colours)),
                ("errors", errors(shown, truth, predicted)),
            )
            found.append(Example(self.keys[row], f"{words(deciding)} {values[row]:.4f}", pictures))
        return found

    def _in_tiles(self, index: int, dataset: Dataset, predict: Predict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An image of any size as it is shown, and both masks: of a large one the part with the most wrong pixels."""
        mask = dataset.mask(index)
        alone = [dataset.image(index)]
        shape = alone[0].shape[:2]
        image = alone[0] if max(shape) <= 2 * SIDE else None  # a large one is let go of as its tiles pass
        blank = dataset.blank(index)
        truth: np.ndarray = resize_mask(mask, shape)
        del mask
        predicted, wrong = np.empty_like(truth), np.empty_like(truth)
        for top, probability in tiles_of_image(predict, Passing(alone), self.metadata, batch_size=TOGETHER):
            rows = slice(top, top + probability.shape[-2])
            predicted[rows] = to_mask(probability, self.metadata.threshold)
            wrong[rows] = (predicted[rows] != truth[rows]) & (truth[rows] != IGNORE)
        if image is None:
            marked = wrong if wrong.any() else truth
            top, left, bottom, right = window_of_most(marked, (SIDE, SIDE))
            # parts that are no copies would keep the whole in memory
            truth, predicted = (one[top:bottom, left:right].copy() for one in (truth, predicted))
            del wrong, marked
            blank = None if blank is None else blank[top:bottom, left:right].copy()
            image = dataset.image_rows(index, top, bottom)[:, left:right].copy()
        shown = viewable(image, dataset.bands, blank)
        return shown, resize_mask(truth, shown.shape[:2]), resize_mask(predicted, shown.shape[:2])

    def results(self, split: str) -> dict[str, dict[str, Any]]:
        """Per resolution, the metrics over the split, and of many classes the IoU of each."""
        found: dict[str, dict[str, Any]] = {}
        for resolution, pixels in self.pixels.items():
            matrix = pixels.confusion.sum(0)
            found[resolution] = {
                "split": split,
                "n": len(self.keys),
                "resolution": resolution,
                "border": self.metadata.border,
                "threshold": self.metadata.threshold,
                "metrics": segmentation_metrics(matrix),
                "without_learning": without_learning(matrix, segmentation_metrics),
            }
            if len(self.metadata.classes) > 2:  # None, which JSON knows, where one is neither there nor predicted
                ious = [None if np.isnan(iou) else iou for iou in class_metrics(matrix)["iou"].tolist()]
                found[resolution]["iou_by_class"] = dict(zip(self.metadata.classes, ious, strict=True))
        return found

    @property
    def headline(self) -> dict[str, float]:
        return segmentation_metrics(self.confusion, empty=self.empty)

    @property
    def without_learning(self) -> dict[str, float]:
        return without_learning(self.confusion, partial(segmentation_metrics, empty=self.empty))

    def rows(self) -> list[dict[str, Any]]:
        columns = {"image": self.keys, **{name: column.tolist() for name, column in self.by_image().items()}}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def means(self, weights: Floats | None) -> dict[str, Estimate]:
        return over_images(self.by_image(), weights)

    def notes(self, weights: Floats | None, validation: Callable[[], Self] | None) -> dict[str, Any]:
        """Empty masks, and what the best threshold on validation images would give."""
        found: dict[str, Any] = {
            "resolution": self.resolution,
            "border": self.metadata.border,
            "threshold": self.metadata.threshold,
            "empty_masks": int((self.chosen.confusion[:, 1:].sum((1, 2)) == 0).sum()),  # all background
            "empty": f"{self.empty:g}",  # JSON has no nan
        }
        if self.metadata.threshold is None or validation is None:
            return found
        chosen_on = validation()
        if (threshold := best_threshold(chosen_on)) is None:
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
    predict: Predict, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, scoring: Scoring
) -> SegmentationScores:
    """Compare predictions with masks, at some resolutions in one pass.

    A probability map is brought to the mask's size before it becomes a mask (design §6).

    Args:
        predict: the model; it gets a batch of images as the network sees them.
        metadata: of the model; two classes have one probability, that of class 1, or one each.
    """
    if metadata.resize == "tile":
        return _score_tiles(predict, dataset, indices, metadata, scoring)
    framing, classes = Framing.of(metadata), len(metadata.classes)
    scored: list[int] = []
    skipped: list[str] = []
    counts: list[list[Pixels]] = []
    confidences = Confidences.none()

    def load(index: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        image = dataset.image(index)
        return framing.image(image), dataset.mask(index), image.shape

    def count(probability: np.ndarray, mask: np.ndarray, shape: tuple[int, ...]) -> tuple[list[Pixels], Confidences]:
        pixels, inner = [], framing.cut(probability, shape)
        for resolution in scoring.resolutions:
            if resolution == "training":
                here, truth = inner, resize_mask(mask, framing.inner(shape))
            else:
                here, truth = to_size(inner, mask.shape), mask
            pixels.append(Pixels.of(here, truth, metadata.threshold, classes))
        return pixels, Confidences.of_pixels(here, truth)  # at the last one, that of the metrics

    with ThreadPoolExecutor(scoring.workers) as pool:
        for read, loaded in read_ahead(pool, load, dataset, indices, batch_size=scoring.batch_size, skipped=skipped):
            images, masks, shapes = zip(*loaded, strict=True)
            for pixels, sure in pool.map(count, predict(np.stack(images)), masks, shapes):
                counts.append(pixels)
                confidences += sure
            scored += read
    return _scores(dataset, metadata, scoring, scored, skipped, confidences, counts)


def _scores(
    dataset: Dataset,
    metadata: ModelMetadata,
    scoring: Scoring,
    scored: Sequence[int],
    skipped: Sequence[str],
    confidences: Confidences,
    counts: Sequence[Sequence[Pixels]],
) -> SegmentationScores:
    columns = zip(scoring.resolutions, zip(*counts, strict=True), strict=True)
    stacked = {resolution: Pixels.stack(images, len(metadata.classes)) for resolution, images in columns}
    keys = tuple(dataset.keys[index] for index in scored)
    return SegmentationScores(metadata, keys, tuple(scored), tuple(skipped), confidences, stacked, scoring.empty)


def _score_tiles(
    predict: Predict, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, scoring: Scoring
) -> SegmentationScores:
    """The same of whole images in blended tiles, as ``predict`` gives them: one after the other and strip by strip, for
    they may be large. The training resolution is that of the images; masks may be coarser.
    """
    classes = len(metadata.classes)
    scored: list[int] = []
    skipped: list[str] = []
    counts: list[list[Pixels]] = []
    confidences = Confidences.none()
    for index in indices:
        try:
            mask = dataset.mask(index)  # first, for it takes memory twice while it is read
            alone = [dataset.image(index)]
        except ImageError as error:
            skipped.append(str(error))
            continue
        shape = alone[0].shape[:2]
        found = tiles_of_image(predict, Passing(alone), metadata, batch_size=scoring.batch_size)
        if mask.shape != shape:  # every strip is needed at once
            whole = np.concatenate([rows for _, rows in found], axis=-2)
            found = iter([(0, whole)])
        pixels = []
        for resolution in scoring.resolutions if mask.shape != shape else scoring.resolutions[-1:]:
            if mask.shape == shape:
                here, truth = found, mask
            elif resolution == "training":
                here, truth = iter([(0, whole)]), resize_mask(mask, shape)
            else:
                here, truth = iter([(0, to_size(whole, mask.shape))]), mask
            sure = Confidences.none()
            pixels.append(Pixels.of_strips(_counted(here, truth, sure), truth, metadata.threshold, classes))
        counts.append(pixels if mask.shape != shape else pixels * len(scoring.resolutions))
        confidences += sure
        scored.append(index)
    if not scored:
        raise none_read(dataset, len(indices), skipped)
    return _scores(dataset, metadata, scoring, scored, skipped, confidences, counts)


def _counted(
    strips: Iterator[tuple[int, np.ndarray]], mask: np.ndarray, confidences: Confidences
) -> Iterator[tuple[int, np.ndarray]]:
    """The same strips, whose pixels are added to some confidences as they pass."""
    for top, probability in strips:
        yield top, probability  # first, for there a class that the model does not have is refused
        confidences += Confidences.of_pixels(probability, mask[top : top + probability.shape[-2]])


def tiles_of_image(
    predict: Predict, image: np.ndarray | Rows, metadata: ModelMetadata, *, batch_size: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Probabilities of an image, strip by strip, in blended tiles of the size that a model was trained on."""
    fill = Framing.of(metadata).fill
    return predict_tiles(predict, image, metadata.image_size, OVERLAP, batch_size=batch_size, fill=fill)
