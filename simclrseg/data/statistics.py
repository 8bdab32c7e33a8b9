"""Mean and standard deviation of every band, over photos that are learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.data.randomness import permutation
from simclrseg.errors import DataError, ImageError
from simclrseg.system.threads import map_in_threads

MOST = 10_000
"""Photos that are looked at: more move no digit that matters."""
_SMALLEST = 1e-3  # of a standard deviation: a band that is the same everywhere must not be blown up


def band_statistics(
    dataset: Dataset, indices: Sequence[int], *, threads: int, most: int = MOST
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of photos at their own size; each counts the same, however large it is.

    Args:
        indices: the photos; of more than ``most`` a sample that depends on nothing but their number.

    Returns:
        Means and standard deviations by band, of pixels divided by the full scale.

    Raises:
        DataError: if none of them can be read.
    """
    chosen = [indices[place] for place in permutation(0, 0, len(indices))[:most]]
    found = map_in_threads(lambda index: _moments(dataset, index), chosen, threads=threads)
    moments = [pair for pair in found if pair is not None]
    if not moments:
        raise DataError(f"{dataset.name}: none of {len(chosen):,} photos can be read, so that they have no mean")
    first, second = np.mean(moments, axis=0)  # (2, bands)
    deviation = np.sqrt(np.maximum(second - first**2, 0))
    return tuple(first.tolist()), tuple(np.maximum(deviation, _SMALLEST).tolist())


def _moments(dataset: Dataset, index: int) -> np.ndarray | None:
    """(2, bands): means of the values and of their squares; None for a photo that cannot be read."""
    try:
        pixels = dataset.image(index).reshape(-1, len(dataset.bands)) / dataset.full_scale
    except ImageError:  # the loader names it
        return None
    return np.stack([pixels.mean(axis=0), np.square(pixels).mean(axis=0)])
