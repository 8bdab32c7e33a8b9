"""The one way to read a picture: decoded, upright, in colours as screens show them, or all bands as they are stored.

No torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin

from simclrseg.errors import ImageError
from simclrseg.images.bands import places_of
from simclrseg.images.depth import (
    Blank,
    Deep,
    Range,
    blank_pixels,
    common_range,
    deep_values,
    likely_range,
    sample_bits,
    scaled_bands,
    spread_of,
    stated_range,
)
from simclrseg.images.geography import Geography, geography_of
from simclrseg.images.headers import Refused, exif_follows_pixels, exif_orientation, is_plain_png, jpeg_header
from simclrseg.images.limits import LARGE, MAX_PIXELS, MOST, check_content, check_size, room_for
from simclrseg.images.opening import AS_STORED, check, has_more, loaded, open_picture, opened, turn_upright, turned
from simclrseg.images.srgb import ALPHA, hides_all, is_srgb, opacity_of, srgb_pixels
from simclrseg.images.strips import as_array, cut
from simclrseg.images.tiff import SIGNATURES, Tiff, open_tiff, unsigned
from simclrseg.metadata import RGB

Pixels = NDArray[np.uint8 | np.uint16]
"""(H, W, 3) RGB or (H, W), uint8; (H, W, bands) uint8 or uint16 where a dataset reads all that is stored."""
Mask = NDArray[np.uint8]
"""(H, W) class ids; (H, W, 3) where a file stores them as colours."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture and what its file says of it."""

    pixels: Pixels  # (H, W, 3) uint8, or all bands as they are stored; upright
    orientation: int = 1  # EXIF's, 1 to 8; ``turn_back`` gives the stored one
    several: bool = False  # the file holds more frames or pages than this first one
    hidden: bool = False  # its alpha channel hides all of it, so that its colours were taken as they are
    stored: Range | None = None  # least and greatest value where it has more than 8 bits
    reach: Range | None = None  # and what became 0 and 255, or 0 and 10,000 of floating-point bands
    bands: tuple[str, ...] = RGB  # their names, as ``tagged_bands`` has them
    blank: Blank | None = None  # where it holds nothing; None for nowhere
    geography: Geography | None = None  # of a TIFF
    opacity: NDArray[np.uint8] | None = None  # (H, W), up to 255, of what was laid over white; None for opaque ones


def read_image(source: str | Path | bytes, *, reach: Range | Callable[[Deep], Range] = stated_range) -> Pixels:
    """Decode a picture to RGB, as a viewer would show it.

    Transparent pixels are laid over white unless all are, more than 8 bits are scaled to 8, CMYK, Lab and pictures with
    an embedded ICC profile are brought to sRGB, and of several frames or pages the first is taken.

    Args:
        source: a file, or its contents.
        reach: the values of more than 8 bits that become 0 and 255, or what finds them for a picture.

    Returns:
        (H, W, 3) uint8, contiguous.

    Raises:
        ImageError: if it cannot be read, here as in the functions below; the message names file and reason.
    """
    return read_picture(source, reach=reach).pixels


def read_picture(
    source: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    reach: Range | Callable[[Deep], Range] = stated_range,
) -> Picture:
    """Read an image as ``read_image`` does, with what else the file says.

    Args:
        max_pixels: width x height allowed; checked in the header, before any pixel is decoded.
    """
    in_memory = isinstance(source, bytes)
    with opened(source) as (stream, name), ExitStack() as stack:
        if stream.read(3) == b"\xff\xd8\xff":
            data = source if isinstance(source, bytes) else b"\xff\xd8\xff" + stream.read()
            if (jpeg := _plain_jpeg(source, data, max_pixels, stack)) is not None:
                return jpeg
            stream = BytesIO(data)
        picture = open_picture(stream, name)
        width, height = picture.size
        check(picture, stream, max_pixels)
        stack.enter_context(room_for(width * height))
        if width * height > LARGE and not in_memory and is_plain_png(stream):
            image = _decode_plain(source, height, width)
            if image is not None:
                return Picture(image)
            picture = open_picture(stream, name)
        geography = geography_of(picture.tag_v2) if isinstance(picture, TiffImagePlugin.TiffImageFile) else None
        nodata = geography.nodata if geography else None
        several = has_more(picture)
        if width * height > LARGE and isinstance(picture, TiffImagePlugin.TiffImageFile):
            orientation = exif_orientation(picture)
            if (tiff := Tiff(stream)).is_plain_rgb:  # Pillow takes 4 bytes a pixel, and a copy
                pixels = tiff.pixels()
                blank = turned(blank_pixels(pixels, nodata), orientation)
                pixels = turn_upright(pixels, orientation)
                return Picture(pixels, orientation, several, blank=blank, geography=geography)
        picture, orientation, left = loaded(picture, stream)
        deep = deep_values(stream, picture, partial(turn_upright, orientation=orientation), nodata=nodata)
        if deep is None:
            hidden = hides_all(picture)
            blank = _blank_photo(picture, geography) if geography and not hidden else None
            opacity = None if hidden else turned(opacity_of(picture), left)
            pixels = srgb_pixels(partial(cut, picture), picture.size, over_white=not hidden)
            del picture  # of which turning would take a third copy
            pixels = turn_upright(pixels, left)
            return Picture(pixels, orientation, several, hidden, blank=blank, geography=geography, opacity=opacity)
        size, profile = picture.size, picture.info.get("icc_profile")
        del picture
        stored = deep.spread  # before anything is scaled: it refuses what is no number
        scale = reach(deep) if callable(reach) else reach
        hidden = deep.hides_all
        rows = partial(deep.to_8_bits, reach=scale, profile=profile)
        pixels = turn_upright(srgb_pixels(rows, size, over_white=not hidden), left)
        blank, opacity = turned(deep.blank, left), None if hidden else turned(deep.opacity, left)
        return Picture(
            pixels, orientation, several, hidden, stored, scale, blank=blank, geography=geography, opacity=opacity
        )


