"""What all tasks do with labelled photos: split them, say so, read some of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from simclrseg.config import LabelledData
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.splits import Split, make_split
from simclrseg.errors import DataError, ImageError

log = logging.getLogger(__name__)


def split_dataset(config: LabelledData, dataset: Dataset, usable: Sequence[int], *, what: str) -> Split:
    """Split the photos that can be learned from.

    Args:
        usable: those with a mask, or with a label.
        what: they are called in messages, as "photos with masks".

    Raises:
        DataError: if they are too few for a split.
    """
    split = make_split(
        dataset.keys,
        official=dataset.official,
        usable=usable,
        test_split=config.test_split,
        seed=config.split_seed,
        data_ratio=config.data_ratio,
        fold=config.fold_numbers,
        group_by=config.group_by,
    )
    for part in ("train", "validation", "test"):
        if not getattr(split, part):
            raise DataError(
                f"{config.dataset}: {len(usable)} {what} leave none for the {part} part; "
                "add photos, or raise --data-ratio"
            )
    return split


def tell(dataset: Dataset, split: Split, *, bare: int, without: str) -> None:
    """Say what was understood of the photos, which are left out, and how they are split.

    Args:
        bare: number of photos that nothing can be learned from.
        without: what they lack, as "a mask".
    """
    for line in dataset.summary:
        log.info(line)
    if bare:
        log.info(f"{dataset.name}: {bare:,} photos without {without} are skipped")
    log.info(split.line)


def readable_photos(dataset: Dataset, indices: Sequence[int]) -> list[np.ndarray]:
    """Those of some photos that can be read, (H, W, 3) uint8 each."""
    photos = []
    for index in indices:
        try:
            photos.append(dataset.image(index))
        except ImageError:  # scoring has named it
            continue
    return photos
