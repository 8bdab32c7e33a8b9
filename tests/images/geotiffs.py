"""GeoTIFFs with any tags, as writers of all kinds leave them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tifffile

SCALE, TIE_POINTS, MATRIX, KEYS, NODATA, METADATA = 33550, 33922, 34264, 34735, 42113, 42112
UTM = {
    SCALE: (10.0, 10.0, 0.0),
    TIE_POINTS: (0.0, 0.0, 0.0, 500_000.0, 5_400_000.0, 0.0),
    KEYS: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633),
}
"""Pixels of 10 m in UTM zone 33 north, whose upper left corner is at (500,000, 5,400,000)."""


def geotiff(
    pixels: np.ndarray,
    tags: Mapping[int, Sequence[float] | str] = UTM,
    *,
    names: Sequence[str] = (),
    orientation: int = 1,
    **options: Any,
) -> bytes:
    """A TIFF of (H, W[, bands]) with tags by their number.

    Args:
        names: descriptions of the bands, as GDAL writes them.
        options: of ``tifffile``.
    """
    if names:
        items = (
            f'<Item name="DESCRIPTION" sample="{n}" role="description">{name}</Item>' for n, name in enumerate(names)
        )
        tags = {**tags, METADATA: f"<GDALMetadata>{''.join(items)}</GDALMetadata>"}
    extra: list[tuple[int, str, int, Any, bool]] = []
    for tag, values in tags.items():
        if isinstance(values, str):
            extra.append((tag, "s", 0, values.encode("latin-1"), True))
        else:
            kind, of_kind = ("H", int) if tag == KEYS else ("d", float)
            extra.append((tag, kind, len(values), [*map(of_kind, values)], True))
    if orientation != 1:
        extra.append((274, "H", 1, orientation, True))
    is_photo = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    settings = {"photometric": "rgb" if is_photo else "minisblack", "planarconfig": "contig", "metadata": None}
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=options.pop("bigtiff", False)) as writer:
        writer.write(pixels, extratags=extra, **(settings | options))
    return file.getvalue()
