"""Patches of Sentinel-2, as BigEarthNet has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDES = {"B01": 20, "B09": 20} | dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 60)
NAMES = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


def write_patch(root: Path, name: str, value: int = 0) -> None:
    """A patch whose bands are slopes from left to right, each from its own number on."""
    folder = root / name
    folder.mkdir(parents=True)
    for number, band in enumerate(NAMES):
        side = SIDES.get(band, 120)
        slope = (np.arange(side) + 0.5) / side * 1200 + 100 * number + value
        samples = np.tile(slope, (side, 1)).astype(np.uint16)
        Image.fromarray(samples).save(folder / f"{name}_{band}.tif")
