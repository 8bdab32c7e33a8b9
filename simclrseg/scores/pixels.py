"""Counts and sums of one segmented image, from which every metric and interval follows.

Images are stacked along the first axis, N. Sums over images give micro averages; single images give theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.inference.tiling import to_mask
from simclrseg.metadata import IGNORE
from simclrseg.metrics.counts import class_metrics, confusion_matrix, mean_of_known, ratio, segmentation_metrics
from simclrseg.scores.intervals import Floats

AT_ONCE = 1 << 24
"""Pixels of an image whose boundaries are found together."""
BOUNDARY = 0.02
"""Width of the band along a boundary, as a share of the image's diagonal (Cheng et al. 2021, §4.2)."""
FOCUS = 2.0
"""Exponent of the focal loss (Lin et al. 2017, eq. 4), without class weights."""
SMALLEST = 1e-7
"""Probability below which the true class costs no more: of float32, the sigmoid of a logit below -16 is nearly 0."""
THRESHOLDS = np.arange(1, 100) / 100
_TOGETHER = 1 << 18  # pixels that are brought to hundredths at once
Resolution = Literal["training", "original"]
RESOLUTIONS: tuple[Resolution, ...] = ("training", "original")
"""Where pixels are counted: in the squares that the network sees, or in the images as they are."""


@dataclass(frozen=True)
class Pixels:
    """Counts and sums of N images, or of R resamples of them.

    Attributes:
        confusion: (N, C, C) pixels by true and predicted class.
        boundary: (N, C, 2) intersection and union of the bands along the true and the predicted boundary.
        overlap: (N, C, 2) sum of p·y and of p + y over pixels, p the probability and y the truth of a class.
        losses: (N, 2) sums over pixels of the cross entropy, -ln p of the true class, and of the focal loss.
        probability: (N, 2, 100) pixels by true class and hundredth of the foreground's probability, rounded up; zeros
            for more than two classes, which have no threshold.
    """

    confusion: Floats
    boundary: Floats
    overlap: Floats
    losses: Floats
    probability: Floats

    def __len__(self) -> int:
        return len(self.confusion)

    @classmethod
    def of(
        cls, probability: NDArray[np.float32], mask: NDArray[np.uint8], threshold: float | None, classes: int
    ) -> Self:
        """Count one image.

        Args:
            probability: (H, W) of the foreground, or (C, H, W).
            mask: (H, W) true class ids; 255 counts nowhere.
            threshold: probability above which a pixel is foreground.
        """
        return cls.of_strips([(0, probability)], mask, threshold, classes)

    @classmethod
    def of_strips(
        cls,
        strips: Iterable[tuple[int, NDArray[np.float32]]],
        mask: NDArray[np.uint8],
        threshold: float | None,
        classes: int,
    ) -> Self:
        """Count one image whose probabilities come in strips of whole rows, each with the number of rows above it."""
        decided = np.empty(mask.shape, np.uint8)
        sums: list[Any] | None = None
        for top, probability in strips:
            rows = slice(top, top + probability.shape[-2])
            decided[rows] = to_mask(probability, threshold)
            parts = _sums(probability, decided[rows], mask[rows], classes)
            sums = parts if sums is None else [total + part for total, part in zip(sums, parts, strict=True)]
        assert sums is not None
        confusion, *others = sums
        one = (confusion, _boundaries(decided, mask, classes), *others)
        return cls(*(np.asarray(part, np.float64)[None] for part in one))

    @classmethod
    def stack(cls, images: Sequence[Self], classes: int) -> Self:
        """Several images, or none."""
        empty = ((0, classes, classes), (0, classes, 2), (0, classes, 2), (0, 2), (0, 2, 100))
        columns = (
            [np.zeros(shape), *(getattr(image, field.name) for image in images)]
            for shape, field in zip(empty, fields(cls), strict=True)
        )
        return cls(*(np.concatenate(column) for column in columns))

    def summed(self, weights: Floats) -> Self:
        """Sums of resamples: weights (R, N) -> R rows."""
        flat = (getattr(self, field.name) for field in fields(self))
        return type(self)(*((weights @ part.reshape(len(self), -1)).reshape(-1, *part.shape[1:]) for part in flat))

    def total(self) -> Self:
        """Sum over all images, as one row."""
        return self.summed(np.ones((1, len(self))))

    def metrics(self, *, empty: float = 1.0) -> dict[str, Any]:
        """Every metric of every row, (N,) each; the first is higher-is-better.

        Of two classes those of the foreground; of more the means over the classes that occur. The Dice loss is over
        the classes that are in the masks, as in training, and 0 where there is none.

        Args:
            empty: what an image counts where there is nothing to find and nothing was found.
        """
        counted = self.confusion.sum((-2, -1))
        if self.confusion.shape[-1] == 2:
            nothing = np.where(self.confusion[:, 1].sum(-1) + self.confusion[:, 0, 1] == 0, empty, 0.0)
            boundary = ratio(self.boundary[:, 1, 0], self.boundary[:, 1, 1], nothing)
            dice = np.where(self.confusion[:, 1].sum(-1) > 0, self._dice[:, 1], 1.0)
        else:
            boundary = mean_of_known(self.by_class()["boundary_iou"])
            dice = mean_of_known(np.where(self.confusion.sum(-1) > 0, self._dice, np.nan))
        cross_entropy, focal = np.moveaxis(self.losses, -1, 0)
        return {
            **segmentation_metrics(self.confusion, empty=empty),
            "boundary_iou": boundary,
            "bce" if self.confusion.shape[-1] == 2 else "ce": ratio(cross_entropy, counted, 0.0),
            "focal_loss": ratio(focal, counted, 0.0),
            "dice_loss": 1 - dice,
        }

    def by_class(self) -> dict[str, Floats]:
        """The metrics of each class, (N, C) each; NaN where it is neither in the masks nor predicted."""
        metrics = class_metrics(self.confusion)
        boundary = ratio(self.boundary[..., 0], self.boundary[..., 1], 0.0)
        return {**metrics, "boundary_iou": np.where(np.isnan(metrics["iou"]), np.nan, boundary)}

    @property
    def _dice(self) -> Floats:
        """(N, C) 2 sum(p·y) / sum(p + y)."""
        return ratio(2 * self.overlap[..., 0], self.overlap[..., 1], 0.0)

    def at_thresholds(self) -> Floats:
        """(N, 99, 2, 2) confusion of two classes at the thresholds 0.01 ... 0.99."""
        above = self.probability[..., ::-1].cumsum(-1)[..., ::-1][..., 1:]  # (N, 2, 99): pixels with p > t
        below = self.probability.sum(-1, keepdims=True) - above
        return np.stack([below, above], axis=-1).transpose(0, 2, 1, 3)


