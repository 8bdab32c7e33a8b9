"""Views of an image: how strongly each may be changed, and what random numbers make of that, as in torchvision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import NamedTuple

import numpy as np

_ORDERS = tuple(permutations(range(4)))
_CROP_ATTEMPTS = 10
_UNCHANGED = (1.0, 1.0, 1.0, 0.0)  # brightness, contrast, saturation, hue

VIEW_COLUMNS = 2 * _CROP_ATTEMPTS + 12
"""Random numbers that one view takes."""
GRID = 1 << 12
"""Steps of an image's sides in which the crop of a pair is told."""


@dataclass(frozen=True)
class Strengths:
    """Ranges and probabilities of the augmentations, with torchvision's meaning of each.

    The order is that of Chen et al. 2020, appendix A: crop, flip, colour jitter, greyscale, blur.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a crop covers; (1, 1) is the whole image, whatever its shape."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width / height of a crop."""
    flip_probability: float = 0.5
    """Horizontal flip."""
    jitter_probability: float = 0.8
    """The four colour changes together, in random order."""
    brightness: float = 0.8
    """Factor from [1 - x, 1 + x], not below 0; so for contrast and saturation."""
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    """Shift from [-x, x], in turns of the colour circle; at most 0.5."""
    grayscale_probability: float = 0.2
    blur_probability: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """In pixels of the view."""


_MILD = Strengths(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)  # s = 0.5

STRENGTHS = {
    "paper": Strengths(),  # Chen et al. 2020 for ImageNet: s = 1
    "cifar": replace(_MILD, blur_probability=0.0),  # their CIFAR variant
    "seed": replace(_MILD, crop_scale=(0.2, 1.0)),  # from the project that this one continues
    # The whole image, flipped and recoloured: what a network should paint, as reconstruction has it.
    "whole": replace(_MILD, crop_scale=(1.0, 1.0), grayscale_probability=0.0, blur_probability=0.0),
}

_STILL = Strengths(
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip_probability=0.0,
    jitter_probability=0.0,
    grayscale_probability=0.0,
    blur_probability=0.0,
)

_FLIP = replace(_STILL, flip_probability=0.5)
_COLOR = replace(_FLIP, jitter_probability=0.8, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05)

PAIR_STRENGTHS = {
    "none": _STILL,
    "flip": _FLIP,
    "color": _COLOR,
    # Zoom to twice the size, other aspects, flip and mild colours: what images of one thing differ in.
    "standard": replace(_COLOR, crop_scale=(0.25, 1.0), crop_ratio=(3 / 4, 4 / 3)),
}
"""For an image and its mask together; none of them moves one against the other."""

WEAK = replace(PAIR_STRENGTHS["standard"], jitter_probability=0.0)
"""A view in which the teacher looks: cropped and flipped as labelled photos are, in the photo's own colours."""

STRONG = replace(
    _STILL,
    jitter_probability=0.8,
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    hue=0.25,
    grayscale_probability=0.2,
    blur_probability=0.5,
)
"""What a strong view has beyond a weak one: colour and blur of UniMatch (Yang et al. 2023, appendix)."""


def adjusted(
    strengths: Strengths,
    *,
    crop_scale: float | None = None,
    color_strength: float | None = None,
    blur_probability: float | None = None,
    grayscale_probability: float | None = None,
) -> Strengths:
    """The same strengths but for those that are given.

    Args:
        crop_scale: smallest share of the image's area that a crop covers.
        color_strength: s of Chen et al. 2020, appendix A: jitter of 0.8s, 0.8s, 0.8s, 0.2s; at most 2.5.
    """
    if crop_scale is not None:
        strengths = replace(strengths, crop_scale=(crop_scale, strengths.crop_scale[1]))
    if color_strength is not None:
        s = color_strength
        strengths = replace(strengths, brightness=0.8 * s, contrast=0.8 * s, saturation=0.8 * s, hue=0.2 * s)
    if blur_probability is not None:
        strengths = replace(strengths, blur_probability=blur_probability)
    if grayscale_probability is not None:
        strengths = replace(strengths, grayscale_probability=grayscale_probability)
    return strengths


