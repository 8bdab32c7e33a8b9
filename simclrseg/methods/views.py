"""The views that pretraining learns from, and a look at some of them."""

from __future__ import annotations

import numpy as np

from simclrseg.config.pretrain import PretrainData
from simclrseg.data.augment import STRENGTHS, Strengths, adjusted
from simclrseg.data.loader import Samples
from simclrseg.training.train import spread


def strengths_of(data: PretrainData) -> Strengths:
    """The chosen augmentation, with the strengths that are given beside it."""
    return adjusted(
        STRENGTHS[data.augmentation],
        crop_scale=data.crop_scale,
        color_strength=data.color_strength,
        blur_probability=data.blur_probability,
        grayscale_probability=data.grayscale_probability,
    )


def some_rows(samples: Samples, count: int) -> dict[str, np.ndarray]:
    """At most ``count`` samples of the first epoch, spread over all of them, by field."""
    positions = np.array(spread(range(len(samples)), count))
    rows = {name: np.empty((len(positions), *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(0, positions, rows)
    return rows
