"""The worst and the best images of a model: image, truth, prediction and where the two differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from simclrseg.charts import plots
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.images import colours
from simclrseg.images.bands import colour_bands
from simclrseg.images.colours import IGNORED
from simclrseg.images.resizing import resize_image
from simclrseg.inference.tiling import Predict
from simclrseg.metadata import IGNORE
from simclrseg.scores.results import Example, Scores
from simclrseg.system.files import make_folder

WORST, BEST = 6, 3
"""Images that are shown of a model."""
SIDE = 320
"""Longer side of a picture, in pixels."""
MISSED, ALARM, MIXED = (0, 114, 178), (230, 120, 0), (190, 40, 140)
"""Pixels of an object that was not found, of one that is not there, and of one class taken for another."""


def worst_and_best(scores: Scores, dataset: Dataset, predict: Predict) -> tuple[list[Example], list[Example]]:
    """The images at both ends, the most telling first; no image is in both."""
    bad, good = scores.bad_and_good()
    worst, best = bad[:WORST], good[::-1][:BEST]
    rows = [*worst, *best]
    examples = scores.examples(rows, dataset, predict) if rows else []
    return examples[: len(worst)], examples[len(worst) :]


def write_worst(examples: Sequence[Example], folder: Path) -> None:
    """Write the examples as ``001-<name>.png``, the worst first, into a folder that is made where there are any."""
    if examples:
        make_folder(folder)
    for number, example in enumerate(examples, start=1):
        name = re.sub(r"[^A-Za-z0-9._]+", "-", example.key)[-60:].strip("-.")
        titles, pictures = zip(*example.pictures, strict=True)
        plots.write_grid([pictures], folder / f"{number:03d}-{name or 'image'}.png", headings=titles)


def viewable(image: np.ndarray, bands: Sequence[str], blank: np.ndarray | None = None) -> np.ndarray:
    """A picture (H, W, bands) as RGB with ``SIDE`` pixels at most; a tiny one is enlarged, to have something to see.

    Args:
        blank: (H, W), True where it holds nothing.
    """
    rgb = colours.viewable(image, colour_bands(bands), blank=blank)
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    if scale > 1:
        times = max(1, min(int(scale), 96 // max(height, width) + 1))
        return rgb.repeat(times, axis=0).repeat(times, axis=1)
    return resize_image(rgb, (max(1, round(height * scale)), max(1, round(width * scale))))


def errors(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 in pale grey, coloured where class ids (H, W) are wrong; ignored pixels are white."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    shown = np.repeat((128 + grey / 2).astype(np.uint8)[..., None], 3, axis=2)
    wrong = (truth != predicted) & (truth != IGNORE)
    shown[wrong] = MIXED
    shown[wrong & (predicted == 0)] = MISSED
    shown[wrong & (truth == 0)] = ALARM
    shown[truth == IGNORE] = IGNORED
    return shown
