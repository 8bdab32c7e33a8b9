"""Shapes: generated images of textured figures on textured ground, with masks; needs no file and no network."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.images.decode import Mask, Pixels

KINDS = ("disc", "square", "triangle", "star")
COUNT = 512
SIDE = 96
"""Side of the images, in pixels."""
_SHIFT = 4  # cv2 takes corners in 1/16 pixel
_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


class Shapes(Dataset):
    """One or two figures of one kind on a ground; image ``i`` depends on the seed and ``i`` alone.

    Figure and ground draw their colours from the same distribution, so that no threshold on colour separates them;
    what differs is the texture, fine in the figures (4 to 7 pixels) and coarse in the ground (14 pixels and more).
    Both have a faint hue of the kind, in any light: what pretraining can find of the labels in a minute. Of outlines
    alone it finds nothing so soon.
    """

    def __init__(self, count: int = COUNT, *, seed: int = 0) -> None:
        kinds = np.arange(count, dtype=np.int64) % len(KINDS)
        super().__init__(
            "shapes",
            [f"{KINDS[kind]}/{index:05d}" for index, kind in enumerate(kinds)],
            classes=("background", "figure"),
            labels=kinds,
            label_names=KINDS,
            official={"test": range(count - count // 5, count)},  # which pretraining leaves out
            summary=[f"shapes: {count:,} generated photos of {SIDE} px with masks (background, figure)"],
        )
        self._seed = seed

    def image(self, index: int) -> Pixels:
        generator = np.random.default_rng((self._seed, index))
        figures = self._draw(index, generator)[:, :, None]
        kind = index % len(KINDS)
        ground = _texture(generator, kind, period=(14, 30), noise=12)
        figure = _texture(generator, kind, period=(4, 7), noise=24)
        image = ground + (figure - ground) * (figures.astype(np.float32) / 255)
        image += generator.normal(0, 6, (SIDE, SIDE, 1)).astype(np.float32)
        return np.clip(image, 0, 255).astype(np.uint8)

    def mask(self, index: int) -> Mask:
        generator = np.random.default_rng((self._seed, index))
        return (self._draw(index, generator) > 127).astype(np.uint8)

    def _draw(self, index: int, generator: np.random.Generator) -> Pixels:
        """(H, W) coverage of the figures, 0 to 255, with soft edges."""
        canvas = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(generator.integers(1, 3)):
            radius = generator.uniform(0.16, 0.3) * SIDE
            centre = generator.uniform(0.7 * radius, SIDE - 0.7 * radius, 2)
            corners = centre + radius * _outline(index % len(KINDS), generator.uniform(0, 2 * math.pi))
            points = np.round(corners * 2**_SHIFT).astype(np.int32)
            cv2.fillPoly(canvas, [points], 255, lineType=cv2.LINE_AA, shift=_SHIFT)
        return canvas


def shapes(root: Path, options: DatasetOptions) -> Shapes:
    """The embedded set; neither folder nor options have a meaning for it."""
    return Shapes()


def _outline(kind: int, angle: float) -> NDArray[np.float64]:
    """(corners, 2) of a figure of radius 1, turned by ``angle`` in radians."""
    corners = (32, 4, 3, 10)[kind]
    angles = angle + np.arange(corners) * (2 * math.pi / corners)
    radii = np.where(np.arange(corners) % 2, 0.45, 1.0) if KINDS[kind] == "star" else np.ones(corners)
    corner: NDArray[np.float64] = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return corner


def _tint(hue: float) -> NDArray[np.float32]:
    """A direction (3,) of red, green and blue that is no lighter and no darker; red is at 0 degrees."""
    angle = math.radians(hue)
    red_to_cyan, green_to_blue = np.array([2, -1, -1]) / math.sqrt(6), np.array([0, 1, -1]) / math.sqrt(2)
    return (math.cos(angle) * red_to_cyan + math.sin(angle) * green_to_blue).astype(np.float32)


def _texture(
    generator: np.random.Generator, kind: int, *, period: tuple[float, float], noise: float
) -> NDArray[np.float32]:
    """(H, W, 3) light and dark stripes of a kind's hue, bent by blotches of ``noise`` grey levels."""
    coarse = generator.uniform(-1, 1, (5, 5)).astype(np.float32)
    blotches = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    angle = generator.uniform(0, math.pi)
    waves = 2 * math.pi / generator.uniform(*period)
    stripes = np.sin((math.cos(angle) * _X + math.sin(angle) * _Y) * waves + blotches * 2)
    light = generator.uniform(30, 55) * stripes + noise * blotches  # beside the middle
    tint = generator.uniform(10, 20) * _tint(90 * kind + generator.uniform(-25, 25))
    texture: NDArray[np.float32] = (light[:, :, None] + generator.uniform(50, 205) + tint).astype(np.float32)
    return texture
