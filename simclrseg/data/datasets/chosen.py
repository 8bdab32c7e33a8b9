"""Some of a dataset's mask classes; the others become background."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from simclrseg.data.datasets.base import Dataset, Derived
from simclrseg.errors import UnknownName
from simclrseg.images.decode import Mask
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


class Chosen(Derived):
    """A dataset in which every class that is not named counts as background, id 0; ignored pixels stay ignored."""

    def __init__(self, dataset: Dataset, names: Sequence[str]) -> None:
        ids = [dataset.classes.index(name) for name in names]
        ground = dataset.classes.index(BACKGROUND) if BACKGROUND in dataset.classes else None
        classes = (BACKGROUND, *names)
        super().__init__(
            dataset,
            classes=classes,
            colours=((0, 0, 0) if ground is None else dataset.colours[ground], *(dataset.colours[i] for i in ids)),
            chosen=classes,
            summary=[*dataset.summary, f"chosen of the {len(dataset.classes)} classes: {', '.join(classes)}"],
        )
        self._table = np.zeros(256, np.uint8)
        self._table[ids] = np.arange(1, len(classes))
        self._table[IGNORE] = IGNORE

    def mask(self, index: int) -> Mask:
        return np.asarray(cv2.LUT(super().mask(index), self._table), np.uint8)
