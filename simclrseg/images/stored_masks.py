"""Mask files as they are stored: numbers or colours, before anybody says what they mean."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin

from simclrseg.images.decode import Mask
from simclrseg.images.framing import middle
from simclrseg.images.headers import Refused, exif_orientation, peek
from simclrseg.images.limits import room_for
from simclrseg.images.opening import check, loaded, open_picture, opened, turn_upright, turned
from simclrseg.images.strips import as_array, swap_red_and_blue
from simclrseg.images.tiff import Tiff, open_tiff

_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_JPEG_IN_TIFF = {6, 7}
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "F"}  # Pillow's, of which pixels are values; and all of I
_COLOURED = {2, 4, 6}  # types of PNGs, RGB, grey and alpha, RGB and alpha, of which Pillow keeps 8 of 16 bits


@dataclass(frozen=True)
class StoredMask:
    """What a mask's file holds, in the orientation that the file itself asks for."""

    values: NDArray[Any]  # (H, W) whole numbers or floats, or (H, W, 3) uint8 or uint16 colours
    palette: NDArray[np.uint8] | None = None  # (256, 3) colours of which the values are indices; greys of 2 or 4 bits
    alpha: NDArray[Any] | None = None  # (H, W) uint8 or uint16, its largest where opaque
    bilevel: bool = False  # one bit a pixel: 1 is white, whatever number stands for white elsewhere
    why_lossy: str = ""  # why values near edges may not be those that were saved, after "is"
    inverting: bool = False  # it shows 0 as white, as ImageJ's may; the values are as stored, but for 1 bit a pixel
    turned: bool = False  # by an orientation of its own

    @property
    def lossy(self) -> bool:
        """Tell if values near edges may not be those that were saved."""
        return bool(self.why_lossy)


