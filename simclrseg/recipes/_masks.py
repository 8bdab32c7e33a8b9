"""What finetune finds out about masks before the first step, and does with it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simclrseg import plots
from simclrseg.config.finetune import LabelledData
from simclrseg.data.datasets.base import Dataset, DatasetOptions, colour_bands
from simclrseg.data.datasets.chosen import choose_classes
from simclrseg.data.datasets.classes import MAX_CLASSES, read_classes
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.mask_statistics import balancing_weights, count_pixels, scaled_weights
from simclrseg.data.splits import Split
from simclrseg.engine.history import EpochRecord, Plan, StepRecord
from simclrseg.errors import DataError, ImageError, UsageError
from simclrseg.inference.masks import Predict, to_mask
from simclrseg.metadata import ModelMetadata
from simclrseg.resizing import resize_image, resize_mask

log = logging.getLogger(__name__)

MANY = 6  # classes beyond which only the extremes are told

Rows = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def open_masks(config: LabelledData) -> Dataset:
    """Open photos with masks, of those classes that are asked for.

    Raises:
        DataError: if there are no masks.
        UsageError: if ``--classes`` or ``--border`` does not fit them.
    """
    count = class_count(config.classes)
    options = DatasetOptions(
        border=config.border,
        classes=read_classes(config.classes_file) if config.classes_file else None,
        class_count=count,
        image_column=config.image_column,
        label_column=config.label_column,
        mask_column=config.mask_column,
    )
    dataset = open_dataset(config.name, options)
    if not dataset.has_masks:
        command = f"simclrseg finetune --task classify --dataset {shlex.quote(config.name)}"
        remedy = f"; `{command}` learns a class for each photo" if dataset.label_names else ""
        raise DataError(
            f"{config.dataset} holds no masks: segmentation needs a folder with images/ and masks/, a set of the Hub "
            f"with a column of masks, oxford_pets or voc{remedy}"
        )
    if config.border != "pet" and dataset.border is None:
        raise UsageError(
            f"--border {config.border} is for oxford_pets, whose masks mark a border: leave it out for {dataset.name}"
        )
    if count is None:
        return choose_classes(dataset, config.classes) if config.classes else dataset
    if count != len(dataset.classes):
        raise UsageError(
            f"--classes {count}: {dataset.name} has {len(dataset.classes)} classes ({', '.join(dataset.classes)}): "
            "leave it out, or name the classes to learn"
        )
    return dataset


def class_count(classes: Sequence[str]) -> int | None:
    """The number that ``--classes`` gives; None where it gives names.

    Raises:
        UsageError: for a number of classes that masks cannot hold.
    """
    if len(classes) != 1 or not classes[0].isdecimal():
        return None
    count = int(classes[0])
    if not 2 <= count <= MAX_CLASSES:
        raise UsageError(f"--classes {count}: 2 to {MAX_CLASSES} classes are possible, background among them")
    return count


def examine_masks(dataset: Dataset, pairs: Dataset, split: Split, *, threads: int) -> np.ndarray:
    """Read every mask that the run will need once, and say what the training masks hold.

    Args:
        pairs: the dataset as training and validation read it, from a cache where there is one.

    Returns:
        (N, C) pixels of the training photos by class.

    Raises:
        DataError: for the first mask that does not fit; or if the training masks hold one class only.
    """
    counts = count_pixels(pairs, split.train, threads=threads)
    count_pixels(pairs, split.validation, threads=threads)
    count_pixels(dataset, split.test, threads=threads)
    pixels = counts.sum(0)
    absent = [name for name, count in zip(dataset.classes, pixels, strict=True) if not count]
    if len(absent) >= len(dataset.classes) - 1:
        held = ", ".join(set(dataset.classes) - set(absent)) or "no class at all"
        raise DataError(f"the {len(counts):,} training masks hold {held} only: there is nothing to learn")
    shares = sorted(zip((100 * pixels / pixels.sum()).tolist(), dataset.classes, strict=True), reverse=True)
    told = shares if len(shares) <= MANY else [shares[0], *[share for share in shares if share[0] > 0][-1:]]
    words = (", " if told is shares else " to ").join(f"{name} {share:.2g} %" for share, name in told)
    log.info(f"pixels of the {len(counts):,} training masks: {words}")
    if absent:
        log.warning(
            f"no pixel of the training masks is {', '.join(absent)}: the network cannot learn it; "
            "add photos, or raise --data-ratio"
        )
    return counts


def class_weights(asked: str | None, counts: np.ndarray, classes: Sequence[str]) -> tuple[float, ...] | None:
    """The weight of each class in the loss, whose mean over the training pixels is 1; None for equal ones.

    Args:
        asked: ``auto``, or numbers with commas between them.

    Raises:
        UsageError: if there is not a number for each class, or only classes that do not occur have one above 0.
    """
    if asked is None:
        return None
    weights = balancing_weights(counts) if asked == "auto" else tuple(float(word) for word in asked.split(","))
    if len(weights) != len(classes):
        raise UsageError(f"--class-weights {asked}: {len(weights)} weights for {len(classes)} classes")
    if not np.dot(weights, counts.sum(0)):
        raise UsageError(f"--class-weights {asked}: every class that occurs has weight 0")
    weights = scaled_weights(weights, counts)
    log.info("class weights: " + ", ".join(f"{name} {w:.3g}" for name, w in zip(classes, weights, strict=True)))
    return weights


def example_rows(predict: Predict, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata) -> Rows:
    """Photo, true and predicted mask of those photos that can be read, all squashed to the training size."""
    side = (metadata.image_size, metadata.image_size)
    pairs = []
    for index in indices:
        try:
            pairs.append((resize_image(dataset.image(index), side), resize_mask(dataset.mask(index), side)))
        except ImageError:  # scoring has named it
            continue
    if not pairs:
        return []
    probabilities = predict(np.stack([photo for photo, _ in pairs]))
    masks = [to_mask(probability, metadata.threshold) for probability in probabilities]
    return [(photo, truth, mask) for (photo, truth), mask in zip(pairs, masks, strict=True)]


class Examples:
    """An observer that draws some photos, with true and predicted masks, every few epochs.

    Args:
        predict: the network as it is at the end of an epoch.
        every: epochs between pictures.
        path: the PNG, overwritten each time.
    """

    def __init__(
        self,
        predict: Predict,
        dataset: Dataset,
        indices: Sequence[int],
        *,
        every: int,
        metadata: ModelMetadata,
        path: Path,
    ) -> None:
        self._predict = predict
        self._dataset = dataset
        self._indices = indices
        self._every = every
        self._metadata = metadata
        self._path = path

    def on_start(self, plan: Plan) -> None:
        pass

    def on_step(self, record: StepRecord) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch % self._every == 0:
            draw_examples(self._predict, self._dataset, self._indices, metadata=self._metadata, path=self._path)

    def on_end(self) -> None:
        pass


def draw_examples(
    predict: Predict, dataset: Dataset, indices: Sequence[int], *, metadata: ModelMetadata, path: Path
) -> None:
    """Draw those of some photos that can be read."""
    if rows := example_rows(predict, dataset, indices, metadata):
        colours = colour_bands(dataset.bands)
        shown = [(plots.viewable(photo, colours), truth, mask) for photo, truth, mask in rows]
        plots.examples(shown, dataset.colours, path)
