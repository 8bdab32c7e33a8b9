"""Several datasets as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from simclrseg.data.datasets.base import UNLABELLED, Dataset, bands_text
from simclrseg.errors import DataError
from simclrseg.images.decode import Pixels


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Put datasets one after the other; one alone stays itself."""
    return datasets[0] if len(datasets) == 1 else Joined(datasets)


class Joined(Dataset):
    """The photos of several datasets, one set after the other.

    Published lists are joined too. Labels are those of the first part that has any and of the parts that name theirs
    alike; the other photos have none. Masks are not kept.

    Raises:
        DataError: if they have different bands.
    """

    def __init__(self, parts: Sequence[Dataset]) -> None:
        first = parts[0]
        for part in parts[1:]:
            if (part.bands, part.full_scale) != (first.bands, first.full_scale):
                theirs, ours = bands_text(part), bands_text(first)
                if theirs == ours:
                    theirs, ours = (f"{', '.join(of.bands)} up to {of.full_scale:,}" for of in (part, first))
                raise DataError(f"{part.name} has {theirs} and {first.name} {ours}", "pretrain on one of them")
        self._parts = tuple(parts)
        self._starts = (0, *accumulate(len(part) for part in parts))
        names = next((part.label_names for part in parts if part.labels is not None), ())
        labels = [
            part.labels if part.labels is not None and part.label_names == names else np.full(len(part), UNLABELLED)
            for part in parts
        ]
        official: dict[str, list[int]] = {}
        for start, part in zip(self._starts, parts, strict=False):
            for split, indices in part.official.items():
                official.setdefault(split, []).extend(start + index for index in indices)
        super().__init__(
            "+".join(part.name for part in parts),
            [f"{number}/{part.name}/{key}" for number, part in enumerate(parts) for key in part.keys],
            labels=np.concatenate(labels) if names else None,
            label_names=names,
            official=official,
            bands=first.bands,
            full_scale=first.full_scale,
        )

    def image(self, index: int) -> Pixels:
        part, inner = self._at(index)
        return part.image(inner)

    def content(self, index: int) -> bytes:
        part, inner = self._at(index)
        return part.content(inner)

    def path(self, index: int) -> Path | None:
        part, inner = self._at(index)
        return part.path(inner)

    def _at(self, index: int) -> tuple[Dataset, int]:
        number = bisect_right(self._starts, index) - 1
        return self._parts[number], index - self._starts[number]