def read_stored_mask(
    source: str | Path | bytes, *, turned_by: int = 1, at_most: tuple[int, int] | None = None
) -> StoredMask:
    """Read a mask without any conversion of its values.

    Args:
        turned_by: the EXIF orientation of the photo on whose stored pixels it was drawn.
        at_most: (height, width) of the middle, of which no more is wanted: where that saves memory, it is all there is.

    Raises:
        ImageError: if it cannot be read, or holds what no mask holds.
    """
    with opened(source) as (stream, name), ExitStack() as stack:
        if (tiff := open_tiff(stream)) and not tiff.is_photo:
            raise Refused(f"a TIFF of {tiff.bands} bands, and a mask has one", "save class ids as an 8-bit PNG")
        picture = open_picture(stream, name)
        check(picture, stream)
        stack.enter_context(room_for(picture.width * picture.height))
        if picture.mode not in _MODES and not picture.mode.startswith("I"):
            raise Refused(f"a mask of mode {picture.mode} has no class values", "save it as an 8-bit PNG")
        why_lossy = _why_lossy(picture, stream)
        deep = _deep_colours(picture, stream)
        bits = _bits(picture, stream)
        own = left = exif_orientation(picture)
        if deep is None:
            picture, _, left = loaded(picture, stream)
        orientation = turned_by if left == 1 else left
        if deep is not None:
            hidden = deep[:, :, 3] if deep.shape[2] == 4 else None
            values = turn_upright(np.ascontiguousarray(deep[:, :, :3]), orientation)
            return StoredMask(values, None, turned(hidden, orientation), turned=own != 1)
        tags = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
        inverting = tags.get(_PHOTOMETRIC) == 0
        if at_most is not None and orientation == 1 and picture.mode != "F":  # whose values all decide what they are
            top, left, bottom, right = middle((picture.height, picture.width), at_most)
            picture = picture.crop((left, top, right, bottom))
        stored = as_array(picture)
        alpha, palette = None, None
        mode = picture.mode
        if mode in ("RGBA", "LA", "PA"):
            alpha, stored = stored[:, :, -1], stored[:, :, :-1]
            stored = stored[:, :, 0] if mode != "RGBA" else stored
        elif mode == "RGBX":
            stored = stored[:, :, :3]
        elif "transparency" in picture.info and mode in ("1", "L", "P", "RGB"):
            alpha = as_array(picture, lambda rows: rows.convert("RGBA").getchannel("A"))
        if mode in ("P", "PA"):
            colours = picture.getpalette("RGB") or []
            palette = np.zeros((256, 3), np.uint8)
            palette[: len(colours) // 3] = np.array(colours, np.uint8).reshape(-1, 3)
            if (palette == np.arange(255, -1, -1)[:, None]).all():
                inverting, palette = True, None
        del picture  # a large one is in memory long enough
        if inverting and mode == "L":  # Pillow has turned it round, as it does nothing of more bits
            stored = 255 - stored
        if mode == "L" and bits in (2, 4):  # which Pillow has stretched to 255
            greys = np.linspace(0, 255, 2**bits).astype(np.uint8)
            stored = stored // greys[1]
            palette = np.zeros((256, 3), np.uint8)
            palette[: len(greys)] = greys[:, None]
        if mode == "F":
            stored = _whole(stored)
        native = np.uint8 if stored.dtype == bool else stored.dtype.newbyteorder("=")
        values = np.ascontiguousarray(stored, native)
        return StoredMask(
            turn_upright(values, orientation),
            palette,
            turned(alpha, orientation),
            bilevel=mode == "1",
            why_lossy=why_lossy,
            inverting=inverting,
            turned=own != 1,
        )


def read_mask(source: str | Path | bytes) -> Mask:
    """Read a mask whose values are class ids or colours, without any conversion.

    Returns:
        (H, W) uint8 for indexed, grey and 1-bit files (palette indexes, grey values, 0/1);
        (H, W, 3) uint8 for RGB ones, whose alpha is left out.
    """
    values = read_stored_mask(source).values
    if (eight := eight_bits(values)) is None:
        with opened(source):
            raise Refused("its 16-bit colours are none of 8 bits", "save it as an 8-bit PNG")
    values = eight
    low, high = values.min().item(), values.max().item()
    if low < 0 or high > 255 or values.dtype.kind == "f":
        with opened(source):
            raise Refused(f"a mask with values {low} to {high} does not fit in 8 bits", "use class ids below 255")
    return np.ascontiguousarray(values, np.uint8)


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Floats as whole numbers where they are that."""
    if not np.isfinite(values).all():
        raise Refused("it has values that are not finite", "save it as an 8-bit PNG")
    if np.abs(values).max(initial=0) >= 1 << 31:
        return values
    whole = values.astype(np.int32)
    return whole if (whole == values).all() else values


def _deep_colours(picture: Image.Image, stream: IO[bytes]) -> NDArray[Any] | None:
    """(H, W, 3 or 4) colours of 16 bits, of which Pillow would drop half; None for all other files."""
    if isinstance(picture, PngImagePlugin.PngImageFile):
        depth, kind = peek(stream, 24, 2)
        if depth != 16 or kind not in _COLOURED:
            return None
        decoded = cv2.imdecode(np.frombuffer(peek(stream, 0, -1), np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None or decoded.dtype != np.uint16:
            raise Refused("the picture is damaged or cut short", "copy or download it again")
        decoded = np.dstack([decoded] * 3) if decoded.ndim == 2 else decoded
        return swap_red_and_blue(decoded)
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(_BITS, ())[:3] == (16, 16, 16):
        colours = Tiff(stream).pixels()
        return colours if colours.shape[2] >= 3 else None  # it may state bits of more bands than it has
    return None


def eight_bits(colours: NDArray[Any]) -> NDArray[Any] | None:
    """Colours of 16 bits as those of 8 that they were made of: as they are, times 257 or times 256; None if of none.

    All else is given back as it is.
    """
    if colours.dtype != np.uint16 or colours.ndim == 2:
        return colours
    if colours.max() <= 255:
        return colours.astype(np.uint8)
    for factor in (257, 256):
        if not (colours % factor).any():
            return (colours // factor).astype(np.uint8)
    return None


def _bits(picture: Image.Image, stream: IO[bytes]) -> int:
    """Bits of a value of a grey PNG or TIFF; 0 of other pictures."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(picture.tag_v2.get(_BITS, (1,))[0])
    if not isinstance(picture, PngImagePlugin.PngImageFile):
        return 0
    depth, kind = peek(stream, 24, 2)
    return 0 if kind else depth


def _why_lossy(picture: Image.Image, stream: IO[bytes]) -> str:
    lossy = "a lossy file, which cannot hold class ids"
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return lossy if picture.tag_v2.get(_COMPRESSION) in _JPEG_IN_TIFF else ""
    if picture.format == "WEBP":
        chunks = peek(stream, 0, 1 << 16)
        return lossy if b"VP8 " in chunks and b"VP8L" not in chunks else ""
    if picture.format == "JPEG2000":  # what is cut to a size may have the same header as what is whole
        return "a JPEG 2000 file, which does not say if its values are still those that were saved"
    return lossy if picture.format in ("JPEG", "AVIF", "MPO") else ""
