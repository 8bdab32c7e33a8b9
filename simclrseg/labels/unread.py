"""Labels of tools that are not read, by their files: what they are, and what to do about it.

To add one: a line in ``_FORMS``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simclrseg.images.listing import walk

_BEGINNING = 1 << 14  # bytes that tell what a file is
_EACH = 5  # files of a suffix that are looked at
_AS_COCO, _AS_PNG = "export as COCO, or masks as PNG", "export masks as PNG"


@dataclass(frozen=True)
class Form:
    """A form of labels: what it is called, the end of its files' names, what their beginning holds, and the way out."""

    name: str
    end: str
    holds: re.Pattern[bytes]
    remedy: str


def _form(name: str, end: str, holds: bytes = b"", remedy: str = _AS_COCO) -> Form:
    return Form(name, end, re.compile(holds, re.DOTALL), remedy)


_FORMS = (
    _form("CVAT's XML", ".xml", rb"<annotations>.*<image\s"),
    _form("boxes in Pascal VOC's XML", ".xml", rb"<annotation\b.*<bndbox>", "label outlines: masks are not in it"),
    _form("the JSON of VGG Image Annotator", ".json", rb'"_via_|"shape_attributes"|"region_attributes"'),
    _form("the CSV of VGG Image Annotator", ".csv", rb"region_shape_attributes"),
    _form("Label Studio's own JSON", ".json", rb'^\s*\[.*"(?:annotations|completions|annotator)"\s*:'),
    _form("Supervisely's JSON", ".json", rb'"classTitle"'),
    _form("Darwin's JSON of V7", ".json", rb'"schema_ref".*darwin|"item"\s*:.*"slots"'),
    _form("GeoJSON, as of QuPath", ".json", rb'"FeatureCollection"|^\s*\[\s*\{\s*"type"\s*:\s*"Feature"', _AS_PNG),
    _form("GeoJSON", ".geojson", remedy="draw it into PNGs or GeoTIFFs of the photos' sizes"),
    _form("NDJSON, as of Labelbox", ".ndjson"),
    _form("regions of ImageJ", ".roi", remedy=_AS_PNG),
    _form("regions of ImageJ", "roiset.zip", remedy=_AS_PNG),
    _form("Cellpose's own file", "_seg.npy", remedy="save its masks as PNG"),
    _form("a volume", ".nii.gz", remedy="save its slices as PNG"),
    _form("a volume", ".nii", remedy="save its slices as PNG"),
)


def form_of(file: Path) -> Form | None:
    """The form of labels that a file holds; None for one that is read, or is something else."""
    forms = [form for form in _FORMS if file.name.lower().endswith(form.end)]
    if not forms:
        return None
    with suppress(OSError), open(file, "rb") as stream:
        beginning = stream.read(_BEGINNING)
        return next((form for form in forms if form.holds.search(beginning)), None)
    return None


def find_unread(folder: Path) -> tuple[Path, Form] | None:
    """A file of labels that are not read, and its form, in a folder or below it."""
    seen: dict[str, int] = {}
    for file in _files(folder):
        seen[file.suffix] = seen.get(file.suffix, 0) + 1
        if seen[file.suffix] <= _EACH and (form := form_of(file)):
            return file, form
    return None


def _files(folder: Path) -> Iterable[Path]:
    return (parent / name for parent, names in walk(folder, {}) for name in sorted(names))
