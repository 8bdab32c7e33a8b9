"""What evaluating costs beside the network: intervals, and counting pixels, against torchmetrics' Jaccard index.

    python -m tests.benchmarks.evaluation [IMAGES=3669] [MASKS=500] [SIDE=512] [CLASSES=22]

Intervals are those of all metrics over the split, by class and as means over images, from 1,000 resamples. Pixels are
counted mask by mask on one thread by either side, from uint8 here and int64 there, torchmetrics with the checks of its
arguments that are its default, and without. It comes with the extra ``bench``.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import class_metrics, confusion_matrix
from simclrseg.scores.confidences import Confidences
from simclrseg.scores.estimates import class_rows, draws, over_images, over_split
from simclrseg.scores.pixels import Pixels
from simclrseg.targets.segment.scores import SegmentationScores
from tests.benchmarks._common import interleave, machine, print_table


def some_scores(images: int, classes: int) -> SegmentationScores:
    """Counts such as those of masks of 500 x 375."""
    rng = np.random.default_rng(0)
    pixels = Pixels(
        *(
            rng.integers(0, 10_000, (images, *shape)).astype(np.float64)
            for shape in ((classes, classes), (classes, 2), (classes, 2), (2,), (2, 100))
        )
    )
    keys = tuple(map(str, range(images)))
    metadata = ModelMetadata(
        task="segmentation", encoder="cnn", image_size=256, classes=tuple(map(str, range(classes)))
    )
    return SegmentationScores(metadata, keys, tuple(range(images)), (), Confidences.none(), {"original": pixels})


def intervals(scores: SegmentationScores, classes: int) -> None:
    weights = draws(scores)
    over_split(scores, weights)
    class_rows(scores, weights, [str(k) for k in range(classes)])
    over_images(scores.by_image(), weights)


def some_masks(count: int, side: int, classes: int) -> np.ndarray:
    """(2, count, side, side) uint8: regions, and the same a little moved."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, classes, (count, 12, 12)).astype(np.uint8)
    masks = np.stack([cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST) for mask in small])
    return np.stack([masks, np.roll(masks, (3, 5), (1, 2))])


def main(images: int = 3669, masks: int = 500, side: int = 512, classes: int = 22) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    two, many = some_scores(images, 2), some_scores(images, classes)
    timings = interleave(
        {"2": lambda: intervals(two, 2), "many": lambda: intervals(many, classes)}, rounds=5, threads=1
    )
    truths, predictions = some_masks(masks, side, classes)
    found = {}

    def ours() -> None:
        matrix = sum(confusion_matrix(p, t, classes) for p, t in zip(predictions, truths, strict=True))
        found["ours"] = float(np.nanmean(class_metrics(matrix)["iou"]))

    theirs_truths, theirs_predictions = torch.from_numpy(truths).long(), torch.from_numpy(predictions).long()

    def theirs(*, checked: bool) -> None:
        index = MulticlassJaccardIndex(classes, validate_args=checked)
        for p, t in zip(theirs_predictions, theirs_truths, strict=True):
            index.update(p[None], t[None])
        found["theirs"] = float(index.compute())

    counting = interleave(
        {"ours": ours, "checked": lambda: theirs(checked=True), "unchecked": lambda: theirs(checked=False)},
        rounds=3,
        threads=1,
    )
    assert abs(found["ours"] - found["theirs"]) < 1e-6
    print(f"\n{machine()}")
    print_table(
        ("work", "seconds", "against torchmetrics"),
        [
            [f"intervals, {images:,} images, 2 classes", f"{timings.median('2'):.2f}", ""],
            [f"intervals, {images:,} images, {classes} classes", f"{timings.median('many'):.2f}", ""],
            [
                f"confusion of {masks} masks of {side} px, {classes} classes",
                f"{counting.median('ours'):.2f}",
                f"{counting.ratio('ours', 'checked'):.1f} times as fast, "
                f"{counting.ratio('ours', 'unchecked'):.1f} without its checks",
            ],
        ],
    )
    print(timings.note(), counting.note())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
