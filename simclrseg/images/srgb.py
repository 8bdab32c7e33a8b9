"""A picture's colours as screens show them: 8-bit sRGB, from any mode, depth and embedded profile."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from simclrseg.images.headers import Refused

AT_ONCE = 1 << 21  # pixels that are converted together


def srgb_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a loaded picture, (H, W, 3) and contiguous; a large one takes no third copy.

    Raises:
        Refused: if nothing says what range its 32-bit or floating-point values have.
    """
    width, height = picture.size
    bits = _bits(picture)
    rows = max(1, AT_ONCE // width)
    if rows >= height:
        return np.array(_to_srgb(picture, bits), order="C")
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        image[top : top + rows] = np.asarray(_to_srgb(strip, bits))
    return image


def is_srgb(profile: bytes | None) -> bool:
    """Tell whether RGB pixels with that embedded profile are shown as they are: it is sRGB's, unusable or none."""
    return profile is None or _srgb_transform(profile, "RGB") is None


def _to_srgb(picture: Image.Image, bits: int) -> Image.Image:
    """Bring a loaded picture to 8-bit sRGB, over white where it is transparent."""
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(_to_8_bits(picture, bits))
    elif picture.has_transparency_data:
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


def _to_8_bits(picture: Image.Image, bits: int) -> NDArray[np.uint8]:
    """Scale grey of 16 (or 12) bits, and floats in [0, 1], to 0..255."""
    values = np.asarray(picture)
    if picture.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise Refused("its floating-point pixels are not all in [0, 1]", "save it with 8 or 16 bits")
        return (values * 255 + 0.5).astype(np.uint8)
    top = (1 << bits) - 1
    if values.min() < 0 or values.max() > top:
        raise Refused(f"its {values.itemsize * 8}-bit pixels have no known range", "save it with 8 or 16 bits")
    return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


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


def _bits(picture: Image.Image) -> int:
    """Bits of a grey value of more than 8."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(min(picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0], 16))
    return 16
