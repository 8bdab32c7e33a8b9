"""From pictures to probabilities and masks, with an open model; the geometry is that of training. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from simclrseg.images.resizing import resize_probability
from simclrseg.metadata import ModelMetadata

if TYPE_CHECKING:
    from simclrseg.inference.session import Model

Predict = Callable[[np.ndarray], np.ndarray]
"""Pictures (N, H, W, bands) -> float32 probabilities.

(N, H, W) of the foreground, (N, C, H, W) of each class, or (N, K) of whole pictures.
"""

STRIP = 1 << 20  # values in memory at once, of a large picture


def run(model: Model, batch: np.ndarray) -> np.ndarray:
    """Probabilities of pictures as they are.

    Args:
        batch: (N, H, W, bands), of the model's own type.

    Returns:
        float32 in [0, 1]: (N, H, W) of the foreground, or (N, C, H, W) of each class.
    """
    return model.run(np.ascontiguousarray(batch)).astype(np.float32, copy=False)


def mirrored(predict: Predict) -> Predict:
    """The mean of a prediction and that of the mirror image, the one change that training knows too."""

    def both(batch: np.ndarray) -> np.ndarray:
        there, back = predict(batch), predict(batch[:, :, ::-1])
        is_map = back.ndim > 2  # else classes of the whole picture
        mean: np.ndarray = (there + (back[..., ::-1] if is_map else back)) / 2
        return mean

    return both


def strips(probability: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Resize as ``to_size`` does, in strips of whole rows where the result is large.

    Yields:
        Number of rows above, and the probabilities of the next rows.
    """
    height, width = size
    classes = 1 if probability.ndim == 2 else len(probability)
    count = max(1, STRIP // (classes * width))
    if count >= height:
        yield 0, to_size(probability, size)
        return
    last = probability.shape[-2] - 1
    for top in range(0, height, count):
        # rows by hand, as OpenCV does it, then columns by OpenCV
        rows = (np.arange(top, min(top + count, height)) + 0.5) * ((last + 1) / height) - 0.5
        above = np.clip(np.floor(rows).astype(int), 0, last)
        share = np.clip(rows - above, 0, 1).astype(np.float32)[:, None]
        below = np.minimum(above + 1, last)
        tall = probability[..., above, :] * (1 - share) + probability[..., below, :] * share
        yield top, to_size(tall, (len(rows), width))


def to_size(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize probabilities (H, W) or (C, H, W) to ``size``, (height, width), in the same layout."""
    if probability.ndim == 2:
        return resize_probability(probability, size)
    resized = resize_probability(np.ascontiguousarray(probability.transpose(1, 2, 0)), size)
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


def to_mask(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """Class ids: 1 where the foreground's probability exceeds the threshold, else 0; or the likeliest class.

    Args:
        probability: (H, W) of the foreground, or (C, H, W) of each class.
        threshold: in (0, 1); it has no meaning for several classes.

    Returns:
        (H, W) uint8.
    """
    if probability.ndim == 3:
        likeliest: np.ndarray = probability.argmax(axis=0)
        return likeliest.astype(np.uint8)
    return (probability > (0.5 if threshold is None else threshold)).astype(np.uint8)


def to_picture(mask: np.ndarray, metadata: ModelMetadata) -> np.ndarray:
    """A mask as it is written to a file: 0 and 255 where there are two classes, else the class ids themselves."""
    return mask * np.uint8(255) if len(metadata.classes) <= 2 else mask
