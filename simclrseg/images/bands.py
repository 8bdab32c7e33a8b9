"""Bands of images: their names, in tags and in a file beside them, and reflectances as numbers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from simclrseg.errors import DataError, some
from simclrseg.metadata import MOST_BANDS, RGB, numbered_bands
from simclrseg.system.content import BadContent, parse_json, read_yaml
from simclrseg.text import printable

SENTINEL2 = {
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
"""Sentinel-2's own names of its bands -> common ones, those of the STAC extension for electro-optical bands."""
REFLECTANCE = 10_000
"""The number that stands for a reflectance of 1, as in Sentinel-2's products of both levels (1C and 2A)."""
BANDS_FILE = "bands.yaml"
"""Beside images or a folder above: the names of their bands, in the order in which the files hold them."""
_LEVELS = 4  # folders in which it is looked for
_OTHERS = {"r": "red", "g": "green", "b": "blue", "near infrared": "nir", "nearinfrared": "nir", "infrared": "nir"}
_COLOURED = {"b2": "blue", "b3": "green", "b4": "red"}  # of Sentinel-2 and of Landsat 8 and 9
_OF_SENTINEL2 = {"b8a", "b12"}  # which no Landsat has
_NUMBERED = re.compile(r"(?:band[ _]?)?0*(\d{1,5})")
_NAME = re.compile(r"(?:s2_|sentinel2_|sr_)?([a-z]+[0-9]*a?)(?: ?\(.*\)|, .*)?")
_LONGEST = 100  # characters of a name
_METADATA, _DESCRIPTION, _PHOTOMETRIC, _IS_RGB = 42112, 270, 262, 2
_ITEM = re.compile(r"<Item\b([^<>]{0,400})>([^<]{0,400})</Item>")
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*[\"']([^\"']*)[\"']")
_OME = re.compile(r"<(?:\w+:)?Channel\b[^<>]{0,400}\bName\s*=\s*[\"']([^\"']{1,400})[\"']")
_KEYS = ("bands", "band_names", "channels", "channel_names")  # of JSON, as of tifffile's metadata
_READ = 1 << 20  # characters of a text


def colour_bands(bands: Sequence[str]) -> tuple[int, ...]:
    """Where red, green and blue stand among the bands; nothing where one of them is missing."""
    return tuple(bands.index(colour) for colour in RGB) if set(RGB) <= set(bands) else ()


def are_named(bands: Iterable[str]) -> bool:
    """Tell whether bands have names, not only numbers."""
    return not all(_NUMBERED.fullmatch(band) for band in bands)


