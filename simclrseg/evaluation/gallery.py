"""The worst and the best images of a model: photo, truth, prediction and where the two differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from simclrseg import plots
from simclrseg.data.datasets.base import colour_bands
from simclrseg.evaluation.results import Evaluated
from simclrseg.evaluation.wording import words
from simclrseg.files import make_folder
from simclrseg.inference.masks import to_mask, to_size
from simclrseg.inference.outputs import class_colours
from simclrseg.metadata import IGNORE
from simclrseg.resizing import resize_image, resize_mask

WORST, BEST = 6, 3
"""Images that are shown of a model."""
SIDE = 320
"""Longer side of a picture, in pixels."""
MISSED, ALARM, MIXED = (0, 114, 178), (230, 120, 0), (190, 40, 140)
"""Pixels of an object that was not found, of one that is not there, and of one class taken for another."""


@dataclass(frozen=True)
class Example:
    """An image as it is shown.

    Attributes:
        key: its name in the dataset.
        text: what was found in it.
        pictures: titles and (H, W, 3) uint8 of one size.
    """

    key: str
    text: str
    pictures: tuple[tuple[str, np.ndarray], ...]


def ranking(model: Evaluated) -> list[int]:
    """Rows of ``per_image`` that have a value, the worst first.

    Of segmentation by the deciding metric; of classification those that were wrong and sure of it come first, those
    that were right and sure last.
    """
    if model.task == "segmentation":
        value = np.array([row[model.deciding] for row in model.per_image], np.float64)
    else:
        value = np.array([row["probability"] * (1 if row["correct"] else -1) for row in model.per_image])
    order: list[int] = np.argsort(value, kind="stable")[: (~np.isnan(value)).sum()].tolist()
    return order


def worst_and_best(model: Evaluated) -> tuple[list[Example], list[Example]]:
    """The images at both ends of the ranking, the most telling first; no image is in both."""
    order = ranking(model)
    if model.task == "classification":
        wrong = [row for row in order if not model.per_image[row]["correct"]]
        right = [row for row in order if model.per_image[row]["correct"]]
        worst, best = wrong[:WORST], right[::-1][:BEST]
    else:
        worst = order[: min(WORST, -(-len(order) // 2))]
        best = order[len(worst) :][::-1][:BEST]
    examples = _examples(model, [*worst, *best])
    return examples[: len(worst)], examples[len(worst) :]


def write_worst(examples: Sequence[Example], folder: Path) -> None:
    """Write the examples as ``001-<name>.png``, the worst first, into a folder that is made where there are any."""
    if examples:
        make_folder(folder)
    for number, example in enumerate(examples, start=1):
        name = re.sub(r"[^A-Za-z0-9._]+", "-", example.key)[-60:].strip("-.")
        titles, pictures = zip(*example.pictures, strict=True)
        plots.write_grid([pictures], folder / f"{number:03d}-{name or 'image'}.png", headings=titles)


def _examples(model: Evaluated, rows: Sequence[int]) -> list[Example]:
    """Look at some images once more; those of a few rows are one batch."""
    if not rows:
        return []
    images = [model.dataset.image(model.indices[row]) for row in rows]
    if model.task == "classification":
        return [_photo(model, row, image) for row, image in zip(rows, images, strict=True)]
    size = (model.metadata.image_size, model.metadata.image_size)
    probabilities = model.predict(np.stack([resize_image(image, size) for image in images]))
    return [
        _masks(model, row, image, probability)
        for row, image, probability in zip(rows, images, probabilities, strict=True)
    ]


def _photo(model: Evaluated, row: int, image: np.ndarray) -> Example:
    found = model.per_image[row]
    text = f"true {found['true']}, predicted {found['predicted']} at {found['probability']:.3f}"
    return Example(found["image"], text, (("photo", _viewable(model, image)),))


def _masks(model: Evaluated, row: int, image: np.ndarray, probability: np.ndarray) -> Example:
    found, metadata = model.per_image[row], model.metadata
    photo = _viewable(model, image)
    truth = resize_mask(model.dataset.mask(model.indices[row]), photo.shape[:2])
    predicted = to_mask(to_size(probability, photo.shape[:2]), metadata.threshold)
    colours = class_colours(metadata)
    pictures = (
        ("photo", photo),
        ("truth", plots.overlay(photo, truth, colours)),
        ("prediction", plots.overlay(photo, predicted, colours)),
        ("errors", errors(photo, truth, predicted)),
    )
    text = f"{words(model.deciding)} {found[model.deciding]:.4f}"
    return Example(found["image"], text, pictures)


def _viewable(model: Evaluated, image: np.ndarray) -> np.ndarray:
    """The picture as RGB with ``SIDE`` pixels at most; a tiny one is enlarged, so that there is something to see."""
    rgb = plots.viewable(image, colour_bands(model.dataset.bands))
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    if scale > 1:
        times = max(1, min(int(scale), 96 // max(height, width) + 1))
        return rgb.repeat(times, axis=0).repeat(times, axis=1)
    return resize_image(rgb, (max(1, round(height * scale)), max(1, round(width * scale))))


def errors(photo: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The photo in pale grey, coloured where the prediction is wrong; ignored pixels are white.

    Args:
        photo: (H, W, 3) uint8.
        truth, predicted: (H, W) class ids.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    shown = np.repeat((128 + grey / 2).astype(np.uint8)[..., None], 3, axis=2)
    wrong = (truth != predicted) & (truth != IGNORE)
    shown[wrong] = MIXED
    shown[wrong & (predicted == 0)] = MISSED
    shown[wrong & (truth == 0)] = ALARM
    shown[truth == IGNORE] = plots.IGNORED
    return shown
