"""Views of an image: torchvision's augmentations, drawn from given random numbers and rendered by OpenCV.

Pictures are (H, W, bands), uint8 or uint16. Hue, saturation and greyscale are of red, green and blue alone; all else
is done to every band. A multispectral picture's colours change exactly as those of a photo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import cv2
import numpy as np

from simclrseg.images.resizing import resize_image, resize_part
from simclrseg.metadata import IGNORE

_LUMA = np.array([0.299, 0.587, 0.114])  # of R, G, B: ITU-R 601, as torchvision has it
_ORDERS = tuple(permutations(range(4)))
_CROP_ATTEMPTS = 10
_GROUP = 4  # bands that OpenCV works on at once
_PHOTO = (0, 1, 2)
_UNCHANGED = (1.0, 1.0, 1.0, 0.0)  # brightness, contrast, saturation, hue
_MAX_SHRINK = 2.2  # beyond it a 3-tap kernel is too short to prepare linear interpolation; see resample

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


def render_view(image: np.ndarray, view: View, out: np.ndarray, colours: tuple[int, ...] = _PHOTO) -> None:
    """Write one view of an image of any bands.

    Args:
        image: (H, W, bands) uint8 or uint16.
        out: (S, S, bands) of the same type, contiguous; overwritten.
        colours: where red, green and blue stand among the bands; nothing where there are none.
    """
    top, left, height, width = view.box
    crop = image[top : top + height, left : left + width]
    for bands, operations in _groups(out.shape[2], colours):
        part = out if bands is None else np.empty(out[:, :, bands].shape, out.dtype)
        resample(crop if bands is None else np.ascontiguousarray(crop[:, :, bands]), part)
        if view.flip:
            cv2.flip(part, 1, dst=part)
        _recolour(part, view, operations)
        if bands is not None:
            out[:, :, bands] = part


def render_image(image: np.ndarray, view: View, out: np.ndarray, colours: tuple[int, ...]) -> None:
    """Write one view of a labelled image, as ``render_view``; without a crop it is the geometry of evaluation.

    Args:
        view: its box in ``GRID`` steps of the image's sides, so that a crop has the image's shape and not the square's.
    """
    top, left, bottom, right = _window(image.shape, view.box)
    crop = np.ascontiguousarray(image[top:bottom, left:right])
    np.copyto(out, resize_image(crop, (out.shape[0], out.shape[1])))
    if view.flip:
        np.copyto(out, out[:, ::-1].copy())
    recolour(out, view, colours)


def recolour(out: np.ndarray, view: View, colours: tuple[int, ...]) -> None:
    """Change colours and sharpness of an image (H, W, bands) in place, as a view says, whatever its crop and flip."""
    for bands, operations in _groups(out.shape[2], colours) if view.recolours else ():
        part = out if bands is None else np.ascontiguousarray(out[:, :, bands])
        _recolour(part, view, operations)
        if bands is not None:
            out[:, :, bands] = part


class Square(NamedTuple):
    """Where a sample is written, all of which is overwritten."""

    image: np.ndarray
    """(S, S, bands), contiguous."""
    mask: np.ndarray | None
    """(S, S) uint8 class ids, contiguous; None where no mask is wanted."""


def render_pair(image: np.ndarray, mask: np.ndarray | None, view: View, out: Square, colours: tuple[int, ...]) -> None:
    """Write one view of an image and its mask together, as ``render_image``.

    Args:
        mask: (h, w) uint8 class ids, the image's own size or a coarser one; None where there is no place for it.
    """
    render_image(image, view, out.image, colours)
    if mask is not None and out.mask is not None:
        window = _window(image.shape, view.box)
        np.copyto(out.mask, resize_part(mask, image.shape, window, (out.mask.shape[0], out.mask.shape[1])))
        if view.flip:
            cv2.flip(out.mask, 1, dst=out.mask)


def render_part(
    image: np.ndarray,
    mask: np.ndarray | None,
    size: tuple[int, int],
    view: View,
    out: Square,
    *,
    fill: Sequence[int],
    colours: tuple[int, ...],
) -> tuple[int, int, int, int]:
    """Write a part of an image, and of its mask, to the corner of a square, of which the rest is padding.

    Colours change in the part alone: padding stays as it is, and has no share in what is measured for them.

    Args:
        image: the part, (h, w, bands).
        mask: its class ids, which have ``size`` already; None where there are none.
        size: (height, width) that it has in the square.
        view: its box is of no use here.
        fill: the stored value of padding, of each band; of masks it is 255.

    Returns:
        Top, left, bottom and right of its place: on the left above, or on the right where it is flipped.
    """
    height, width = size
    inner = np.ascontiguousarray(resize_image(image, size))
    if view.flip:
        inner = inner[:, ::-1].copy()
    elif view.recolours:
        inner = inner.copy()  # it may be the dataset's own
    recolour(inner, view, colours)
    left = out.image.shape[1] - width if view.flip else 0
    out.image[...] = np.asarray(fill, out.image.dtype)
    out.image[:height, left : left + width] = inner
    if mask is not None and out.mask is not None:
        out.mask[...] = IGNORE
        out.mask[:height, left : left + width] = mask[:, ::-1] if view.flip else mask
    return 0, left, height, left + width


def _window(shape: Sequence[int], box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a crop of (height, width, ...); its ``box`` is in ``GRID`` steps of each side."""
    (height, width, *_), (top, left, tall, wide) = shape, box
    y, x = top * height // GRID, left * width // GRID
    return y, x, max(y + 1, (top + tall) * height // GRID), max(x + 1, (left + wide) * width // GRID)


def _recolour(out: np.ndarray, view: View, operations: Sequence[_Operation | None]) -> None:
    """Change colours and sharpness in place, of bands that OpenCV works on at once."""
    for number in view.order:
        operation = operations[number]
        if operation is not None:
            operation(out, view.factors[number])
    if view.grayscale and operations is _COLOUR:
        adjust_saturation(out, 0.0)
    if view.sigma > 0:
        gaussian_blur(out, view.sigma)


def resample(image: np.ndarray, out: np.ndarray) -> None:
    """Squash an image into ``out`` (S, S[, 2 to 4]) with nearly torchvision's and Pillow's antialiased bilinear filter.

    Their filter is a triangle as wide as two output pixels: in pixels of the image, at a shrink of s, its variance is
    s²/6. Linear interpolation alone has 1/6, so a 3-tap kernel with the missing (s² - 1)/6 goes before it. That is
    about as close as INTER_AREA and two to three times as fast. Axes that shrink by more than 2.2 are halved first,
    without a last odd row or column: as if the crop ended less than one output pixel earlier.
    """
    size = out.shape[0]
    limit = _MAX_SHRINK * size
    height, width = image.shape[:2]
    done_y = done_x = 0.0  # variance that halving has already given, in pixels of the current image
    while height > limit or width > limit:
        y, x = 1 + (height > limit), 1 + (width > limit)
        height, width = height // y, width // x
        image = cv2.resize(image[: height * y, : width * x], (width, height), interpolation=cv2.INTER_AREA)
        done_y = done_y / 4 + 1 / 16 if y == 2 else done_y
        done_x = done_x / 4 + 1 / 16 if x == 2 else done_x
    sigma_y = _three_tap_sigma(((height / size) ** 2 - 1) / 6 - done_y)
    sigma_x = _three_tap_sigma(((width / size) ** 2 - 1) / 6 - done_x)
    if sigma_x or sigma_y:
        taps = (3 if sigma_x else 1, 3 if sigma_y else 1)
        smooth = np.empty_like(image)  # made here: cv2 would have to ask for the GIL, and wait, to make it
        image = cv2.GaussianBlur(
            image, taps, sigma_x or 1.0, dst=smooth, sigmaY=sigma_y or 1.0, borderType=cv2.BORDER_REPLICATE
        )
    cv2.resize(image, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)


def adjust_brightness(image: np.ndarray, factor: float) -> None:
    """Scale all bands, in place; as torchvision's adjust_brightness, but rounding where it cuts off."""
    if factor != 1:
        cv2.transform(image, np.eye(_bands(image)) * factor, dst=image)


def adjust_contrast(image: np.ndarray, factor: float) -> None:
    """Scale the distance from the mean luma, in place."""
    if factor != 1:
        _scale_around(image, np.full(3, _LUMA @ cv2.mean(image)[:3]), factor)


def _adjust_contrast_of_bands(image: np.ndarray, factor: float) -> None:
    """Scale the distance from each band's own mean, in place: bands other than colours have no luma in common."""
    if factor != 1:
        _scale_around(image, np.array(cv2.mean(image)[: _bands(image)]), factor)


def _scale_around(image: np.ndarray, means: np.ndarray, factor: float) -> None:
    cv2.transform(image, np.column_stack([np.eye(len(means)) * factor, (1 - factor) * means]), dst=image)


def adjust_saturation(image: np.ndarray, factor: float) -> None:
    """Scale the distance of each pixel from its luma, in place; 0 makes it grey."""
    if factor != 1:
        cv2.transform(image, np.eye(3) * factor + (1 - factor) * _LUMA, dst=image)


def adjust_hue(image: np.ndarray, turns: float) -> None:
    """Turn the hue in HSV, in place; ``turns`` in [-0.5, 0.5], resolved to 1/256 turn."""
    shift = round(turns * 256) % 256
    if shift and image.dtype != np.uint8:
        hsv = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0] + shift * (360 / 256)) % 360
        np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), out=image, casting="unsafe")
    elif shift:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL, dst=np.empty_like(image))
        rows = hsv.reshape(len(hsv), -1)
        np.add(rows, _hue_row(shift, image.shape[1]), out=rows)  # wraps at 256, which is the full turn
        cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=image)