def common_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of bands in common ones: ``B04``, ``Red`` and ``S2_B04 (665 nm)`` are ``red``, and 4 is ``band4``.

    Names that nobody knows stay, in lower case. ``B5`` without a zero is Sentinel-2's where B8A or B12 stands beside
    it; else it may be Landsat's, whose bands 2 to 4 alone have the same numbers.
    """
    plain = [" ".join(name.split()).lower() for name in names]
    plain = [match[1] if (match := _NAME.fullmatch(name)) else name for name in plain]
    whole = bool(_OF_SENTINEL2 & set(plain))
    return tuple(_common(name, whole=whole) for name in plain)


def _common(name: str, *, whole: bool) -> str:
    if match := _NUMBERED.fullmatch(name):
        return f"band{match[1]}"
    if match := re.fullmatch(r"b(\d\d|8a)", name):
        return SENTINEL2.get(name.upper(), name)
    if whole and (match := re.fullmatch(r"b(\d)", name)):
        return SENTINEL2.get(f"B0{match[1]}", name)
    return _COLOURED.get(name) or _OTHERS.get(name, name)


def tagged_bands(tags: ImageFileDirectory_v2, count: int) -> tuple[str, ...]:
    """Names of the bands of a TIFF's first page, by its tags; of those that have none, numbers. Never raises.

    Descriptions of GDAL, of OME-TIFF, and lists in JSON, as tifffile writes them, are read; else the first three bands
    of a file that calls itself RGB have the names of colours.
    """
    try:
        found = _described(str(tags.get(_METADATA, ""))[:_READ], str(tags.get(_DESCRIPTION, ""))[:_READ], count)
        if not found and tags.get(_PHOTOMETRIC) == _IS_RGB and count >= len(RGB):
            found = dict(enumerate(RGB))
    except Exception:  # damaged tags raise about anything
        found = {}
    numbers = numbered_bands(count)
    if not found:
        return numbers
    names = common_names([found.get(band) or numbers[band] for band in range(count)])
    return names if len(set(names)) == count else numbers


def _described(metadata: str, description: str, count: int) -> dict[int, str]:
    found: dict[int, str] = {}
    colours: dict[int, str] = {}
    for attributes, text in _ITEM.findall(metadata):
        item = {name.lower(): value for name, value in _ATTRIBUTE.findall(attributes)}
        band, role = item.get("sample", ""), item.get("role", item.get("name", "")).lower()
        name = printable(html.unescape(html.unescape(text)).strip())[:_LONGEST]  # GDAL escapes twice
        if band.isdecimal() and len(band) < 6 and int(band) < count and name:
            (found if role == "description" else colours if role == "colorinterp" else {})[int(band)] = name
    if found or {*map(str.lower, colours.values())} >= {*RGB}:
        return found or {band: name for band, name in colours.items() if name.lower() != "undefined"}
    names: list[object] = list(_OME.findall(description))
    if description.startswith("{"):
        try:
            content = parse_json(description)
        except BadContent:
            content = {}
        lists = [content[key] for key in _KEYS if isinstance(content, dict) and isinstance(content.get(key), list)]
        names = next(iter(lists), [])
    if len(names) != count or not all(isinstance(name, str) and name.strip() for name in names):
        return {}
    return {band: printable(html.unescape(str(name)))[:_LONGEST] for band, name in enumerate(names)}


def parsed_bands(text: str) -> tuple[str, ...]:
    """Names of bands with commas between them, in common ones; ValueError where one is missing or stands twice."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(names) > MOST_BANDS or any(len(name) > _LONGEST for name in names):
        raise ValueError(f"{text!r} is no list of names, such as B04,B03,B02")
    bands = common_names(names)
    if twice := [name for name, band in zip(names, bands, strict=True) if bands.count(band) > 1]:
        raise ValueError(f"{text!r} names a band twice: {some(twice)}")
    return bands


def bands_beside(folder: Path) -> tuple[str, ...]:
    """The names that ``BANDS_FILE`` gives in a folder or one above it; none where there is no such file.

    Raises:
        DataError: if it holds no list of names.
    """
    absolute = folder.absolute()
    for place in [absolute, *absolute.parents][:_LEVELS]:
        if (file := place / BANDS_FILE).is_file():
            try:
                content = read_yaml(file)
                content = content.get("bands") if isinstance(content, dict) else content
                if not isinstance(content, list) or not content:
                    raise BadContent("it is no list")
                return parsed_bands(",".join(str(name).replace(",", " ") for name in content))
            except (OSError, BadContent, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise DataError(f"{file}: {reason}", "write `bands: [B02, B03, B04, B08]`", path=file) from error
    return ()


def places_of(wanted: Sequence[str], bands: Sequence[str]) -> list[int] | None:
    """Where bands stand among others, by name; None where one is missing."""
    return [bands.index(band) for band in wanted] if set(wanted) <= set(bands) else None


def clip_reflectance(samples: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8 | np.uint16]:
    """Cut reflectances above 1 off: clouds, glint and saturated detectors, which would stretch every statistic.

    Below, the numbers stay as they are: 16 bits, with all their steps.
    """
    return np.minimum(samples, np.uint16(REFLECTANCE))
