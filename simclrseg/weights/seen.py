"""Tell whether images that are scored were trained on, by whatever weights went into a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from simclrseg.data.datasets.base import Dataset
from simclrseg.data.seen import image_hashes, overlap
from simclrseg.metadata import ModelMetadata
from simclrseg.system import distributed

log = logging.getLogger(__name__)


def warn_if_seen(dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata | None) -> None:
    """Warn where a model, or the weights it began with, was trained on images that are to be scored."""
    if metadata is None or not metadata.seen or not distributed.is_main():
        return
    found = overlap(metadata.seen, image_hashes(dataset, indices))
    if found.seen:
        of = "photos to be scored" if found.judged == len(indices) else "photos to be scored that can be judged"
        log.warning(
            f"{found.seen:,} of {found.judged:,} {of} were seen in training, with or without labels "
            f"({metadata.pretrained or metadata.dataset}): expect lower scores on new photos"
        )
