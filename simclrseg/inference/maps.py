"""Outputs that lie on the earth as their picture does: a GeoTIFF of class ids, and polygons. Never imports torch."""

from __future__ import annotations

import html
import json
import logging
import math
import zlib
from typing import Any

import numpy as np

from simclrseg.images.geography import NODATA, TEXTS, Geography, pixel_area
from simclrseg.inference.outputs import Objects, Output, Strip, class_colours, likeliest
from simclrseg.labels.outlines import Corners, Part, parts_of
from simclrseg.metadata import IGNORE
from simclrseg.text import printable

log = logging.getLogger(__name__)

MANY = 100_000
"""Polygons of a picture, from which on it is said that they are many."""
_METADATA = 42112  # GDAL's tag of names
_SHORTS = 34735  # the only one of GeoTIFF's tags of such numbers
_STRIP = 1 << 18  # pixels that are packed together
_BIG = (1 << 32) - (1 << 25)  # bytes, beyond which a plain TIFF cannot say where they are
_WGS84 = 4326
_CRS84 = "urn:ogc:def:crs:OGC:1.3:CRS84"  # the same with the longitude first, as GeoJSON has it
_NOWHERE = "it does not say where it lies, so that"
_DIGITS = 4  # of a pixel's side, that coordinates keep


class GeoTiff(Output):
    """Class ids with the classes' colours and the picture's georeference; 255 where the picture holds nothing."""

    suffixes = (".tif", ".tiff")
    stands_for = "mask"
    has_place = True

    @classmethod
    def lacks(cls, geography: Geography | None) -> str:
        return "" if geography and geography.is_placed else f"{_NOWHERE} its mask is a plain TIFF"

    def begin(self) -> None:
        width = self.subject.size[1]
        self._rows = max(1, _STRIP // width)
        self._strips: list[bytes] = []  # packed: of a mask there is little left
        self._waiting: list[np.ndarray] = []

    def add(self, strip: Strip) -> None:
        mask = strip.mask
        if strip.blank is not None:
            mask = np.where(strip.blank, np.uint8(IGNORE), mask)
        for top in range(0, len(mask), self._rows):
            self._waiting.append(mask[top : top + self._rows])
            while (count := sum(map(len, self._waiting))) >= self._rows:
                rows = np.concatenate(self._waiting)
                self._pack(rows[: self._rows])
                self._waiting = [rows[self._rows :]] if count > self._rows else []

    def _pack(self, rows: np.ndarray) -> None:
        self._strips.append(zlib.compress(rows.tobytes(), 6))

    def end(self) -> None:
        import tifffile

        if self._waiting:
            self._pack(np.concatenate(self._waiting))
        colours = np.zeros((3, 256), np.uint16)
        for label, colour in enumerate(class_colours(self.subject.metadata)):
            colours[:, label] = np.array(colour, np.uint16) * 257
        bigtiff = sum(map(len, self._strips)) > _BIG
        with tifffile.TiffWriter(self.file, bigtiff=bigtiff, shaped=False) as writer:
            writer.write(
                iter(self._strips),
                shape=self.subject.size,
                dtype=np.uint8,
                photometric="palette",
                colormap=colours,
                compression="adobe_deflate",
                rowsperstrip=self._rows,
                software=False,
                metadata=None,
                extratags=self._tags(),
            )

    def _tags(self) -> list[tuple[int, str, int, Any, bool]]:
        """Place, names of the classes, and the value of pixels that hold nothing, as tifffile takes tags."""
        tags: list[tuple[int, str, int, Any, bool]] = []
        for tag, values in (self.subject.geography.tags if self.subject.geography else {}).items():
            if tag == TEXTS or isinstance(values, str):
                tags.append((tag, "s", 0, str(values).encode("latin-1", "replace"), True))
            elif tag == _SHORTS:
                tags.append((tag, "H", len(values), [int(value) for value in values], True))
            else:
                tags.append((tag, "d", len(values), list(values), True))
        names = (html.escape(html.escape(printable(name))) for name in self.subject.classes)  # GDAL, too, does so twice
        items = "".join(f'<Item name="CLASS_{label}">{name}</Item>' for label, name in enumerate(names))
        tags.append((_METADATA, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>".encode(), True))
        if self.subject.holed:
            tags.append((NODATA, "s", 0, str(IGNORE).encode(), True))
        return tags


class GeoJson(Objects):
    """A polygon for each part of a class but the first, in the picture's coordinates, with its class and its size."""

    suffixes = (".geojson",)
    stands_for = "mask"
    has_place = True

    @classmethod
    def lacks(cls, geography: Geography | None) -> str:
        if geography is None or not geography.is_placed:
            return f"{_NOWHERE} its coordinates are pixels"
        if geography.affine is None:
            return "it has tie points alone, so that its coordinates are pixels: gdalwarp gives it a grid"
        return "" if geography.epsg is not None else f"it has {geography.system}, so that no crs member names it"

    def begin(self) -> None:
        super().begin()
        self._sure = np.empty(self.subject.size, np.uint8)  # the likeliest class's probability, times 255

    def add(self, strip: Strip) -> None:
        super().add(strip)
        sure = likeliest(strip.probability)
        if strip.probability.ndim == 2:  # of the foreground, whatever the threshold
            sure = np.where(strip.mask > 0, strip.probability, 1 - strip.probability)
        self._sure[strip.top : strip.top + len(strip.mask)] = sure * 255 + 0.5

    def end(self) -> None:
        """Write the features one by one: of a large mask they are many."""
        geography = self.subject.geography
        head: dict[str, Any] = {"type": "FeatureCollection"}
        if geography is not None and geography.affine is not None and geography.epsg is not None:
            name = _CRS84 if geography.epsg == _WGS84 else f"urn:ogc:def:crs:EPSG::{geography.epsg}"
            head["crs"] = {"type": "name", "properties": {"name": name}}
        self.file.write(f'{json.dumps(head)[:-1]}, "features": ['.encode())
        between = b"\n"
        for number, part in enumerate(parts_of(self._mask, self.labels, self._sure)):
            if number == MANY:
                log.warning(
                    f"{self.subject.name}: more than {MANY:,} polygons, as of noise: a million takes a minute or more "
                    "and 300 MB; --as geotiff holds the same pixels in less"
                )
            self.file.write(between + json.dumps(self._feature(part)).encode())
            between = b",\n"
        self.file.write(b"\n]}\n")

    def _feature(self, part: Part) -> dict[str, Any]:
        geography, name = self.subject.geography, self.subject.classes[part.label]
        found = {"class": name, "class_id": part.label, "pixels": part.area, "probability": round(part.mean / 255, 4)}
        if geography is not None and geography.affine is not None and geography.projected:
            found["area"] = float(f"{part.area * pixel_area(geography.affine):.10g}")
        rings = [self._on_earth(ring) for ring in (part.outline, *part.holes)]
        geometry = {"type": "Polygon", "coordinates": rings}
        return {"type": "Feature", "properties": found, "geometry": geometry}

    def _on_earth(self, ring: Corners) -> list[list[float]]:
        """Corners as coordinates, the first again at the end: outlines counter-clockwise, as RFC 7946 has it."""
        geography = self.subject.geography
        affine = geography.affine if geography is not None else None
        a, b, c, d, e, f = affine or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        x, y = ring.T
        digits = max(0, _DIGITS - math.floor(math.log10(min(math.hypot(a, d), math.hypot(b, e))))) if affine else 0
        points = np.stack([a * x + b * y + c, d * x + e * y + f], axis=1).round(min(digits, 15))
        points = points if a * e - b * d < 0 else points[::-1]  # as images are, with y downwards
        found: list[list[float]] = [*points.tolist(), points[0].tolist()]
        return found
