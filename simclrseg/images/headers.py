"""Headers of JPEG and PNG files, read before a pixel is decoded."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import IO

from PIL import ExifTags, Image

_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tEXt", b"zTXt", b"tIME", b"sRGB"}


class Refused(Exception):
    """A picture that is not read; who opened it adds its name."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class TooManyPixels(Refused):
    """A picture of more than are allowed."""


def peek(stream: IO[bytes], start: int, count: int) -> bytes:
    """So many bytes of a file from ``start`` on, or all by -1; the place in it stays."""
    place = stream.tell()
    stream.seek(start)
    found = stream.read(count)
    stream.seek(place)
    return found


@dataclass(frozen=True)
class JpegHeader:
    """The header of a JPEG, up to its first scan."""

    height: int
    width: int
    orientation: int
    profile: bytes | None  # ICC
    plain: bool  # 8-bit YCbCr, which OpenCV and Pillow decode to the same samples


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Read a JPEG's markers up to the first scan; None where they are out of the ordinary."""
    frames: list[tuple[int, bytes]] = []
    exif: list[bytes] = []
    profile: list[bytes] = []
    plain, position = True, 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        start, end = position + 4, position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA:
            break
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or end < start:  # nothing of this kind stands before a scan
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frames.append((marker, data[start:end]))
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start):
            exif.append(data[start:end])
        elif marker == 0xE1 and b"tiff:Orientation" in data[start:end]:
            plain = False  # orientation in XMP: Pillow reads it
        elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\0", start):
            profile.append(data[start + 12 : end])
        elif marker == 0xEE and data.startswith(b"Adobe", start):
            plain = plain and data[end - 1] == 1  # 1: YCbCr
        position = end
    else:
        return None
    if len(frames) != 1 or len(frames[0][1]) < 6:
        return None
    marker, frame = frames[0]
    precision, height, width, components = struct.unpack(">BHHB", frame[:6])
    plain = plain and marker <= 0xC2 and (precision, components) == (8, 3) and frame[6::3] != b"RGB" and len(exif) < 2
    return JpegHeader(
        height,
        width,
        orientation=exif_orientation(exif[0]) if exif else 1,
        profile=b"".join(chunk[2:] for chunk in sorted(profile)) or None,  # each starts with its number and their count
        plain=plain and height > 0 and width > 0,
    )


def is_plain_png(stream: IO[bytes]) -> bool:
    """Tell whether a file is a whole PNG of 8-bit RGB or grey, which OpenCV and Pillow decode to the same pixels.

    OpenCV says nothing of what is damaged, so the check sums are looked at.
    """
    stream.seek(0)
    if stream.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        content = stream.read(length)
        if stream.read(4) != struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))) or kind not in _PLAIN_CHUNKS:
            return False
        if kind == b"IHDR" and (content[8], content[9]) not in ((8, 0), (8, 2)):
            return False
        if kind == b"IEND":
            return True
    return False


def exif_follows_pixels(stream: IO[bytes]) -> bool:
    """Tell whether a PNG's EXIF stands after its pixels, where Pillow sees it only once it has decoded them."""
    position, behind = stream.tell(), False
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            break
        behind = behind or kind == b"IDAT"
        stream.seek(length + 4, os.SEEK_CUR)
    stream.seek(position)
    return behind and len(head) == 8


def exif_orientation(source: Image.Image | bytes) -> int:
    """The orientation, 1 to 8, in a picture's or any EXIF; 1 where there is none or it makes no sense."""
    try:
        if isinstance(source, bytes):
            tags = Image.Exif()
            tags.load(source)
        else:  # not a PNG's own getexif: it would decode, and an error in that must not be lost here
            tags = Image.Image.getexif(source)
        value = tags.get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is written by anything; no error in it should cost the picture
        return 1
    return value if value in range(1, 9) else 1