def _sums(probability: np.ndarray, decided: np.ndarray, mask: np.ndarray, classes: int) -> list[Any]:
    """The counts and sums of some rows but for their boundaries, in the order of ``Pixels``."""
    counted = mask != IGNORE
    confusion = confusion_matrix(decided, mask, classes)  # refuses class ids that the model does not have
    truth = mask[counted]
    histogram = np.zeros((2, 100))
    if probability.ndim == 2:
        p = probability[counted].astype(np.float64)
        of_truth = 1 - p
        sums = np.array([of_truth.sum(), p.sum()])
        np.copyto(of_truth, p, where=truth == 1)
        _count_hundredths(p, truth, histogram)
        del p  # whatever a strip takes is in memory beside its image
    else:
        both = probability[:, counted]  # (C, n)
        of_truth = both[truth, np.arange(len(truth))].astype(np.float64)
        sums = both.sum(axis=1, dtype=np.float64)
        if classes == 2:
            _count_hundredths(both[1], truth, histogram)
        del both
    products = np.bincount(truth, weights=of_truth, minlength=classes)
    surprise = np.clip(of_truth, SMALLEST, 1.0)
    np.negative(np.log(surprise, out=surprise), out=surprise)
    focal = np.subtract(1, of_truth, out=of_truth)
    focal **= FOCUS
    focal *= surprise
    sizes = confusion.sum(axis=1)
    return [
        confusion,
        np.stack([products, sums + sizes], axis=1),
        np.array([surprise.sum(), focal.sum()]),
        histogram,
    ]


def _count_hundredths(p: np.ndarray, truth: np.ndarray, histogram: np.ndarray) -> None:
    """Add to (2, 100) the pixels (n,) by true class and hundredth of the foreground's probability, rounded up."""
    for first in range(0, len(p), _TOGETHER):
        part = slice(first, first + _TOGETHER)
        hundredth = np.clip(np.ceil(p[part] * 100).astype(np.intp) - 1, 0, 99)
        histogram += np.bincount(truth[part] * 100 + hundredth, minlength=200).reshape(2, 100)


def _boundaries(decided: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """(C, 2) intersection and union of the bands along the boundaries, among the counted pixels."""
    height, width = mask.shape
    distance = max(1, round(BOUNDARY * float(np.hypot(height, width))))
    rows = height if mask.size <= AT_ONCE else max(4 * distance, AT_ONCE // (4 * width))
    result = np.zeros((classes, 2))
    for top in range(0, height, rows):  # of a large image, with as much above and below as a band depends on
        first, last = max(0, top - distance - 1), min(height, top + rows + distance + 1)
        inner = slice(top - first, min(top + rows, height) - first)
        counted = mask[first:last][inner] != IGNORE
        parts = mask[first:last], decided[first:last]
        for k in {*np.unique(parts[0][inner][counted]), *np.unique(parts[1][inner][counted])}:
            bands = [_band((labels == k).astype(np.uint8), distance)[inner] & counted for labels in parts]
            result[k] += (bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()
    return result


def _band(region: NDArray[np.uint8], distance: int) -> NDArray[np.bool_]:
    """The pixels of a region that are within ``distance`` of its boundary; the image's edge is one too.

    As in the authors' code: what erosion by a 3x3 square, ``distance`` times, takes away.
    """
    padded = cv2.copyMakeBorder(region, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # the distance by rows and columns, whichever is more, to the nearest pixel outside: what the squares take away
    away = cv2.distanceTransform(padded, cv2.DIST_C, 3)[1:-1, 1:-1]
    band: NDArray[np.bool_] = (region != 0) & (away <= distance)
    return band
