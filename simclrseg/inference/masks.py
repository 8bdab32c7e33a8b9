"""From a picture to its mask, with an open model; the geometry is that of training. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simclrseg.errors import DataError
from simclrseg.images import resize_image, resize_probability
from simclrseg.metadata import ModelMetadata

if TYPE_CHECKING:
    from simclrseg.inference.session import Model


def predict_mask(model: Model, image: np.ndarray, *, threshold: float | None = None) -> np.ndarray:
    """The mask of a picture as it is written to a file, at the picture's own size.

    Args:
        image: (H, W, bands) uint8.
        threshold: in (0, 1); the model's own by default.

    Returns:
        (H, W) uint8: 0 and 255 where there are two classes, else class ids.

    Raises:
        DataError: if the picture has not the model's number of bands.
    """
    mask = to_mask(probabilities(model, image), threshold or model.metadata.threshold)
    return to_picture(mask, model.metadata)


def probabilities(model: Model, image: np.ndarray) -> np.ndarray:
    """What the model thinks of each pixel, at the picture's own size.

    The picture is squashed to the model's training size and the probabilities are resized back.

    Args:
        image: (H, W, bands) uint8.

    Returns:
        float32 in [0, 1]: (H, W) of the foreground, or (C, H, W) of each class.

    Raises:
        DataError: if the picture has not the model's number of bands.
    """
    height, width, bands = image.shape
    if bands != model.metadata.in_channels:
        raise DataError(f"the picture has {bands} bands, the model {model.path} takes {model.metadata.in_channels}")
    side = model.metadata.image_size
    small = np.ascontiguousarray(resize_image(image, (side, side)))
    (batch,) = model.session.run(["probability"], {"image": small[None]})
    return to_size(batch[0], (height, width))


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
