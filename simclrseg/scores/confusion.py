"""A confusion matrix as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simclrseg.system.files import write_rows


def write_confusion(folder: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """A confusion matrix as ``confusion.csv``: a row a true class."""
    rows = [
        {"true": name, **dict(zip(classes, row, strict=True))}
        for name, row in zip(classes, matrix.tolist(), strict=True)
    ]
    write_rows(folder / "confusion.csv", rows)
