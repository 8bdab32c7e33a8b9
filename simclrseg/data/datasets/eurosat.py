"""EuroSAT: 64 px patches of Sentinel-2 in 10 classes of land use, in colour and in all 13 bands.

Helber et al., "EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land Cover Classification", 2019.
It has no official split.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.data.datasets.dataset import DatasetOptions, FileDataset, read_alike
from simclrseg.data.datasets.fetch import Source, fetch, missing, reach_hub
from simclrseg.errors import DataError
from simclrseg.images.bands import REFLECTANCE, SENTINEL2, clip_reflectance
from simclrseg.images.decode import Pixels
from simclrseg.images.listing import list_images
from simclrseg.system.identify import why_not_unpacked

_COLOUR = Source(
    name="eurosat",
    layout="eurosat/2750/ with a folder a class",
    address="https://github.com/phelber/EuroSAT",
    download=94_000_000,
    disk=300_000_000,
)
_ALL_BANDS = Source(
    name="eurosat_ms",
    layout="one folder a class with .tif files of 13 bands, as EuroSATallBands.zip or EuroSAT_MS.zip unpacks to",
    address="https://huggingface.co/datasets/torchgeo/eurosat",
    download=2_067_725_275,
    disk=6_000_000_000,
)
_REVISION = "8c86b35fe887a9db132f7d63ee359bc8e6fe78ea"
_UNPACKED = Path("ds/images/remote_sensing/otherDatasets/sentinel_2/tif")  # in EuroSATallBands.zip
_FOLDERS = (_UNPACKED, Path("EuroSAT_MS"), Path("."))
_NAMES = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
_CLASSES = tuple(_NAMES.split())
_ORDER = (*(name for name in SENTINEL2 if name != "B8A"), "B8A")
"""Order of the bands in a file: B8A comes last."""


def eurosat(root: Path, options: DatasetOptions) -> FileDataset:
    """Red, green and blue as JPEGs of 8 bits, stretched for viewing."""
    folder = root / "eurosat" / "2750"
    if not folder.is_dir():
        fetch(_COLOUR, root, _download_colour, entries=("eurosat",))
    return _open(_COLOUR, root, folder)


def eurosat_ms(root: Path, options: DatasetOptions) -> FileDataset:
    """All 13 bands, reflectances at the top of the atmosphere (level 1C) as 16-bit numbers."""
    folder = next((root / folder for folder in _FOLDERS if (root / folder / _CLASSES[0]).is_dir()), None)
    if folder is None:
        fetch(_ALL_BANDS, root, _download_all_bands, entries=(_UNPACKED.parts[0],))
        folder = root / _UNPACKED
    bands = [SENTINEL2[name] for name in _ORDER]
    return _open(_ALL_BANDS, root, folder, read=_read_13_bands, bands=bands, full_scale=REFLECTANCE)


def _open(source: Source, root: Path, folder: Path, **details: Any) -> FileDataset:
    images = [(image, label) for label, name in enumerate(_CLASSES) for image in list_images(folder / name)]
    if not images:
        raise missing(source, root, f"{folder} holds no pictures")
    labels = np.array([label for _, label in images], np.int64)
    counts = ", ".join(f"{name} {(labels == label).sum():,}" for label, name in enumerate(_CLASSES))
    return FileDataset(
        source.name,
        root,
        [image for image, _ in images],
        labels=labels,
        label_names=_CLASSES,
        summary=[f"{folder}: {len(images):,} photos of 64 px ({counts})"],
        **details,
    )


def _read_13_bands(path: Path) -> Pixels:
    return clip_reflectance(read_alike(path, bands=len(_ORDER), bits=16, whose="those of EuroSAT"))


def _download_colour(folder: Path) -> None:
    from torchvision.datasets import EuroSAT

    EuroSAT(str(folder), download=True)
    (folder / "eurosat" / "EuroSAT.zip").unlink(missing_ok=True)


def _download_all_bands(folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    reach_hub()
    archive = hf_hub_download(
        "torchgeo/eurosat", "EuroSATallBands.zip", repo_type="dataset", revision=_REVISION, local_dir=folder / "archive"
    )
    with zipfile.ZipFile(archive) as file:
        if what := why_not_unpacked(file):
            raise DataError(f"{archive} {what}", "fetch it again", path=archive)
        file.extractall(folder)  # which writes nothing outside of it, and no links
    Path(archive).unlink()
