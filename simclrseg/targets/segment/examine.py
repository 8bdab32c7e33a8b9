"""Examine masks before the first step: class weights, and what to warn of."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.data.mask_statistics import balancing_weights, count_pixels, scaled_weights
from simclrseg.data.splits import Split
from simclrseg.errors import DataError, UsageError
from simclrseg.system import distributed

log = logging.getLogger(__name__)

MANY = 6  # classes beyond which only the extremes are told


def examine_masks(dataset: Dataset, pairs: Dataset, split: Split, *, threads: int) -> np.ndarray:
    """Read every mask that the run will need once, and say what the training masks hold.

    Args:
        pairs: the dataset as training and validation read it, from a cache where there is one.

    Returns:
        (N, C) pixels of the training photos by class.

    Raises:
        DataError: for the first mask that does not fit; or if the training masks hold one class only.
    """
    parts = ((pairs, split.train), (pairs, split.validation), (dataset, split.test))
    counts = distributed.from_main(lambda: [count_pixels(*part, threads=threads) for part in parts])[0]
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
        raise UsageError(
            f"--class-weights {asked}: {len(weights)} weights for {len(classes)} classes",
            option="class_weights",
            value=asked,
        )
    if not np.dot(weights, counts.sum(0)):
        raise UsageError(
            f"--class-weights {asked}: every class that occurs has weight 0", option="class_weights", value=asked
        )
    weights = scaled_weights(weights, counts)
    log.info("class weights: " + ", ".join(f"{name} {w:.3g}" for name, w in zip(classes, weights, strict=True)))
    return weights
