"""Folders of images as users have them: with masks beside them, or one folder a class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from simclrseg.data.datasets.shapes import KINDS, Shapes


def write(path: Path, pixels: np.ndarray) -> None:
    """Write an image, (H, W, 3) RGB or (H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def write_pairs(folder: Path, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write images and masks by their name into ``images/`` and ``masks/``."""
    for name, (image, mask) in pairs.items():
        write(folder / "images" / f"{name}.png", image)
        write(folder / "masks" / f"{name}.png", mask)
    return folder


def write_noise(folder: Path, count: int, *, values: int = 2, scale: int = 1) -> Path:
    """Write images of noise, and masks of so many values times a scale."""
    rng = np.random.default_rng(0)

    def pair() -> tuple[np.ndarray, np.ndarray]:
        image = rng.integers(0, 256, (32, 32, 3), np.uint8)
        return image, np.uint8(scale) * rng.integers(0, values, (32, 32), np.uint8)

    return write_pairs(folder, {str(number): pair() for number in range(count)})


def write_figures(folder: Path, count: int = 24) -> Path:
    """Write shapes with a class for each kind but the last, stars, which are ignored; and a file of the classes.

    Masks with ignored pixels have a few of class 1 in a corner too, for 255 beside 0 alone would be a foreground.
    """
    shapes = Shapes(count)
    ids = [(1 + shapes.labels[index]) % (1 + len(KINDS)) for index in range(count)]
    masks = [shapes.mask(index) * np.uint8(255 if ids[index] == 4 else ids[index]) for index in range(count)]
    for mask, kind in zip(masks, ids, strict=True):
        mask[:4, :4] = np.where(kind == 4, 1, mask[:4, :4])
    halves = {f"{index:02d}": (shapes.image(index)[::2, ::2], masks[index][::2, ::2]) for index in range(count)}
    write_pairs(folder, halves)
    (folder / "classes.yaml").write_text(
        "background: [0, 0, 0]\ndisc: [255, 0, 0]\nsquare: [0, 255, 0]\ntriangle: '#0000ff'\n"
    )
    return folder


def write_colours(folder: Path, counts: Mapping[str, int]) -> Path:
    """Write a folder a class; images of the first are blue, of the second green, of the third red."""
    rng = np.random.default_rng(0)
    for place, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 60, (32, 32, 3), np.uint8)
            image[:, :, place] += 150  # of BGR
            write(folder / name / f"{number}.png", image[..., ::-1])
    return folder
