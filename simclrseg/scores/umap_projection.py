"""Features as points in the plane by UMAP. Importing this needs umap-learn, so that its absence is told early."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import UsageError

try:
    from umap import UMAP
except ImportError as error:
    raise UsageError("--embed umap needs umap-learn", "pip install 'simclrseg[umap]'", option="embed") from error

NEIGHBOURS = 15


def umap(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """Neighbours stay neighbours (McInnes et al. 2018), with umap-learn's defaults and seed 0: (N, D) -> (N, 2)."""
    # one thread, because more of them do not repeat
    points: NDArray[np.floating] = UMAP(
        n_neighbors=min(NEIGHBOURS, len(features) - 1), random_state=0, n_jobs=1
    ).fit_transform(features)
    return points