def vague_range(source: str | Path | bytes) -> tuple[Range, bool] | None:
    """The least and greatest value of a picture of more than 8 bits that does not state their range; else None.

    And whether they are floating-point numbers.
    """
    with opened(source) as (stream, name), ExitStack() as stack:
        head = stream.read(32)
        if not (head.startswith(SIGNATURES) or (head.startswith(b"\x89PNG") and head[24:25] == b"\x10")):
            return None
        picture = open_picture(stream, name)
        if sample_bits(picture) < 16:
            return None
        check(picture, stream)
        stack.enter_context(room_for(picture.width * picture.height))
        picture, _, _ = loaded(picture, stream)
        deep = deep_values(stream, picture, lambda values: values)
        return (deep.spread, deep.floating) if deep is not None and deep.stated is None else None


def read_scene(
    source: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    reach: Range | None = None,
    wanted: Sequence[str] = (),
) -> Picture:
    """Read the samples of a TIFF as they are stored: all bands, 16 bits where it has them, in no colour space.

    Floating-point numbers become such of 16 bits, in which ``REFLECTANCE`` stands for the upper end of their range.
    Pixels that hold nothing are 0, or the file's own value where it is a number of 16 bits.

    Args:
        reach: that range; by default the one that the values seem to have.
        wanted: names of the bands that will be taken, of whose kind the range is then to be.
    """
    with opened(source) as (stream, _), ExitStack() as stack:
        if (tiff := open_tiff(stream)) is None:
            raise Refused("not a TIFF, which pictures of other bands than red, green and blue must be")
        tiff.check(max_pixels)
        bands, geography = tiff.names, tiff.geography
        stack.enter_context(room_for(tiff.height * tiff.width))
        samples = tiff.samples()
        blank = blank_pixels(samples, tiff.nodata)
        if tiff.floating:
            stored = spread_of(samples, blank)
            places = places_of(wanted, bands) or range(len(bands))
            scale = reach or common_range(_spreads(samples, blank), places)
            pixels: Pixels = scaled_bands(samples, scale, blank)
            return Picture(pixels, stored=stored, reach=scale, bands=bands, blank=blank, geography=geography)
        if blank is not None and samples.dtype.kind == "i":
            samples[blank] = 0
        return Picture(unsigned(samples), bands=bands, blank=blank, geography=geography)


def stored_bands(source: str | Path | bytes) -> tuple[int, int] | None:
    """Count the bands of a TIFF that is no photo, and the bits that ``read_scene`` gives each; None for photos."""
    with opened(source) as (stream, _):
        if (tiff := open_tiff(stream)) is None or tiff.is_photo:
            return None
        return tiff.bands, 16 if tiff.floating else tiff.bits


def floating_ranges(source: str | Path | bytes) -> tuple[tuple[str, ...], list[Range]] | None:
    """The names of a TIFF's floating-point bands, as ``named_bands`` has them, and the range of each one's values.

    None for other numbers, and for photos.
    """
    with opened(source) as (stream, _):
        if (tiff := open_tiff(stream)) is None or tiff.is_photo or not tiff.floating:
            return None
        tiff.check()
        with room_for(tiff.height * tiff.width):
            samples = tiff.samples()
            return tiff.names, _spreads(samples, blank_pixels(samples, tiff.nodata))


def _spreads(samples: NDArray[Any], blank: Blank | None) -> list[Range]:
    return [spread_of(samples[:, :, band], blank) for band in range(samples.shape[2])]


