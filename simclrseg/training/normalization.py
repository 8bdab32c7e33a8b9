"""Choose mean and std of the pixels: ImageNet's, the weights', the dataset's or a file's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.normalization import Normalization, band_statistics, read_normalization
from simclrseg.errors import DataError, UsageError
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, RGB, ModelMetadata
from simclrseg.system import distributed

log = logging.getLogger(__name__)


def choose_normalization(
    asked: str | None, dataset: Dataset, indices: Sequence[int], *, source: ModelMetadata | None, threads: int
) -> Normalization:
    """The asked one; else the weights' own, where they were made for such pictures; else what suits the pictures.

    A warning says where the weights saw other values as the same brightness.

    Args:
        asked: ``imagenet``, ``dataset``, what ``read_normalization`` takes, or None.
        indices: the training images, which alone are looked at.
        source: of the weights that training starts from.

    Raises:
        UsageError, DataError: if the figures do not fit the dataset's bands.
    """
    if source is not None and source.reach and dataset.reach and source.reach != dataset.reach:
        (low, high), (before_low, before_high) = dataset.reach, source.reach
        log.warning(
            f"{dataset.name}: values from {low:,g} to {high:,g} become 0 to 255, where the start weights were trained "
            f"with {before_low:,g} to {before_high:,g}: what was as bright is brighter or darker now"
        )
    rgb = dataset.bands == RGB
    if asked is None:
        if source is not None and (source.bands, source.full_scale) == (dataset.bands, dataset.full_scale):
            return Normalization(source.mean, source.std)
        asked = "imagenet" if rgb and dataset.full_scale == 255 else "dataset"
    if asked == "imagenet":
        if not rgb:
            raise UsageError(
                f"--normalization imagenet has figures for red, green and blue, not for the {len(dataset.bands)} "
                f"bands of {dataset.name}",
                "pass --normalization dataset",
                option="normalization",
            )
        return Normalization(IMAGENET_MEAN, IMAGENET_STD)
    if asked == "dataset":
        chosen = distributed.from_main(lambda: band_statistics(dataset, indices, threads=threads))
        figures = zip(dataset.bands, chosen.mean, chosen.std, strict=True)
        line = ", ".join(f"{band} {mean:.3f} ± {std:.3f}" for band, mean, std in figures)
        log.info(f"normalisation by the training photos: {line}")
        return chosen
    chosen = read_normalization(asked)
    if len(chosen.mean) != len(dataset.bands):
        raise DataError(
            f"--normalization has {len(chosen.mean)} means, but {dataset.name} has the bands "
            f"{', '.join(dataset.bands)}",
            option="normalization",
        )
    return chosen
