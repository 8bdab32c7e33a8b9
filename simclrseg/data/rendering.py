"""Views of an image, rendered by OpenCV with the results of torchvision's augmentations.

Pictures are (H, W, bands), uint8 or uint16. Hue, saturation and greyscale are of red, green and blue alone; all else
is done to every band. A multispectral picture's colours change exactly as those of a photo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from simclrseg.data.augment import GRID, View
from simclrseg.images.resizing import resize_image, resize_part
from simclrseg.metadata import IGNORE

_LUMA = np.array([0.299, 0.587, 0.114])  # of R, G, B: ITU-R 601, as torchvision has it
_GROUP = 4  # bands that OpenCV works on at once
_PHOTO = (0, 1, 2)
_MAX_SHRINK = 2.2  # beyond it a 3-tap kernel is too short to prepare linear interpolation; see resample


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


@lru_cache(maxsize=512)
def _hue_row(shift: int, width: int) -> np.ndarray:
    return np.tile(np.array([shift, 0, 0], np.uint8), width)


def _three_tap_sigma(variance: float) -> float:
    """Sigma of the sampled Gaussian whose taps (e, 1, e) / (1 + 2e) have this variance; 0 where none is needed."""
    if variance < 0.01:
        return 0.0
    e = variance / (2 * (1 - variance))
    return math.sqrt(-0.5 / math.log(e))
