"""Where a TIFF lies on the earth, and which of its pixels hold nothing: GeoTIFF's tags, as GDAL reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

Tags = dict[int, tuple[float, ...] | str]
"""Numbers by the tag, and text of ``TEXTS``."""
Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): the corner of pixels at (column, row) lies at x = a column + b row + c, y = d column + e row + f.
"""
SCALE, TIE_POINTS, MATRIX, KEYS, NUMBERS, TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
NODATA = 42113
_NAMES = {
    SCALE: "ModelPixelScale",
    TIE_POINTS: "ModelTiepoint",
    MATRIX: "ModelTransformation",
    KEYS: "GeoKeyDirectory",
    NODATA: "GDAL_NODATA",
}
_MODEL, _RASTER, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072  # GeoKeys
_POINT = 2  # of _RASTER: a pixel's coordinates are those of its centre
_OWN = 32767  # a code that says that there is none
_IS_PROJECTED, _IS_GEOGRAPHIC = 1, 2  # of _MODEL
_FARTHEST = 1e12  # of coordinates, in any unit
_CLOSE = 1e-6  # pixels by which two ways to say where an image lies may differ


@dataclass(frozen=True)
class Geography:
    """What the tags of a TIFF say of its place.

    Attributes:
        tags: those that are whole, to be written again as they are.
        affine: None where there is none, as where an image has many tie points.
        epsg: the code of its coordinate system; None where it has none, or no code.
        projected: True where its coordinates are lengths, not degrees.
        nodata: the value of pixels that hold nothing; NaN is possible.
        doubts: what is damaged or contradicts itself, and so left out.
    """

    tags: Mapping[int, tuple[float, ...] | str]
    affine: Affine | None = None
    epsg: int | None = None
    projected: bool = False
    nodata: float | None = None
    doubts: tuple[str, ...] = ()

    @property
    def is_placed(self) -> bool:
        """Tell whether it says where the image lies, or in which coordinates."""
        return bool(self.tags)

    @property
    def system(self) -> str:
        """The coordinate system in a word."""
        if self.epsg is not None:
            return f"EPSG:{self.epsg}"
        return "a coordinate system without a code" if KEYS in self.tags else "coordinates of no named system"

    def turned(self, orientation: int, size: tuple[int, int]) -> Geography:
        """The same for pixels that were turned upright.

        Args:
            orientation: EXIF's, 1 to 8, in which the file stores them.
            size: (height, width) as it stores them.
        """
        if orientation == 1 or not self.is_placed:
            return self
        kept = {tag: value for tag, value in self.tags.items() if tag not in (SCALE, TIE_POINTS, MATRIX)}
        if self.affine is None:
            doubts = (*self.doubts, "its tie points are those of the stored pixels (--keep-orientation keeps them)")
            return replace(self, tags={} if TIE_POINTS in self.tags else kept, doubts=doubts)
        a, b, c, d, e, f = self.affine
        g, h, i, j, k, m = _stored_from_upright(orientation, size)
        turned = (a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f)
        shift = 0.5 if _short_keys(self.tags.get(KEYS, ())).get(_RASTER) == _POINT else 0.0
        a, b, c, d, e, f = turned
        c, f = c + shift * (a + b), f + shift * (d + e)
        kept[MATRIX] = (a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        return replace(self, tags=kept, affine=turned)


def geography_of(tags: ImageFileDirectory_v2) -> Geography | None:
    """What the tags of a TIFF's first page say of its place; None where they say nothing. Never raises."""
    if not any(tag in tags for tag in _NAMES):
        return None
    doubts: list[str] = []
    scale, points, matrix = (_numbers(tags, tag, doubts) for tag in (SCALE, TIE_POINTS, MATRIX))
    if scale and (len(scale) != 3 or not scale[0] or not scale[1]):
        scale = _left_out(SCALE, scale, "3 that are not 0", doubts)
    if points and len(points) % 6:
        points = _left_out(TIE_POINTS, points, "6 for each point", doubts)
    if matrix and (len(matrix) != 16 or not pixel_area(_of_matrix(matrix))):
        matrix = _left_out(MATRIX, matrix, "16 of a plane", doubts)
    if scale and not points:
        scale = () if doubts else _left_out(SCALE, scale, "a tie point beside them", doubts)
    if scale and matrix:  # GDAL, too, takes the former
        one, other = _of_scale(scale, points), _of_matrix(matrix)
        off = max(abs(x - y) for x, y in zip(one, other, strict=True))
        if off > _CLOSE * math.sqrt(pixel_area(one)):
            doubts.append("its ModelTransformation contradicts its ModelPixelScale and ModelTiepoint, which count")
        matrix = ()
    keys, system = _system(tags, doubts)
    affine = _of_scale(scale, points) if scale else _of_matrix(matrix) if matrix else None
    if affine is not None and not (max(map(abs, affine)) < _FARTHEST and pixel_area(affine) > 0):
        doubts.append("its coordinates are out of all bounds")
        affine, scale, points, matrix = None, (), (), ()
    if affine is not None and keys.get(_RASTER) == _POINT:
        a, b, c, d, e, f = affine
        affine = (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
    if matrix:
        points = ()  # of which a reader would make another place
    placed: dict[int, tuple[float, ...] | str] = dict(
        zip((SCALE, TIE_POINTS, MATRIX), (scale, points, matrix), strict=True)
    )
    epsg = keys.get(_PROJECTED if keys.get(_MODEL) == _IS_PROJECTED else _GEOGRAPHIC)
    return Geography(
        tags={tag: value for tag, value in (placed | system).items() if value},
        affine=affine,
        epsg=epsg if epsg not in (None, 0, _OWN) else None,
        projected=keys.get(_MODEL) != _IS_GEOGRAPHIC,
        nodata=_nodata(tags, doubts),
        doubts=tuple(doubts),
    )


def _system(tags: ImageFileDirectory_v2, doubts: list[str]) -> tuple[dict[int, int], Tags]:
    """The GeoKeys that are whole numbers, and the tags that hold all; nothing where they do not fit one another."""
    if KEYS not in tags:
        return {}, {}
    values, numbers, texts = _numbers(tags, KEYS, doubts), _numbers(tags, NUMBERS, []), _text(tags, TEXTS)
    entries = [values[at : at + 4] for at in range(4, len(values) - 3, 4)]
    lengths = {0: 1, NUMBERS: len(numbers), TEXTS: len(texts.encode("latin-1", "replace")) + 1, KEYS: len(values)}
    fits = (
        len(values) >= 4
        and values[0] == 1
        and len(entries) >= values[3]
        and not any(value % 1 or value < 0 for value in values)
    )
    for _, place, count, at in entries[: int(values[3])] if fits else ():
        fits = fits and place in lengths and (place == 0 or at + count <= lengths[int(place)])
    if not fits:
        if values:
            doubts.append("its GeoKeyDirectory is damaged, and with it the coordinate system")
        return {}, {}
    found: Tags = {KEYS: values, NUMBERS: numbers, TEXTS: texts}
    return _short_keys(values), found


def _short_keys(values: Sequence[float] | str) -> dict[int, int]:
    """The GeoKeys whose values stand among them, as whole numbers do."""
    whole = [int(value) for value in values]
    return {whole[at]: whole[at + 3] for at in range(4, len(whole) - 3, 4) if whole[at + 1] == 0}


def _numbers(tags: ImageFileDirectory_v2, tag: int, doubts: list[str]) -> tuple[float, ...]:
    """The numbers of a tag; none, and a doubt, where they are no finite numbers."""
    if tag not in tags:
        return ()
    try:
        found = tags[tag]
        values = tuple(float(value) for value in (found if isinstance(found, tuple | list) else (found,)))
        if values and all(map(math.isfinite, values)):
            return values
    except Exception:  # damaged tags raise about anything
        pass
    doubts.append(f"its {_NAMES.get(tag, tag)} holds no numbers")
    return ()


def _left_out(tag: int, values: Sequence[float], needed: str, doubts: list[str]) -> tuple[float, ...]:
    shown = ", ".join(f"{value:g}" for value in values[:6]) + (", …" if len(values) > 6 else "")
    doubts.append(f"its {_NAMES[tag]} has {len(values)} numbers ({shown}), and needs {needed}")
    return ()


def _text(tags: ImageFileDirectory_v2, tag: int) -> str:
    try:
        found: Any = tags.get(tag, "")
    except Exception:  # as above
        return ""
    return found.strip("\0") if isinstance(found, str) else ""


def _nodata(tags: ImageFileDirectory_v2, doubts: list[str]) -> float | None:
    if NODATA not in tags:
        return None
    text = _text(tags, NODATA).strip()
    try:
        return float(text)
    except ValueError:
        doubts.append(f"its GDAL_NODATA ({text[:20]!r}) is no number")
        return None


def _of_scale(scale: Sequence[float], points: Sequence[float]) -> Affine:
    wide, high = scale[0], abs(scale[1])  # y goes up, whatever the sign, as for GDAL
    column, row, _, x, y, _ = points[:6]
    return wide, 0.0, x - column * wide, 0.0, -high, y + row * high


def _of_matrix(matrix: Sequence[float]) -> Affine:
    a, b, _, c, d, e, _, f = [*matrix, *[0.0] * 8][:8]
    return a, b, c, d, e, f


def pixel_area(affine: Affine) -> float:
    """The area of a pixel, in square units of the coordinates."""
    a, b, _, d, e, _ = affine
    return abs(a * e - b * d)


def _stored_from_upright(orientation: int, size: tuple[int, int]) -> Affine:
    height, width = size
    affine: Affine = {
        2: (-1, 0, width, 0, 1, 0),
        3: (-1, 0, width, 0, -1, height),
        4: (1, 0, 0, 0, -1, height),
        5: (0, 1, 0, 1, 0, 0),
        6: (0, 1, 0, -1, 0, height),
        7: (0, -1, width, -1, 0, height),
        8: (0, -1, width, 1, 0, 0),
    }[orientation]
    return affine
