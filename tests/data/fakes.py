"""A dataset in memory, for tests of what is built on datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simclrseg.errors import ImageError


class FakeDataset:
    """Smooth random photos of different sizes; the mask is 1 where the photo's red is bright, its first row ignored."""

    classes = ("background", "pet")
    has_masks = True
    bands = ("red", "green", "blue")
    dtype = np.uint8
    has_blanks = False

    def __init__(self, n: int, *, broken: tuple[int, ...] = (), labels: bool = True) -> None:
        self.keys = tuple(f"photos/{i:03d}.png" for i in range(n))
        self.labels = np.arange(n) % 3 if labels else None
        self.broken = broken
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, i: int) -> np.ndarray:
        self.reads.append(i)
        if i in self.broken:
            raise ImageError(f"{self.keys[i]}: cannot be decoded")
        return photo(i, height=40 + 3 * (i % 7), width=60 + 5 * (i % 5))

    def mask(self, i: int) -> np.ndarray:
        mask = (self.image(i)[:, :, 0] > 127).astype(np.uint8)
        mask[0] = 255
        return mask

    def has_mask(self, i: int) -> bool:
        return True

    def path(self, i: int) -> Path | None:
        return None

    def blank(self, i: int) -> np.ndarray | None:
        return None


def photo(seed: int, *, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: a few colour waves with a little noise, in the whole range of colours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.zeros((height, width, 3))
    for _ in range(4):
        fy, fx, phase = rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15), rng.uniform(0, 6.28, 3)
        waves += np.sin((fy * y + fx * x)[:, :, None] + phase)
    noisy = 127 + 55 * waves + rng.normal(0, 6, waves.shape)
    return noisy.clip(0, 255).astype(np.uint8)
