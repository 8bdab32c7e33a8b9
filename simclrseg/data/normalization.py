"""The mean and standard deviation that pixels are normalised with: counted, from a file, or as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.randomness import permutation
from simclrseg.errors import DataError, ImageError
from simclrseg.images.strips import strips_of
from simclrseg.metadata import MOST_BANDS, SMALLEST_STD
from simclrseg.system.content import BadContent, parse_yaml, read_yaml
from simclrseg.system.threads import map_in_threads

MOST = 10_000
"""Images that are looked at: more move no digit that matters."""
_SMALLEST = 1e-3  # of a standard deviation: a band that is the same everywhere must not be blown up


@dataclass(frozen=True)
class Normalization:
    """Mean and std of each band, for pixels divided by the full scale."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def text(self) -> str:
        """The text that ``read_normalization`` takes in the place of a file."""
        return json.dumps(asdict(self))


def read_normalization(source: str) -> Normalization:
    """Figures from YAML or JSON: ``mean: [...]`` and ``std: [...]``.

    Args:
        source: a file, or what it would hold, in braces.

    Raises:
        DataError: if they cannot be read, or are no figures of pixels.
    """
    try:
        content = parse_yaml(source) if source.startswith("{") else read_yaml(Path(source))
        chosen = Normalization(*(_figures(content, key) for key in ("mean", "std")))
    except (OSError, BadContent) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"--normalization {source} cannot be read ({reason})",
            "write `mean: [0.4, 0.4, 0.4]` and `std: [0.2, 0.2, 0.2]`",
            option="normalization",
            value=source,
        ) from error
    if len(chosen.mean) != len(chosen.std) or not all(SMALLEST_STD <= std <= 1 for std in chosen.std):
        fault = f"every mean needs a std above 0 ({SMALLEST_STD} or more) and up to 1, for pixels in [0, 1]"
    elif not all(0 <= mean <= 1 for mean in chosen.mean):
        fault = "means lie in [0, 1], as pixels do once divided by their full scale"
    else:
        return chosen
    raise DataError(f"--normalization {source}: {fault}", option="normalization", value=source)


def _figures(content: Any, key: str) -> tuple[float, ...]:
    if not isinstance(content, dict) or key not in content:
        raise BadContent(f"it has no key {key}")
    values = content[key]
    if not isinstance(values, list) or not 0 < len(values) <= MOST_BANDS:
        raise BadContent(f"{key} is no list of 1 to {MOST_BANDS:,} numbers")
    try:
        return tuple(float(value) for value in values)  # PyYAML takes 1e-4 for a text
    except (TypeError, ValueError) as error:
        raise BadContent(f"{key} has a value that is no number") from error


def band_statistics(dataset: Dataset, indices: Sequence[int], *, threads: int, most: int = MOST) -> Normalization:
    """Mean and std of images at their own size; each counts the same, however large it is.

    Args:
        indices: the images; of more than ``most`` a sample that depends on nothing but their number.

    Raises:
        DataError: if none of them can be read.
    """

    def moments(index: int) -> np.ndarray | None:
        """(2, bands): means of the values and of their squares; None for an image without any."""
        try:
            image, blank = dataset.image(index), dataset.blank(index)
        except ImageError:  # the loader names it
            return None
        sums, count = np.zeros((2, len(dataset.bands))), 0
        for top, bottom in strips_of((image.shape[1], image.shape[0])):  # eight bytes a value take room
            pixels = image[top:bottom].reshape(-1, len(dataset.bands)) / dataset.full_scale
            if blank is not None:
                pixels = pixels[~blank[top:bottom].reshape(-1)]
            sums += np.stack([pixels.sum(axis=0), np.square(pixels).sum(axis=0)])
            count += len(pixels)
        return sums / count if count else None

    chosen = [indices[place] for place in permutation(0, 0, len(indices))[:most]]
    found = [pair for pair in map_in_threads(moments, chosen, threads=threads) if pair is not None]
    if not found:
        raise DataError(f"{dataset.name}: none of {len(chosen):,} photos can be read, so that they have no mean")
    first, second = np.mean(found, axis=0)  # (bands,)
    deviation = np.sqrt(np.maximum(second - first**2, 0))
    return Normalization(tuple(first.tolist()), tuple(np.maximum(deviation, _SMALLEST).tolist()))
