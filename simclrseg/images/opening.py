"""A picture opened, whatever its format: within limits, turned upright, its trouble in one line. No torch."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (  # noqa: F401  # importing a format's plugin registers it
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from simclrseg.errors import ImageError
from simclrseg.images.headers import Refused, exif_orientation
from simclrseg.images.limits import LARGE, MAX_PIXELS, check_picture
from simclrseg.images.listing import NO_HEIC, READS_HEIC, shown_path
from simclrseg.images.strips import swap_red_and_blue
from simclrseg.images.tiff import Tiff, open_tiff
from simclrseg.system.identify import why_not_a_file
from simclrseg.system.limits import NO_HANDLES
from simclrseg.text import in_one_line

# Of numbers of more than 8 bits Pillow knows few in which zero is white, as ImageJ writes them; they are stored alike.
for (_order, _shown, _sign, _fill, _bits, _extra), _modes in [*TiffImagePlugin.OPEN_INFO.items()]:
    if _shown == 1 and max(_bits) > 8:
        TiffImagePlugin.OPEN_INFO.setdefault((_order, 0, _sign, _fill, _bits, _extra), _modes)

# Formats that are read, by Pillow's names, and no others: Pillow would start Ghostscript for EPS.
_FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "PPM", "JPEG2000", "TGA")
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # orientation -> OpenCV's code; from 5 on after a transposition
_INVERSE = {6: 8, 8: 6}  # every other orientation is its own inverse
AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
"""How OpenCV decodes to RGB."""
_HUSHED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as ``warnings.filters`` holds it


@contextmanager
def opened(source: str | Path | bytes) -> Iterator[tuple[IO[bytes], str]]:
    """Open a picture, and name it for messages; any error inside becomes one line, and nothing else is said."""
    # Pillow's own notes on odd metadata: ``warnings.catch_warnings`` would swap the filters of the whole process, which
    # is not safe in the loader's threads
    if not warnings.filters or warnings.filters[0] != _HUSHED:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    name = f"the picture ({len(source):,} bytes)" if isinstance(source, bytes) else shown_path(source)
    try:
        if isinstance(source, bytes):
            yield BytesIO(source), name
            return
        if reason := why_not_a_file(source):  # a pipe would wait for ever
            raise Refused(reason)
        try:
            stream = open(source, "rb")  # noqa: SIM115
        except OSError as error:
            if error.errno in NO_HANDLES:  # which is not about this picture
                raise
            raise ImageError(f"{name} cannot be opened: {error.strerror}", path=name) from error
        with stream:
            yield stream, name
    except ImageError:
        raise
    except Refused as error:
        raise ImageError(f"{name}: {error.reason}", error.remedy, path=name) from error
    except Image.DecompressionBombError as error:  # GIF's plugin checks by itself
        reason = f"it claims more pixels than are allowed ({MAX_PIXELS:,}): shrink it"
        raise ImageError(f"{name}: {reason}", path=name) from error
    except Exception as error:  # a decoder that meets arbitrary bytes raises about anything
        if isinstance(error, OSError) and error.errno in NO_HANDLES:
            raise
        cause = in_one_line(error, 200)
        reason = f"the picture is damaged or cut short ({cause}): copy or download it again"
        raise ImageError(f"{name}: {reason}", path=name) from error


def open_picture(stream: IO[bytes], name: str) -> Image.Image:
    """Read a picture's header; like ``Image.open``, without its list of formats and its global pixel limit."""
    stream.seek(0)
    prefix = stream.read(64)
    if (tiff := open_tiff(stream)) and not tiff.is_photo:
        kind, remedy = ("floating-point bands", " with 8 or 16 bits") if tiff.floating else ("bands", "")
        reason = f"a TIFF of {tiff.bands} {kind}, which are not a photo's"
        raise Refused(reason, f"save red, green and blue{remedy}")
    if READS_HEIC and _is_heic(prefix):
        import pillow_heif

        pillow_heif.register_heif_opener()
    for kind in ("HEIF", *_FORMATS) if "HEIF" in Image.OPEN else _FORMATS:
        factory, accept = Image.OPEN[kind]
        fits = accept(prefix[:16]) is True if accept else name.lower().endswith(".tga")  # nothing else marks a TGA
        if fits:
            stream.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):
                return factory(stream, "")
    if tiff:
        tiff.refuse_compression()
        reason = f"a TIFF of {tiff.bands} x {tiff.bits} bits, of a kind that is not read"
        raise Refused(reason, "save it with 8 or 16 bits")
    raise Refused(_guess(prefix))


