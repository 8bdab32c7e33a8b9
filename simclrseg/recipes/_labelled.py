"""What all tasks do with labelled photos: split them, say so, read some of them."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.config import LabelledData
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.splits import Split, make_split
from simclrseg.errors import DataError, ImageError
from simclrseg.files import replacing
from simclrseg.images import resize_image, resize_mask

log = logging.getLogger(__name__)


def split_dataset(
    config: LabelledData, dataset: Dataset, usable: Sequence[int], *, what: str, strata: Sequence[int] | None = None
) -> Split:
    """Split the photos that can be learned from.

    Args:
        usable: those with a mask, or with a label.
        what: they are called in messages, as "photos with masks".
        strata: class of each photo, where parts should hold classes in proportion.

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
        strata=strata,
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


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same columns as CSV."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_confusion(folder: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """A confusion matrix as ``confusion.csv``: a row a true class."""
    rows = [
        {"true": name, **dict(zip(classes, row, strict=True))}
        for name, row in zip(classes, matrix.tolist(), strict=True)
    ]
    write_rows(folder / "confusion.csv", rows)


def readable_photos(
    dataset: Dataset, indices: Sequence[int], size: tuple[int, int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Those of some photos that can be read, squashed to (height, width), and their masks where all of them have one.

    Returns:
        (H, W, bands) each, and (H, W) each or an empty list.
    """
    photos, masks = [], []
    masked = all(dataset.has_mask(index) for index in indices)
    for index in indices:
        try:
            photo = resize_image(dataset.image(index), size)  # at once, for the originals may not fit in memory
            masks += [resize_mask(dataset.mask(index), size)] if masked else []
            photos.append(photo)
        except ImageError:  # scoring has named it
            continue
    return photos, masks
