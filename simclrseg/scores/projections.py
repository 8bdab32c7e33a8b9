"""Features as points in the plane, and how far apart the classes lie in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pca(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """The two directions in which features vary most: (N, D) -> (N, 2)."""
    centred = features - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2] * np.sign(directions[:2].sum(axis=1, keepdims=True))  # svd leaves the sign open
    points: NDArray[np.floating] = centred @ directions.T
    return points


def silhouette(features: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean silhouette of the classes in cosine distance (Rousseeuw 1987), in [-1, 1]; higher is further apart.

    Features are (N, D). NaN with fewer than two classes. A class of one sample counts as 0.
    """
    _, ids, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return float("nan")
    x = features.astype(np.float64)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    # (N, K) sum of the distances to all samples of a class: the mean of its unit vectors is enough
    sums = sizes - x @ np.stack([x[ids == k].sum(axis=0) for k in range(len(sizes))]).T
    rows = np.arange(len(x))
    inside = sums[rows, ids] / np.maximum(sizes[ids] - 1, 1)
    sums[rows, ids] = np.inf
    outside = (sums / sizes).min(axis=1)
    values = (outside - inside) / np.maximum(np.maximum(outside, inside), 1e-12)
    return float(np.where(sizes[ids] == 1, 0.0, values).mean())
