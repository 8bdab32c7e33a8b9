"""Samples of a batch: two views or a cut view for pretraining, photo and mask for segmentation, plain photos."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from simclrseg.data.augment import (
    GRID,
    PAIR_STRENGTHS,
    VIEW_COLUMNS,
    Strengths,
    render_pair,
    render_photo,
    render_view,
    sample_view,
)
from simclrseg.data.cutout import Cutout, cut
from simclrseg.data.datasets.base import colour_bands
from simclrseg.data.mask_statistics import check_aspects
from simclrseg.data.randomness import uniform
from simclrseg.errors import DataError, ImageError

if TYPE_CHECKING:
    from simclrseg.data.datasets.base import Dataset

log = logging.getLogger(__name__)

Fields = dict[str, tuple[tuple[int, ...], type[np.generic]]]
"""Shape and type of one sample's arrays, by name."""

T = TypeVar("T")


class _Samples:
    """Chosen photos of a dataset, with a rule for those that cannot be read.

    An unreadable photo is replaced by the next readable one, so that batch sizes never change; it is named once in the
    log and counted in ``skipped``. The random numbers stay those of the photo that was asked for, so that the
    replacement is not an exact copy of its own turn.

    Args:
        dataset: where photos come from; its ``image`` may be called from several threads at once.
        indices: the chosen photos, as indices in the dataset.
        image_size: side S of the square samples, in pixels.
        strict: raise ImageError instead of replacing.
    """

    fields: Fields

    def __init__(self, dataset: Dataset, indices: Sequence[int], *, image_size: int, strict: bool) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64)
        self.image_size = image_size
        self.strict = strict
        self.fields = {"index": ((), np.int64)}
        self._unreadable: dict[int, str] = {}  # by position
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.indices)

    def _image_field(self, *views: int) -> Fields:
        """Square pictures of the dataset's bands and type."""
        side = self.image_size
        return {"image": ((*views, side, side, len(self.dataset.bands)), self.dataset.dtype)}

    @property
    def skipped(self) -> list[str]:
        """One line for each photo that could not be read so far: its name and the reason."""
        with self._lock:
            return [self._unreadable[position] for position in sorted(self._unreadable)]

    def _read(self, position: int, read: Callable[[int], T]) -> tuple[int, T]:
        """Index and content of the photo at ``position``, or of the next one that can be read.

        Raises:
            ImageError: if it cannot be read and ``strict``.
            DataError: if none can be read.
        """
        for step in range(len(self)):
            candidate = (position + step) % len(self)
            if candidate in self._unreadable:
                continue
            index = int(self.indices[candidate])
            try:
                return index, read(index)
            except ImageError as error:
                if self.strict:
                    raise
                self._skip(candidate, str(error))
        raise DataError(f"none of {len(self)} photos can be read, the first because: {self.skipped[0]}")

    def _skip(self, position: int, reason: str) -> None:
        with self._lock:
            if position in self._unreadable:
                return
            self._unreadable[position] = reason
        log.warning("skipped %s", reason)


class _Augmented(_Samples):
    """Photos with a random change, by default none, as evaluation needs it.

    Args:
        strengths: of the augmentation.
        seed: of all random numbers.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Sequence[int],
        *,
        image_size: int,
        strengths: Strengths = PAIR_STRENGTHS["none"],
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        super().__init__(dataset, indices, image_size=image_size, strict=strict)
        self.strengths = strengths
        self.seed = seed
        self.fields |= self._image_field()
        self._colours = colour_bands(dataset.bands)


class TwoViews(_Augmented):
    """Two augmented views of each photo: ``image`` (2, S, S, bands) and ``index``."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        self.fields |= self._image_field(2)

    def fill(self, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write the samples at ``positions`` (n,) of ``indices`` to the rows of ``out`` (n, ...)."""
        numbers = uniform(self.seed, epoch, self.indices[positions], 2 * VIEW_COLUMNS).tolist()
        for row, position in enumerate(positions.tolist()):
            index, image = self._read(position, self.dataset.image)
            out["index"][row] = index
            height, width = image.shape[:2]
            for k in range(2):
                u = numbers[row][k * VIEW_COLUMNS : (k + 1) * VIEW_COLUMNS]
                render_view(image, sample_view(u, height, width, self.strengths), out["image"][row, k], self._colours)


class CutViews(_Augmented):
    """One augmented view of each photo, and where it is cut: ``image`` and ``cut`` (S, S, bands), and ``index``.

    Args:
        cutout: how much is cut.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], *, cutout: Cutout, **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        self.cutout = cutout
        shape, _ = self.fields["image"]
        self.fields |= {"cut": (shape, np.bool_)}

    def fill(self, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write the samples at ``positions`` (n,) of ``indices`` to the rows of ``out`` (n, ...)."""
        columns = VIEW_COLUMNS + self.cutout.columns(self.image_size, bands=len(self.dataset.bands))
        numbers = uniform(self.seed, epoch, self.indices[positions], columns)
        for row, position in enumerate(positions.tolist()):
            index, image = self._read(position, self.dataset.image)
            out["index"][row] = index
            height, width = image.shape[:2]
            view = sample_view(numbers[row, :VIEW_COLUMNS].tolist(), height, width, self.strengths)
            render_view(image, view, out["image"][row], self._colours)
            cut(numbers[row, VIEW_COLUMNS:], self.cutout, out["cut"][row])


class MaskPairs(_Augmented):
    """Photo and mask, squashed to a square: ``image`` (S, S, bands), ``mask`` (S, S) class ids and ``index``.

    Both change together.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        self.fields |= {"mask": ((self.image_size, self.image_size), np.uint8)}

    def fill(self, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write the samples at ``positions`` (n,) of ``indices`` to the rows of ``out`` (n, ...)."""
        numbers = uniform(self.seed, epoch, self.indices[positions], VIEW_COLUMNS).tolist()
        for row, position in enumerate(positions.tolist()):
            index, (image, mask) = self._read(position, self._pair)
            out["index"][row] = index
            view = sample_view(numbers[row], GRID, GRID, self.strengths)
            render_pair(image, mask, view, out["image"][row], out["mask"][row], self._colours)

    def _pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self.dataset.image(index), self.dataset.mask(index)
        check_aspects(self.dataset.keys[index], image.shape, mask.shape)
        return image, mask


class Photos(_Augmented):
    """Photos squashed to a square: ``image`` (S, S, bands), ``index``, and ``label`` where the dataset has labels."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        if dataset.labels is not None:
            self.fields |= {"label": ((), np.int64)}

    def fill(self, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write the samples at ``positions`` (n,) of ``indices`` to the rows of ``out`` (n, ...)."""
        numbers = uniform(self.seed, epoch, self.indices[positions], VIEW_COLUMNS).tolist()
        for row, position in enumerate(positions.tolist()):
            index, image = self._read(position, self.dataset.image)
            out["index"][row] = index
            render_photo(image, sample_view(numbers[row], GRID, GRID, self.strengths), out["image"][row], self._colours)
            if self.dataset.labels is not None:
                out["label"][row] = self.dataset.labels[index]


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of them, evenly: neighbours in a folder look alike."""
    count = min(count, len(indices))
    return [indices[place * len(indices) // count] for place in range(count)]
