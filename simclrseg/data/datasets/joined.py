"""Several datasets as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.images import Pixels


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Put datasets one after the other; one alone stays itself."""
    return datasets[0] if len(datasets) == 1 else Joined(datasets)


class Joined(Dataset):
    """The photos of several datasets, one set after the other.

    Published lists are joined too. Labels are kept where every part has them under the same names. Masks are not.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self._parts = tuple(parts)
        self._starts = (0, *accumulate(len(part) for part in parts))
        names = {part.label_names for part in parts}
        labels = [part.labels for part in parts]
        alike = len(names) == 1 and all(label is not None for label in labels)
        official: dict[str, list[int]] = {}
        for start, part in zip(self._starts, parts, strict=False):
            for split, indices in part.official.items():
                official.setdefault(split, []).extend(start + index for index in indices)
        super().__init__(
            "+".join(part.name for part in parts),
            [f"{number}/{part.name}/{key}" for number, part in enumerate(parts) for key in part.keys],
            labels=np.concatenate([label for label in labels if label is not None]) if alike else None,
            label_names=names.pop() if alike else (),
            official=official,
        )

    def image(self, index: int) -> Pixels:
        part, inner = self._at(index)
        return part.image(inner)

    def path(self, index: int) -> Path | None:
        part, inner = self._at(index)
        return part.path(inner)

    def _at(self, index: int) -> tuple[Dataset, int]:
        number = bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]