def named_bands(source: str | Path | bytes) -> tuple[str, ...]:
    """The names of the bands of a TIFF by its tags, or numbers; those of a photo for other files."""
    with opened(source) as (stream, _):
        return tiff.names if (tiff := open_tiff(stream)) else RGB


def blank_of(source: str | Path | bytes, *, reach: Range | None = None) -> Blank | None:
    """Where a picture holds nothing, as ``read_scene`` and ``read_picture`` find it; None where it is whole."""
    if stored_bands(source) is not None:
        return read_scene(source, reach=reach).blank
    return read_picture(source, reach=reach or likely_range).blank


def may_be_blank(source: str | Path | bytes) -> bool:
    """Tell whether a TIFF says that pixels may hold nothing, or has numbers of which some may be none."""
    with opened(source) as (stream, _):
        if tiff := open_tiff(stream):
            is_map = tiff.geography is not None and tiff.geography.is_placed
            map_with_alpha = is_map and tiff.is_photo and tiff.bands in (2, 4)
            return tiff.floating or map_with_alpha or tiff.nodata is not None
    return False


def holds_several(source: str | Path | bytes) -> bool:
    """Tell whether a picture has more frames or pages than the first, which is read."""
    with opened(source) as (stream, name):
        return has_more(open_picture(stream, name))


def is_hidden(source: str | Path | bytes) -> bool:
    """Tell whether the alpha channel of a picture hides all of it; it is decoded if it has one."""
    with opened(source) as (stream, name):
        picture = open_picture(stream, name)
        if picture.mode not in ALPHA:
            return False
        check(picture, stream)
        with room_for(picture.width * picture.height):
            return hides_all(loaded(picture, stream)[0])


def image_shape(source: str | Path | bytes) -> tuple[int, int]:
    """(height, width) of a picture as ``read_image`` would return it, from the header alone."""
    height, width, _ = image_header(source)
    return height, width


def known_shape(path: Path | None) -> tuple[int, int]:
    """The same, and 0 for what has no file or no header that can be read: the loader names it."""
    with suppress(ImageError):
        return (0, 0) if path is None else image_shape(path)
    return 0, 0


def image_header(source: str | Path | bytes) -> tuple[int, int, int]:
    """Height and width likewise, and the orientation, 1 to 8, in which the file stores it."""
    with opened(source) as (stream, name):
        if (tiff := open_tiff(stream)) and not tiff.is_photo:
            return tiff.height, tiff.width, 1
        picture = open_picture(stream, name)
        width, height = picture.size
        if isinstance(picture, TiffImagePlugin.TiffImageFile):  # Pillow has exchanged them already
            return height, width, exif_orientation(picture)
        if isinstance(picture, PngImagePlugin.PngImageFile) and exif_follows_pixels(stream):
            check(picture, stream)
            picture.load()
        orientation = exif_orientation(picture)
        return (width, height, orientation) if orientation >= 5 else (height, width, orientation)


def _plain_jpeg(source: str | Path | bytes, data: bytes, max_pixels: int, stack: ExitStack) -> Picture | None:
    """A JPEG that OpenCV decodes to the same samples as Pillow, only sooner; None for others.

    Args:
        data: what the source holds.
        stack: gets the room that a large one takes, whoever decodes it.
    """
    if (header := jpeg_header(data)) is None:
        return None
    check_size(header.width, header.height, max_pixels)
    pixels = header.width * header.height
    stack.enter_context(room_for(pixels))
    if pixels > LARGE:
        check_content(pixels, MOST["JPEG"], len(data))
    whole = data.endswith(b"\xff\xd9")  # cv2 fills a cut JPEG with grey and says nothing
    if not (header.plain and whole and is_srgb(header.profile)):
        return None
    image = _decode_plain(source if pixels > LARGE else data, header.height, header.width)
    return None if image is None else Picture(turn_upright(image, header.orientation), header.orientation)


def _decode_plain(source: str | Path | bytes, height: int, width: int) -> NDArray[Any] | None:
    """OpenCV's pixels of a plain JPEG or PNG; those of a file without the second copy that others make."""
    try:
        if isinstance(source, bytes):
            return cv2.imdecode(np.frombuffer(source, np.uint8), AS_STORED)
        image = np.empty((height, width, 3), np.uint8)
        return image if cv2.imread(os.fspath(source), image, AS_STORED) is image else None
    except cv2.error:
        return None


def _blank_photo(picture: Image.Image, geography: Geography) -> Blank | None:
    """Where a loaded TIFF of 8 bits holds nothing: its own value stands there, or a map's alpha channel hides it."""
    if picture.mode in ALPHA and geography.is_placed:
        blank = as_array(picture.getchannel("A")) == 0
        return blank if blank.any() else None
    return blank_pixels(as_array(picture), geography.nodata) if picture.mode in ("L", "RGB") else None
