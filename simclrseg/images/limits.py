"""What the header of a picture may claim: looked at before memory is taken for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image

from simclrseg.images.headers import Refused, TooManyPixels, peek
from simclrseg.system.memory import give_back_freed

MAX_PIXELS = 178_956_970
"""Width x height above which a picture is refused, as in Pillow."""
LARGE = 1 << 25
"""Width x height above which a second copy is worth avoiding."""
LARGE_AT_ONCE = 1 << 27
"""Pixels of pictures above that which threads work on at the same time."""
MAX_SIDE = 1 << 20
"""Of a picture, in pixels, as in OpenCV: Pillow takes memory for each row."""
PIXEL = 8
"""Bytes of a pixel of the largest kind of photo: red, green, blue and opacity of 16 bits."""

MOST = {"PNG": 8 * 1040, "JPEG": 512, "MPO": 512, "GIF": 3000, "PPM": 8, "TGA": 128}
"""Pixels that one byte of a file gives at most, by Pillow's formats: a byte of Deflate gives 1,032, of a bit a pixel; a
bit of a JPEG an empty block of 8 x 8. Of the other formats nothing is known: they say an even area in no bytes.
"""

_J2K_SIZE = b"\xff\x4f\xff\x51"  # after which a JPEG 2000 has its size and that of its tiles
_J2K_SAMPLE = 5  # bytes that the decoder takes for each sample of a tile


_held = 0  # pixels of large pictures that are worked on
_changed = threading.Condition()
_this_thread = threading.local()


@contextmanager
def room_for(pixels: int) -> Iterator[None]:
    """Wait, with a large picture, which takes memory several times, until few enough others are worked on.

    Those of all threads have ``LARGE_AT_ONCE`` pixels, or there is one. Nobody waits with a picture that is not large,
    nor within such a block. What the work has freed is given back at its end.
    """
    global _held
    if pixels <= LARGE or getattr(_this_thread, "has_room", False):
        yield
        return
    with _changed:
        _changed.wait_for(lambda: not _held or _held + pixels <= LARGE_AT_ONCE)
        _held += pixels
    _this_thread.has_room = True
    try:
        yield
    finally:
        _this_thread.has_room = False
        give_back_freed()
        with _changed:
            _held -= pixels
            _changed.notify_all()


def check_size(width: int, height: int, limit: int, *, pixel: int = 1) -> None:
    """Refuse a size of no pixels or of too many.

    Args:
        limit: width x height allowed, of pixels of up to ``PIXEL`` bytes; of larger ones in proportion.
        pixel: bytes of one.
    """
    if width < 1 or height < 1:
        raise Refused(f"it claims {width} x {height} pixels", "copy or download it again")
    if width * height > limit:
        raise TooManyPixels(
            f"{width} x {height} = {width * height:,} pixels, more than the {limit:,} allowed", "shrink it"
        )
    if max(width, height) > MAX_SIDE:
        raise Refused(f"{width} x {height} pixels, and a side has {MAX_SIDE:,} at most", "cut it up")
    if (size := width * height * pixel) > limit * PIXEL:
        reason = f"{width} x {height} pixels of {pixel:,} bytes take {size:,}, more than the {limit * PIXEL:,} allowed"
        raise Refused(reason, "shrink it or cut it up")


def check_picture(picture: Image.Image, stream: IO[bytes], limit: int = MAX_PIXELS) -> None:
    """Refuse an opened picture of too many pixels, or of far more than its file can hold."""
    width, height = picture.size
    check_size(width, height, limit)
    if width * height > LARGE:
        check_content(width * height, MOST.get(picture.format or ""), length_of(stream))
    if picture.format == "JPEG2000":
        _check_tile(stream, picture.size, len(picture.getbands()), limit)
    if width * height > LARGE and picture.format == "WEBP" and getattr(picture, "is_animated", False):
        raise Refused(f"an animation of more than {LARGE:,} pixels", "save its first frame alone")


def check_content(needed: int, most: int | None, length: int) -> None:
    """Refuse a file of so many bytes, of which one gives ``most`` at most, that has to give as many as are needed."""
    if most is not None and needed > most * length:
        raise Refused(f"it is damaged or cut short: {length:,} bytes cannot hold it", "copy or download it again")


def length_of(stream: IO[bytes]) -> int:
    """Bytes of a file; the place in it stays."""
    place = stream.tell()
    length = stream.seek(0, os.SEEK_END)
    stream.seek(place)
    return length


def _check_tile(stream: IO[bytes], size: tuple[int, int], bands: int, limit: int) -> None:
    """Of a JPEG 2000 whole tiles are decoded, with four bytes a sample; and its two headers may differ."""
    found = peek(stream, 0, 1 << 20).partition(_J2K_SIZE)[2][4:]
    right, bottom, left, top, wide, high = (int.from_bytes(found[at : at + 4], "big") for at in range(0, 24, 4))
    if found and (right - left, bottom - top) != size:
        raise Refused("its headers state two sizes", "save it again")
    pixels = min(wide, size[0]) * min(high, size[1])
    if (needed := pixels * bands * _J2K_SAMPLE) > limit * PIXEL:
        reason = f"a tile of it takes {needed:,} bytes to decode, more than the {limit * PIXEL:,} allowed"
        raise Refused(reason, "save it in tiles, or as a TIFF")
