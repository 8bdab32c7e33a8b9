"""Some of a dataset's mask classes; the others become background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.errors import UnknownName
from simclrseg.images import Pixels
from simclrseg.metadata import IGNORE

BACKGROUND = "background"


def choose_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same photos with masks of ``background`` and the named classes, in the order in which they are named.

    Raises:
        UnknownName: for a name that the dataset does not have.
    """
    for name in names:
        if name not in (*dataset.classes, BACKGROUND):
            raise UnknownName(f"class of {dataset.name}", name, known=dataset.classes)
    return Chosen(dataset, [name for name in dict.fromkeys(names) if name != BACKGROUND])


class Chosen(Dataset):
    """A dataset in which every class that is not named counts as background, id 0; ignored pixels stay ignored."""

    def __init__(self, dataset: Dataset, names: Sequence[str]) -> None:
        ids = [dataset.classes.index(name) for name in names]
        ground = dataset.classes.index(BACKGROUND) if BACKGROUND in dataset.classes else None
        classes = (BACKGROUND, *names)
        colours = ((0, 0, 0) if ground is None else dataset.colours[ground], *(dataset.colours[i] for i in ids))
        super().__init__(
            dataset.name,
            dataset.keys,
            classes=classes,
            colours=colours,
            labels=dataset.labels,
            label_names=dataset.label_names,
            official=dataset.official,
            border=dataset.border,
            chosen=classes,
            bands=dataset.bands,
            full_scale=dataset.full_scale,
            summary=[*dataset.summary, f"chosen of the {len(dataset.classes)} classes: {', '.join(classes)}"],
        )
        self._dataset = dataset
        self._table = np.zeros(256, np.uint8)
        self._table[ids] = np.arange(1, len(classes))
        self._table[IGNORE] = IGNORE

    def has_mask(self, index: int) -> bool:
        return self._dataset.has_mask(index)

    def image(self, index: int) -> Pixels:
        return self._dataset.image(index)

    def mask(self, index: int) -> Pixels:
        return np.asarray(cv2.LUT(self._dataset.mask(index), self._table), np.uint8)

    def content(self, index: int) -> bytes:
        return self._dataset.content(index)

    def path(self, index: int) -> Path | None:
        return self._dataset.path(index)

    def mask_path(self, index: int) -> Path | None:
        return self._dataset.mask_path(index)
