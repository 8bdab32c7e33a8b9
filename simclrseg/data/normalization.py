"""The mean and standard deviation that pixels are normalised with, from a file or as text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from simclrseg.errors import DataError


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
        text = source if source.startswith("{") else Path(source).read_text(encoding="utf-8")
        content: Any = yaml.safe_load(text)
        chosen = Normalization(*(tuple(float(value) for value in content[key]) for key in ("mean", "std")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"--normalization {source} cannot be read ({reason})",
            "write `mean: [0.4, 0.4, 0.4]` and `std: [0.2, 0.2, 0.2]`",
            option="normalization",
            value=source,
        ) from error
    if len(chosen.mean) != len(chosen.std) or not all(0 < std <= 1 for std in chosen.std):
        raise DataError(
            f"--normalization {source}: every mean needs a std above 0 and up to 1, for pixels in [0, 1]",
            option="normalization",
            value=source,
        )
    if not all(0 <= mean <= 1 for mean in chosen.mean):
        raise DataError(
            f"--normalization {source}: means lie in [0, 1], as pixels do once divided by their full scale",
            option="normalization",
            value=source,
        )
    return chosen
