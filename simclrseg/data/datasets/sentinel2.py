"""Pictures of the Sentinel-2 satellites: bands by name, and reflectances as numbers."""

from __future__ import annotations

import numpy as np

from simclrseg.images.decode import Pixels

BANDS = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge071",
    "B06": "rededge075",
    "B07": "rededge078",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
}
"""Its own names -> common ones, those of the STAC extension for electro-optical bands."""
FULL_SCALE = 10_000
"""The number that stands for a reflectance of 1, in products of both levels (1C and 2A)."""


def clip_reflectance(samples: Pixels) -> Pixels:
    """Cut reflectances above 1 off: clouds, glint and saturated detectors, which would stretch every statistic.

    Below, the numbers stay as they are: 16 bits, with all their steps.
    """
    return np.minimum(samples, np.uint16(FULL_SCALE))
