"""What pixels are normalised with: ImageNet's figures, the weights', the dataset's or a file's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simclrseg.data.datasets.base import Dataset
from simclrseg.data.statistics import band_statistics
from simclrseg.errors import DataError, UsageError
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, RGB, ModelMetadata

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Normalization:
    """Of each band, for pixels divided by the full scale."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)


def choose_normalization(
    asked: str | None, dataset: Dataset, indices: Sequence[int], *, source: ModelMetadata | None, threads: int
) -> Normalization:
    """The asked one; else the weights' own, where they were made for such pictures; else what suits the pictures.

    Args:
        asked: ``imagenet``, ``dataset``, a file, or None.
        indices: the photos that are learned from, which alone are looked at.
        source: of the weights that training starts from.

    Raises:
        UsageError, DataError: if the figures do not fit the dataset's bands.
    """
    photos = dataset.bands == RGB
    if asked is None:
        if source is not None and (source.bands, source.full_scale) == (dataset.bands, dataset.full_scale):
            return Normalization(source.mean, source.std)
        asked = "imagenet" if photos and dataset.full_scale == 255 else "dataset"
    if asked == "imagenet":
        if not photos:
            raise UsageError(
                f"--normalization imagenet has figures for red, green and blue, not for the {len(dataset.bands)} bands "
                f"of {dataset.name}: pass --normalization dataset"
            )
        return IMAGENET
    if asked == "dataset":
        chosen = Normalization(*band_statistics(dataset, indices, threads=threads))
        figures = zip(dataset.bands, chosen.mean, chosen.std, strict=True)
        line = ", ".join(f"{band} {mean:.3f} ± {std:.3f}" for band, mean, std in figures)
        log.info(f"normalisation by the training photos: {line}")
        return chosen
    chosen = _read(Path(asked))
    if len(chosen.mean) != len(dataset.bands):
        raise DataError(
            f"--normalization {asked} has {len(chosen.mean)} means, but {dataset.name} has the bands "
            f"{', '.join(dataset.bands)}"
        )
    return chosen


def _read(file: Path) -> Normalization:
    """Figures from a YAML or JSON file: ``mean: [...]`` and ``std: [...]``."""
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        chosen = Normalization(*(tuple(float(value) for value in content[key]) for key in ("mean", "std")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"--normalization {file} cannot be read ({reason}): "
            "write `mean: [0.4, 0.4, 0.4]` and `std: [0.2, 0.2, 0.2]`"
        ) from error
    if len(chosen.mean) != len(chosen.std) or not all(0 < std <= 1 for std in chosen.std):
        raise DataError(f"--normalization {file}: every mean needs a std above 0 and up to 1, for pixels in [0, 1]")
    if not all(0 <= mean <= 1 for mean in chosen.mean):
        raise DataError(f"--normalization {file}: means lie in [0, 1], as pixels do once divided by their full scale")
    return chosen
