"""Random numbers as a function of (seed, epoch, image, column): no state, so any thread can draw them in any order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15  # the odd step of SplitMix64: 2^64 / golden ratio
_MASK = (1 << 64) - 1
_ORDER_COLUMN = 1 << 32  # beyond the columns that samples use


def uniform(seed: int, epoch: int, indices: np.ndarray, columns: int) -> np.ndarray:
    """Draw ``columns`` numbers for each image (SplitMix64, Steele et al. 2014, keyed by seed, epoch and index).

    Args:
        indices: (n,) image indices in the dataset.

    Returns:
        (n, columns) float64, uniform in [0, 1). A row depends on its own index only.
    """
    bits = _bits(seed, epoch, indices, np.arange(columns, dtype=np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53  # the 53 bits that a double holds


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """A random order of ``range(n)``: (n,) int64."""
    keys = _bits(seed, epoch, np.arange(n), np.array([_ORDER_COLUMN], dtype=np.uint64))[:, 0]
    return np.argsort(keys, kind="stable").astype(np.int64)


def _bits(seed: int, epoch: int, indices: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n, columns) uint64 of random bits."""
    key = _mix(np.array([seed & _MASK], dtype=np.uint64))
    key = _mix(key + np.uint64((epoch + 1) * _GOLDEN & _MASK))
    golden = np.uint64(_GOLDEN)
    image = _mix(key + (np.asarray(indices).astype(np.uint64) + np.uint64(1)) * golden)  # (n,)
    return _mix(image[:, None] + (columns + np.uint64(1)) * golden)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer, a bijection of 64-bit words in which each input bit flips half of the output bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