def check(picture: Image.Image, stream: IO[bytes], limit: int = MAX_PIXELS) -> None:
    """Refuse an opened picture that claims too much, before a pixel is decoded."""
    check_picture(picture, stream, limit)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        Tiff(stream).check(limit)


def loaded(picture: Image.Image, stream: IO[bytes]) -> tuple[Image.Image, int, int]:
    """The picture with its pixels, the orientation that the file asks for, and the one that is left to apply."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        orientation = exif_orientation(picture)  # is gone once Pillow has turned the pixels, which it does here
        try:
            picture.load()
        except OSError:
            Tiff(stream).refuse_compression()
            raise
        return picture, orientation, 1
    if isinstance(picture, WebPImagePlugin.WebPImageFile) and picture.width * picture.height > LARGE:
        orientation = exif_orientation(picture)
        return _large_webp(picture, stream), orientation, orientation
    picture.load()
    orientation = exif_orientation(picture)  # a PNG's EXIF may follow its pixels
    return picture, orientation, orientation


def _large_webp(picture: Image.Image, stream: IO[bytes]) -> Image.Image:
    """The same by OpenCV: Pillow takes it for an animation, which needs it in memory four times."""
    stream.seek(0)
    flags = AS_STORED if picture.mode == "RGB" else cv2.IMREAD_UNCHANGED
    values = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), flags)
    if values is None or values.shape[:2] != (picture.height, picture.width):
        raise Refused("the picture is damaged or cut short", "copy or download it again")
    decoded = Image.fromarray(values if picture.mode == "RGB" else swap_red_and_blue(values))
    decoded.info, decoded.format = picture.info, picture.format
    return decoded


def has_more(picture: Image.Image) -> bool:
    """Tell whether there are more frames or pages; a photo's own previews (MPO) do not count."""
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # what follows may be damaged, which does not concern the first
        return False


def turn_upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Bring a stored (H, W[, C]) to how a viewer shows it, by its EXIF orientation, 1 to 8."""
    if image.dtype == bool:  # which OpenCV does not know
        return turn_upright(image.view(np.uint8), orientation).view(bool)
    if orientation >= 5:
        image = cv2.transpose(image)
        return cv2.flip(image, _FLIPS[orientation], image) if orientation in _FLIPS else image  # no third copy
    return cv2.flip(image, _FLIPS[orientation]) if orientation in _FLIPS else image


def turned(pixels: NDArray[Any] | None, orientation: int) -> NDArray[Any] | None:
    """The same of what may not be there, or be a part of other pixels."""
    return None if pixels is None else turn_upright(np.ascontiguousarray(pixels), orientation)


def turn_back(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Bring an upright (H, W[, C]) to the orientation in which its file stores it."""
    return turn_upright(image, _INVERSE.get(orientation, orientation))


def _is_heic(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def _guess(prefix: bytes) -> str:
    """Why a file that starts with these bytes is not a picture that can be read."""
    if not prefix:
        return "the file is empty"
    if _is_heic(prefix):
        return "the HEIC file is damaged: copy it again" if READS_HEIC else NO_HEIC
    if prefix.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the picture: run `git lfs pull`"
    if prefix.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")):
        return "the picture's header is damaged or cut short: copy or download it again"
    return f"not a picture that can be read ({', '.join(_FORMATS)})"