def gaussian_blur(image: np.ndarray, sigma: float) -> None:
    """Blur in place, with at most the paper's kernel of a tenth of the side (23 taps at 224 px).

    Taps beyond 3 sigma weigh under 0.3 % together and are left out.
    """
    radius = min(math.ceil(3 * sigma), max(1, image.shape[0] // 20))
    cv2.GaussianBlur(image, (2 * radius + 1, 2 * radius + 1), sigma, dst=image)


_Operation = Callable[[np.ndarray, float], None]
_COLOUR: tuple[_Operation, ...] = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
_OTHER: tuple[_Operation | None, ...] = (adjust_brightness, _adjust_contrast_of_bands, None, None)


@lru_cache(maxsize=16)
def _groups(count: int, colours: tuple[int, ...]) -> list[tuple[list[int] | int | None, Sequence[_Operation | None]]]:
    """Bands that OpenCV works on at once, with what is done to them: the colours, then the others by four.

    None stands for an image as a whole, and a number for a single band, which OpenCV knows without its axis.
    """
    if colours == _PHOTO and count == len(_PHOTO):
        return [(None, _COLOUR)]
    others = [band for band in range(count) if band not in colours]
    groups = [others[first : first + _GROUP] for first in range(0, len(others), _GROUP)]
    singles = [(group if len(group) > 1 else group[0], _OTHER) for group in groups]
    return [*([(list(colours), _COLOUR)] if colours else []), *singles]


def _bands(image: np.ndarray) -> int:
    return 1 if image.ndim == 2 else image.shape[2]


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


@lru_cache(maxsize=512)
def _hue_row(shift: int, width: int) -> np.ndarray:
    return np.tile(np.array([shift, 0, 0], np.uint8), width)


def _three_tap_sigma(variance: float) -> float:
    """Sigma of the sampled Gaussian whose taps (e, 1, e) / (1 + 2e) have this variance; 0 where none is needed."""
    if variance < 0.01:
        return 0.0
    e = variance / (2 * (1 - variance))
    return math.sqrt(-0.5 / math.log(e))


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u
