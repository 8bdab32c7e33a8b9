"""Samples of a batch: one or two views for pretraining, image and mask for segmentation, plain images."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from simclrseg.data.augment import GRID, PAIR_STRENGTHS, STRONG, VIEW_COLUMNS, Strengths, View, common_box, sample_view
from simclrseg.data.cutout import Cutout, cut
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.datasets.derived import BlankMasks
from simclrseg.data.framing import Cutting, Squashing
from simclrseg.data.randomness import uniform
from simclrseg.data.rendering import Square, recolour, render_image, render_view
from simclrseg.errors import DataError, ImageError
from simclrseg.images.bands import colour_bands
from simclrseg.metadata import IGNORE

log = logging.getLogger(__name__)

Fields = dict[str, tuple[tuple[int, ...], type[np.generic]]]
"""Shape and type of one sample's arrays, by name."""


class Samples:
    """Chosen images of a dataset, with a random change, by default none, as evaluation needs it.

    An unreadable image is replaced by the next readable one, so that batch sizes never change; it is named once in the
    log and counted in ``skipped``. The random numbers stay those of the image that was asked for, so that the
    replacement is not an exact copy of its own turn.

    Args:
        dataset: where images come from; its ``image`` may be called from several threads at once.
        indices: the chosen images, as indices in the dataset.
        image_size: side S of the square samples, in pixels.
        strengths: of the augmentation.
        seed: of all random numbers.
        strict: raise ImageError instead of replacing.
        crops: how often each image comes in an epoch, with other random numbers each time; once by default.

    Attributes:
        fields: of a sample: ``index`` and ``image`` (S, S, bands), to which a subclass adds its own.
        columns: random numbers that one sample takes.
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
        crops: Sequence[int] = (),
    ) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64)
        self._draws = self.indices  # whose random numbers a sample takes
        if len(crops):
            times = np.asarray(crops)
            rounds = [np.flatnonzero(times > number) for number in range(times.max())]
            chosen = self.indices[np.concatenate(rounds)]
            self._draws = chosen + np.repeat(np.arange(len(rounds)), list(map(len, rounds))) * len(dataset)
            self.indices = chosen
        self.image_size = image_size
        self.strengths = strengths
        self.seed = seed
        self.strict = strict
        self.fields: Fields = {
            "index": ((), np.int64),
            "image": ((image_size, image_size, len(dataset.bands)), dataset.dtype),
        }
        self.columns = VIEW_COLUMNS
        self._colours = colour_bands(dataset.bands)
        self._unreadable: dict[int, str] = {}  # by index
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def skipped(self) -> list[str]:
        """One line for each image that could not be read so far: its name and the reason."""
        with self._lock:
            known = self._unreadable
            return [known[index] for index in dict.fromkeys(self.indices.tolist()) if index in known] if known else []

    def fill(self, epoch: int, positions: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write the samples at ``positions`` (n,) of ``indices`` to the rows of ``out`` (n, ...)."""
        numbers = uniform(self.seed, epoch, self._draws[positions], self.columns)
        for row, position in enumerate(positions.tolist()):
            self._fill_row(position, numbers[row], {name: array[row, ...] for name, array in out.items()})

    def _fill_row(self, position: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write the image at ``position``, or the next one that can be read."""
        for step in range(len(self)):
            index = int(self.indices[(position + step) % len(self)])
            if index in self._unreadable:
                continue
            try:
                self.write(index, u, out)
            except ImageError as error:
                if self.strict:
                    raise
                with self._lock:
                    known = index in self._unreadable
                    self._unreadable[index] = str(error)
                if not known:
                    log.warning("skipped %s", error)
            else:
                out["index"][...] = index
                return
        raise DataError(
            f"none of {len(set(self.indices.tolist()))} photos can be read, the first because: {self.skipped[0]}"
        )

    def _write_view(self, index: int, u: np.ndarray, out: np.ndarray) -> None:
        """Write one augmented view of an image, from VIEW_COLUMNS numbers."""
        image = self.dataset.image(index)
        height, width = image.shape[:2]
        render_view(image, sample_view(u.tolist(), height, width, self.strengths), out, self._colours)

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Write one image of the dataset to the arrays of ``fields``, but for ``index``; an ImageError leaves it out.

        Args:
            u: (columns,) random numbers in [0, 1).
        """
        raise NotImplementedError


class TwoViews(Samples):
    """Two augmented views of each image: ``image`` (2, S, S, bands) and ``index``."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        shape, dtype = self.fields["image"]
        self.fields["image"] = (2, *shape), dtype
        self.columns = 2 * VIEW_COLUMNS

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        image = self.dataset.image(index)
        self.render(image, self.views(image, u), out["image"])

    def views(self, image: np.ndarray, u: np.ndarray) -> list[View]:
        """Parameters of two views of an image, from 2 * VIEW_COLUMNS numbers."""
        height, width = image.shape[:2]
        return [sample_view(numbers, height, width, self.strengths) for numbers in u.reshape(2, -1).tolist()]

    def render(self, image: np.ndarray, views: Sequence[View], out: np.ndarray) -> None:
        """Write both views (2, S, S, bands)."""
        for view, pixels in zip(views, out, strict=True):
            render_view(image, view, pixels, self._colours)


class MatchedViews(TwoViews):
    """Two augmented views of each image, and where some of its places lie in both.

    ``places`` (2, P, 2) are x and y of P random places in each view, as fractions of its sides; ``where`` (P, 2) are x
    and y of the same places in the image, as fractions of its diagonal. Views whose crops have too little in common are
    drawn again. Where that is so every time, ``matched`` is False, and the places of one view are not those of the
    other.

    Args:
        places: P.
        overlap: least fraction of the smaller crop that the other one shows too.
    """

    ATTEMPTS = 5

    def __init__(
        self, dataset: Dataset, indices: Sequence[int], *, places: int, overlap: float, **options: Any
    ) -> None:
        super().__init__(dataset, indices, **options)
        self.overlap = overlap
        self.fields |= {
            "places": ((2, places, 2), np.float32),
            "where": ((places, 2), np.float32),
            "matched": ((), np.bool_),
        }
        self.columns = self.ATTEMPTS * 2 * VIEW_COLUMNS + 2 * places

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        image = self.dataset.image(index)
        pairs, fractions = np.split(u, [self.ATTEMPTS * 2 * VIEW_COLUMNS])
        fractions = fractions.reshape(-1, 2)
        for numbers in np.split(pairs, self.ATTEMPTS):
            views = self.views(image, numbers)
            top, left, height, width = common_box(*views)
            smaller = min(view.box[2] * view.box[3] for view in views)
            if matched := height * width >= max(1, self.overlap * smaller):
                break
        self.render(image, views, out["image"])
        points = fractions * (width, height) + (left, top)
        out["matched"][...] = matched
        out["places"][...] = [view.locate(points) if matched else fractions for view in views]
        out["where"][...] = points / math.hypot(*image.shape[:2])


class CutViews(Samples):
    """One augmented view of each image, and where it is cut: ``image`` and ``cut`` (S, S, bands), and ``index``."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], *, cutout: Cutout, **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        self.cutout = cutout
        self.fields["cut"] = self.fields["image"][0], np.bool_
        self.columns = VIEW_COLUMNS + cutout.columns(self.image_size, bands=len(dataset.bands))

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        self._write_view(index, u[:VIEW_COLUMNS], out["image"])
        cut(u[VIEW_COLUMNS:], self.cutout, out["cut"])


class MixedViews(Samples):
    """One augmented view of each image and its share in a mixup: ``image`` (S, S, bands), ``mix`` in [0, 1), ``index``.

    What it is mixed with is its neighbour in the batch; that is left to whoever takes it.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        self.fields["mix"] = (), np.float32
        self.columns = VIEW_COLUMNS + 1

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        self._write_view(index, u[:VIEW_COLUMNS], out["image"])
        out["mix"][...] = u[VIEW_COLUMNS]


class MaskPairs(Samples):
    """Image and mask, cut and changed together: ``image``, ``mask`` (S, S) class ids and ``index``.

    Args:
        cutting: the way from an image to a square; padding has the id 255 in the mask.
    """

    def __init__(
        self, dataset: Dataset, indices: Sequence[int], *, cutting: Cutting | None = None, **options: Any
    ) -> None:
        super().__init__(dataset, indices, **options)
        self.cutting = cutting or Squashing()
        self.columns = self.cutting.columns
        self.fields["mask"] = (self.image_size, self.image_size), np.uint8

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        self.cutting.write(self.dataset, index, u, self.strengths, Square(out["image"], out["mask"]))


class Numbers(Samples):
    """Images by their ``index`` alone, for who reads them whole, at their own size."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        self.fields = {"index": ((), np.int64)}

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        pass


class Images(Samples):
    """Images squashed to a square: ``image`` (S, S, bands), ``index``, and ``label`` where the dataset has labels."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], **options: Any) -> None:
        super().__init__(dataset, indices, **options)
        if dataset.labels is not None:
            self.fields["label"] = (), np.int64

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        view = sample_view(u.tolist(), GRID, GRID, self.strengths)
        render_image(self.dataset.image(index), view, out["image"], self._colours)
        if self.dataset.labels is not None:
            out["label"][...] = self.dataset.labels[index]


class WeakAndStrong(Samples):
    """Unlabelled images for consistency: ``image`` is a weak view, changed as ``strengths`` say.

    ``strong`` (2, S, S, bands) are two strong views: the weak one, each recoloured and blurred in its own way.
    ``pasted`` (2, 4) says where each of them takes the pixels of the next image's: top, left, bottom and right of a
    rectangle, which is empty in half of the views (CutMix, Yun et al. 2019, for segmentation French et al. 2020). Where
    a view may hold padding, or an image nothing in places, ``shown`` (S, S) is False there.

    Args:
        cutting: the way from an image to a square.
    """

    PASTED = 0.5
    """Fraction of the views that something is pasted into."""
    AREA = (0.02, 0.4)
    """Of the rectangle, as a fraction of the view."""
    ASPECT = (0.3, 1 / 0.3)
    """Its width / height."""

    def __init__(
        self, dataset: Dataset, indices: Sequence[int], *, cutting: Cutting | None = None, **options: Any
    ) -> None:
        super().__init__(dataset, indices, **options)
        self.cutting = cutting or Squashing()
        shape, dtype = self.fields["image"]
        self.fields |= {"strong": ((2, *shape), dtype), "pasted": ((2, 4), np.int32)}
        self._held = BlankMasks(dataset) if dataset.has_blanks else None
        if self.cutting.pads or self._held is not None:
            self.fields["shown"] = shape[:2], np.bool_
        self.columns = self.cutting.columns + 2 * VIEW_COLUMNS + 2 * 5

    def write(self, index: int, u: np.ndarray, out: dict[str, np.ndarray]) -> None:
        weak, colours, boxes = np.split(u, np.cumsum([self.cutting.columns, 2 * VIEW_COLUMNS]))
        mask = None if self._held is None else np.empty(out["shown"].shape, np.uint8)
        square = Square(out["image"], mask)
        top, left, bottom, right = self.cutting.write(self._held or self.dataset, index, weak, self.strengths, square)
        if mask is not None:
            out["shown"][...] = mask != IGNORE
        elif "shown" in out:
            out["shown"][...] = False
            out["shown"][top:bottom, left:right] = True
        for number, (own, box) in enumerate(zip(colours.reshape(2, -1), boxes.reshape(2, -1), strict=True)):
            np.copyto(out["strong"][number], out["image"])
            inner = np.ascontiguousarray(out["strong"][number][top:bottom, left:right])
            recolour(inner, sample_view(own.tolist(), GRID, GRID, STRONG), self._colours)
            out["strong"][number][top:bottom, left:right] = inner
            out["pasted"][number] = self._rectangle(*box.tolist())

    def _rectangle(self, chance: float, area: float, aspect: float, down: float, right: float) -> tuple[int, ...]:
        if chance >= self.PASTED:
            return 0, 0, 0, 0
        side, (least, most), (narrow, wide) = self.image_size, self.AREA, self.ASPECT
        pixels = (least + (most - least) * area) * side**2
        ratio = narrow * (wide / narrow) ** aspect
        height, width = (min(side, max(1, round(math.sqrt(pixels * f)))) for f in (1 / ratio, ratio))
        top, left = int(down * (side - height + 1)), int(right * (side - width + 1))
        return top, left, top + height, left + width


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of them, evenly: neighbours in a folder look alike."""
    count = min(count, len(indices))
    return [indices[place * len(indices) // count] for place in range(count)]
