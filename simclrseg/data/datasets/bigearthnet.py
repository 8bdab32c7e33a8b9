"""BigEarthNet: 590,326 patches of Sentinel-2, 1.2 km wide, in 12 bands (Sumbul et al. 2019; v2: Clasen et al. 2024).

A patch is a folder of 12 TIFFs of one band each: 120 px where a pixel is 10 m wide, 60 px (20 m) and 20 px (60 m).
All are brought to 120 px, bilinearly. Numbers are reflectances at the ground (level 2A) times 10,000. A patch has
several labels, which nothing here learns from: the set is for pretraining.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from simclrseg.data.datasets.dataset import DatasetOptions, FileDataset
from simclrseg.data.datasets.fetch import Source, missing
from simclrseg.errors import DataError, ImageError
from simclrseg.images.bands import REFLECTANCE, SENTINEL2, clip_reflectance
from simclrseg.images.decode import Pixels, read_scene
from simclrseg.images.listing import list_files
from simclrseg.images.resizing import resize_image
from simclrseg.text import in_one_line

_SOURCE = Source(
    name="bigearthnet",
    layout="a folder a patch, at any depth, each with <patch>_B01.tif to <patch>_B12.tif; beside them train.csv, "
    "val.csv and test.csv, or metadata.parquet, if they are to be followed",
    address="https://bigearth.net",
    download=66_000_000_000,
    disk=130_000_000_000,
)
_NAMES = tuple(name for name in SENTINEL2 if name != "B10")  # cirrus: says nothing of the ground
_FIRST = "_B04.tif"  # the file that stands for a patch: red, at 10 m
_LISTS = {"train": "train", "val": "validation", "test": "test"}  # version 1


def bigearthnet(root: Path, options: DatasetOptions) -> FileDataset:
    """The patches below a folder, with the published lists where they lie there; it has to be fetched by hand."""
    files = list_files(root, lambda name: name.endswith(_FIRST)).files if root.is_dir() else []
    if not files:
        raise missing(_SOURCE, root)
    place = {file.name.removesuffix(_FIRST): index for index, file in enumerate(files)}
    official = {split: sorted(place[name] for name in names if name in place) for split, names in _lists(root)}
    official = {split: indices for split, indices in official.items() if indices}
    counts = ", ".join(f"{len(indices):,} {split}" for split, indices in official.items())
    return FileDataset(
        "bigearthnet",
        root,
        files,
        read=_read_patch,
        bands=[SENTINEL2[name] for name in _NAMES],
        full_scale=REFLECTANCE,
        official=official,
        summary=[
            f"{root}: {len(files):,} patches{f' ({counts})' if counts else ''}",
            f"bands: {', '.join(_NAMES)}, brought to the size of B04; a reflectance of 1 is {REFLECTANCE:,}",
        ],
    )


def _read_patch(first: Path) -> Pixels:
    """(120, 120, 12) uint16 of the patch whose red band is ``first``."""
    stem = first.name.removesuffix(_FIRST)
    samples = {name: read_scene(first.with_name(f"{stem}_{name}.tif")).pixels for name in _NAMES}
    size = samples["B04"].shape[:2]
    for name, band in samples.items():
        if band.shape[2] != 1 or band.dtype != np.uint16:
            raise ImageError(f"{first.with_name(f'{stem}_{name}.tif')}: a band of BigEarthNet is grey, with 16 bits")
    grid = [resize_image(clip_reflectance(band[:, :, 0]), (size[0], size[1])) for band in samples.values()]
    return np.stack(grid, axis=2)


def _lists(root: Path) -> Iterable[tuple[str, list[str]]]:
    """Splits and the patches in them: version 2 has one table, version 1 a list each, whose rows begin with a name."""
    table = root / "metadata.parquet"
    try:
        if table.is_file():
            import pyarrow.parquet

            columns = pyarrow.parquet.read_table(table, columns=["patch_id", "split"]).to_pydict()
            rows = list(zip(columns["patch_id"], columns["split"], strict=True))
            return [(split, [name for name, kind in rows if kind == split]) for split in _LISTS.values()]
        files = [(root / f"{name}.csv", split) for name, split in _LISTS.items()]
        return [(split, _first_column(file)) for file, split in files if file.is_file()]
    except (OSError, ValueError, csv.Error) as error:
        reason = in_one_line(error, 160)
        raise DataError(
            f"{root}: the lists of BigEarthNet cannot be read ({reason})", "fetch them again", path=root
        ) from error


def _first_column(file: Path) -> list[str]:
    return [row[0] for row in csv.reader(file.read_text("utf-8").splitlines()) if row]