class View(NamedTuple):
    """Parameters of one view."""

    box: tuple[int, int, int, int]
    """Crop as (top, left, height, width), in pixels of the image."""
    flip: bool
    order: tuple[int, ...]
    """Order of brightness 0, contrast 1, saturation 2, hue 3."""
    factors: tuple[float, float, float, float]
    """Those of brightness, contrast, saturation and hue."""
    grayscale: bool
    sigma: float
    """Standard deviation of the blur, in pixels; 0 is none."""

    @property
    def recolours(self) -> bool:
        """True where any pixel changes beyond crop and flip."""
        return self.factors != _UNCHANGED or self.grayscale or self.sigma > 0

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Find points of the image in the view.

        Args:
            points: (n, 2), each x and y in pixels of the image, whose first pixel goes from 0 to 1.

        Returns:
            (n, 2), each x and y as fractions of the view's sides; outside [0, 1] where the crop does not show them.
        """
        top, left, height, width = self.box
        found = (points - (left, top)) / (width, height)
        if self.flip:
            found[:, 0] = 1 - found[:, 0]
        located: np.ndarray = found
        return located


def common_box(first: View, second: View) -> tuple[int, int, int, int]:
    """What both crops show, as (top, left, height, width) in pixels of the image; sides of 0 where they do not meet."""
    (y1, x1, h1, w1), (y2, x2, h2, w2) = first.box, second.box
    top, left = max(y1, y2), max(x1, x2)
    return top, left, max(0, min(y1 + h1, y2 + h2) - top), max(0, min(x1 + w1, x2 + w2) - left)


def sample_view(
    u: Sequence[float],
    height: int,
    width: int,
    strengths: Strengths,
    *,
    content: tuple[int, int] | None = None,
) -> View:
    """Turn random numbers into the parameters of one view, with the distribution of torchvision's transforms.

    Plain floats rather than arrays: for a handful of images that is faster than numpy, and no image has to wait for
    the size of another.

    Args:
        u: VIEW_COLUMNS numbers in [0, 1).
        height, width: of the image, in pixels.
        content: rows and columns of it, from its first, that are no padding: a crop shows as many as it can.
    """
    s = strengths
    flip, jitter, order, brightness, contrast, saturation, hue, gray, blur, sigma = u[2 * _CROP_ATTEMPTS + 2 :]
    factors = _UNCHANGED
    if jitter < s.jitter_probability:
        factors = (
            _between(max(0.0, 1 - s.brightness), 1 + s.brightness, brightness),
            _between(max(0.0, 1 - s.contrast), 1 + s.contrast, contrast),
            _between(max(0.0, 1 - s.saturation), 1 + s.saturation, saturation),
            _between(-s.hue, s.hue, hue),
        )
    return View(
        box=_sample_box(u, height, width, s, content or (height, width)),
        flip=flip < s.flip_probability,
        order=_ORDERS[int(order * len(_ORDERS))],
        factors=factors,
        grayscale=gray < s.grayscale_probability,
        sigma=_between(*s.blur_sigma, sigma) if blur < s.blur_probability else 0.0,
    )


def _sample_box(
    u: Sequence[float], height: int, width: int, s: Strengths, content: tuple[int, int]
) -> tuple[int, int, int, int]:
    """A crop as RandomResizedCrop.get_params draws it: ten attempts, then the largest central crop of legal shape."""
    if s.crop_scale[0] >= 1:
        return 0, 0, height, width
    area = height * width
    log_low, log_high = math.log(s.crop_ratio[0]), math.log(s.crop_ratio[1])
    for attempt in range(0, 2 * _CROP_ATTEMPTS, 2):
        target = area * _between(*s.crop_scale, u[attempt])
        ratio = math.exp(_between(log_low, log_high, u[attempt + 1]))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = u[2 * _CROP_ATTEMPTS : 2 * _CROP_ATTEMPTS + 2]
            rows, columns = (max(0, own - side) + 1 for own, side in zip(content, (h, w), strict=True))
            return int(top * rows), int(left * columns), h, w
    h, w = height, width
    if width / height < s.crop_ratio[0]:
        h = round(width / s.crop_ratio[0])
    elif width / height > s.crop_ratio[1]:
        w = round(height * s.crop_ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u
