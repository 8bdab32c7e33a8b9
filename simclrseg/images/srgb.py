"""A picture's colours as screens show them: 8-bit sRGB, from any mode and embedded profile."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from simclrseg.images.strips import strips_of

ALPHA = ("RGBA", "LA", "PA")
"""Pillow's modes with an alpha channel."""


def hides_all(picture: Image.Image) -> bool:
    """Tell whether the alpha channel of a loaded picture hides all of it, as a camera's unused fourth byte does."""
    return picture.mode in ALPHA and picture.getchannel("A").getextrema()[1] == 0


def opacity_of(picture: Image.Image) -> NDArray[np.uint8] | None:
    """(H, W) opacity of a loaded picture of 8 bits, up to 255; None where it is opaque everywhere."""
    if not picture.has_transparency_data:
        return None
    alpha = (picture if picture.mode in ALPHA else picture.convert("RGBA")).getchannel("A")
    return None if alpha.getextrema()[0] == 255 else np.asarray(alpha)


def srgb_pixels(
    rows: Callable[[int, int], Image.Image], size: tuple[int, int], *, over_white: bool = True
) -> NDArray[np.uint8]:
    """The pixels of a picture of 8 bits, (H, W, 3) and contiguous; a large one takes no third copy.

    Args:
        rows: gives those from the first to the last, which is not included.
        size: of the picture, (width, height).
        over_white: where it is transparent; else its colours are taken whatever its alpha channel says.
    """
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    for top, bottom in strips_of(size):
        image[top:bottom] = np.asarray(_to_srgb(rows(top, bottom), over_white))
    return image


def is_srgb(profile: bytes | None) -> bool:
    """Tell whether RGB pixels with that embedded profile are shown as they are: it is sRGB's, unusable or none."""
    return profile is None or _srgb_transform(profile, "RGB") is None


def _to_srgb(picture: Image.Image, over_white: bool) -> Image.Image:
    """Bring a loaded picture to 8-bit sRGB."""
    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data and over_white:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    transform = _srgb_transform(profile, picture.mode) if profile or picture.mode == "LAB" else None
    if transform is not None:
        return transform.apply(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


@lru_cache(maxsize=16)
def _srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from an embedded profile (or Lab) to sRGB; None where there is nothing to do or it is unusable."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile or b"") if mode != "LAB" else ImageCms.createProfile("LAB"))
        space = source.profile.xcolor_space.strip()
        if {"L": "GRAY", "LAB": "Lab"}.get(mode, mode) != space:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "RGB":
            levels = np.arange(0, 256, 17, dtype=np.uint8)
            colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
            changed = np.asarray(transform.apply(Image.fromarray(colours)))
            if np.abs(changed.astype(int) - colours).max() <= 3:  # sRGB by another name, as most profiles are
                return None
        return transform
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        return None  # viewers, too, show a picture with a broken profile as if it had none
