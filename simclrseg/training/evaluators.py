"""Whether a pretraining learns: k-NN accuracy where images have labels, and a warning when features collapse."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from torch import nn

from simclrseg.data.datasets.dataset import UNLABELLED, Dataset
from simclrseg.data.loader import Loader
from simclrseg.data.randomness import permutation
from simclrseg.data.samples import Images
from simclrseg.engine.history import EpochRecord, Observer
from simclrseg.metrics.representation import QUERY_EVERY, VIEWS
from simclrseg.models.backbones import feature_size

log = logging.getLogger(__name__)

PROBED = 5_000  # most images of the k-NN
PROBE_BATCH = 64
COLLAPSED = 0.02  # of the dimension


def knn_batches(
    dataset: Dataset, indices: Sequence[int], *, image_size: int, strict: bool, threads: int
) -> Loader | None:
    """Batches of labelled images among those that are trained on, without augmentation; None where there are no labels.

    Which images, and which of them ask, depends on nothing but their number.
    """
    if dataset.labels is None:
        return None
    labelled = [index for index in indices if dataset.labels[index] != UNLABELLED]
    chosen = [labelled[place] for place in permutation(0, 0, len(labelled))[:PROBED]]
    counts = np.bincount(dataset.labels[chosen])
    if len(chosen) <= QUERY_EVERY or np.count_nonzero(counts) < 2:
        return None
    queries, classes = -(-len(chosen) // QUERY_EVERY), np.count_nonzero(counts)
    log.info(
        f"k-NN accuracy on {queries:,} photos among {len(chosen) - queries:,} others, {classes} classes, "
        f"the most frequent {counts.max() / len(chosen):.1%}"
    )
    images = Images(dataset, chosen, image_size=image_size, strict=strict)
    return Loader(images, batch_size=PROBE_BATCH, shuffle=False, drop_last=False, threads=threads)


def lowest_rank(backbone: nn.Module, images: int) -> float:
    """The effective rank below which the features have collapsed.

    Two per cent of the largest that can be measured, which is the dimension or the number of views. The least
    effective rank is 1: of few views 2 % would be below it.

    Args:
        images: in a forward pass.
    """
    return max(1.5, COLLAPSED * min(feature_size(backbone), 2 * images, VIEWS))


class CollapseWarning(Observer):
    """Warns, once, when the features of an epoch after warm-up have collapsed.

    Args:
        lowest: effective rank that is still sound.
        warmup: epochs.
        advice: what to try then.
    """

    def __init__(self, lowest: float, *, warmup: float, advice: str) -> None:
        self._lowest = lowest
        self._advice = advice
        self._warmup = warmup
        self._warned = False

    def on_epoch(self, record: EpochRecord) -> None:
        rank = record.train.get("effective_rank")
        if self._warned or rank is None or rank >= self._lowest or record.epoch - 1 < self._warmup:
            return
        self._warned = True
        log.warning(
            f"the representation has collapsed: in epoch {record.epoch} the features have effective rank {rank:.1f}, "
            f"below {self._lowest:.1f}; try {self._advice}"
        )
