"""Scoring masks image by image, at the training resolution and at that of the masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simclrseg.data.datasets.base import Dataset
from simclrseg.errors import ImageError
from simclrseg.evaluation.reading import read_ahead
from simclrseg.images import resize_image, resize_mask
from simclrseg.inference.masks import to_mask, to_size
from simclrseg.metrics import confusion_matrix

Resolution = Literal["training", "original"]
RESOLUTIONS: tuple[Resolution, ...] = ("training", "original")

# uint8 images (N, S, S, 3) -> probabilities float32, (N, S, S) for two classes or (N, C, S, S) for more
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Confusion counts of every image, from which every metric follows.

    Attributes:
        keys: the images' names in their dataset.
        counts: per resolution, (N, C, C) pixels by true and predicted class.
        skipped: images that could not be read, with the reason.
    """

    keys: tuple[str, ...]
    counts: dict[Resolution, np.ndarray]
    skipped: tuple[str, ...]


def score(
    predict: Predict,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    image_size: int,
    classes: int,
    threshold: float | None,
    batch_size: int,
    workers: int,
    on_batch: Callable[[int], None] = lambda done: None,
) -> Scores:
    """Compare predictions with masks, at both resolutions in one pass.

    A probability map is brought to the mask's size before it becomes a mask (design §6).

    Args:
        predict: the model; it gets a batch of squashed photos.
        image_size: side S of the squares that the model was trained on.
        classes: number of classes C; two classes have one probability, that of class 1.
        threshold: probability above which a pixel is class 1; unused for more than two classes.
        on_batch: is told the number of images done.
    """
    keys: list[str] = []
    skipped: list[str] = []
    counts: dict[Resolution, list[np.ndarray]] = {resolution: [] for resolution in RESOLUTIONS}

    def load(index: int) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            return resize_image(dataset.image(index), (image_size, image_size)), dataset.mask(index)
        except ImageError as error:
            return str(error)

    def count(probability: np.ndarray, mask: np.ndarray) -> dict[Resolution, np.ndarray]:
        small = resize_mask(mask, (image_size, image_size))
        large = to_size(probability, mask.shape)
        return {
            "training": confusion_matrix(to_mask(probability, threshold), small, classes),
            "original": confusion_matrix(to_mask(large, threshold), mask, classes),
        }

    with ThreadPoolExecutor(workers) as pool:
        for chunk, loaded in read_ahead(pool, load, indices, batch_size):
            read = [(index, item) for index, item in zip(chunk, loaded, strict=True) if not isinstance(item, str)]
            skipped += [item for item in loaded if isinstance(item, str)]
            if read:
                probabilities = predict(np.stack([image for _, (image, _) in read]))
                for result in pool.map(count, probabilities, [mask for _, (_, mask) in read]):
                    for resolution in RESOLUTIONS:
                        counts[resolution].append(result[resolution])
            keys += [dataset.keys[index] for index, _ in read]
            on_batch(len(keys) + len(skipped))
    empty = np.zeros((0, classes, classes), np.int64)
    stacked = {resolution: np.stack(counts[resolution]) if keys else empty for resolution in RESOLUTIONS}
    return Scores(tuple(keys), stacked, tuple(skipped))
