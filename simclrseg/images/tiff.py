"""TIFFs as they are stored: any number of bands, which neither Pillow nor OpenCV reads beyond 4, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from simclrseg.images.bands import are_named, tagged_bands
from simclrseg.images.geography import Geography, geography_of
from simclrseg.images.headers import Refused
from simclrseg.images.limits import LARGE, MAX_PIXELS, PIXEL, check_content, check_size, length_of
from simclrseg.images.strips import cut, strips_of

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF; those with a plus are BigTIFFs."""
PIECE = 1 << 24  # bytes that are read together
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _BANDS, _ROWS, _COUNTS = 273, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _FORMAT = 284, 317, 322, 323, 324, 325, 339
_PLAIN = 1
_EIGHT_OR_SIXTEEN = "save it with 8 or 16 bits"
_LOSSLESS = {_PLAIN, 5, 8, 32773, 32946, 34925, 50000}  # LZW, Deflate, PackBits, old Deflate, LZMA, Zstandard
_UNSIGNED, _SIGNED, _FLOATING = 1, 2, 3
_DIFFERENCES, _OF_FLOATS = 2, 3  # predictors
_BITS_OF = {_UNSIGNED: (8, 16), _SIGNED: (8, 16), _FLOATING: (32, 64)}
_RGB, _SIDE_BY_SIDE, _PROFILE = 2, 1, 34675
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # of grey, grey, RGB, palette, CMYK, YCbCr and Lab
_EXTRA, _ALPHA = 338, {1, 2}
# Bytes that one of a file gives at most, by the compression; nothing is known of others, in which a bit is a white row.
# Colours may be stored for every sixteenth pixel alone, so each is three times what it would be.
_MOST = {1: 3, 5: 9000, 6: 2048, 7: 2048, 8: 3120, 32773: 192, 32946: 3120, 34925: 60_000, 50000: 120_000}
_FAX = {2, 3, 4}
_MANY = 1 << 16  # blocks: reading their places takes a while


@dataclass(frozen=True)
class TiffHeader:
    """Size of a TIFF's first page."""

    height: int
    width: int
    bands: int
    bits: int  # of a sample
    floating: bool  # the samples are floating-point numbers
    is_photo: bool  # the samples are colours that viewers know, and transparency where the file says so


def tiff_header(stream: IO[bytes]) -> TiffHeader:
    """Read the header of the first page; raises about anything where the file is damaged, as ``read_tiff`` does."""
    return _header(_tags(stream)[0])


def tiff_bands(stream: IO[bytes]) -> tuple[tuple[str, ...], Geography | None]:
    """The names of the bands of the first page, or numbers, and what its tags say of its place."""
    tags, _ = _tags(stream)
    return tagged_bands(tags, _header(tags).bands), geography_of(tags)


def check_tiff(stream: IO[bytes], limit: int = MAX_PIXELS) -> None:
    """Refuse a file whose first page has too many pixels or bytes, or far more than the file can hold.

    Args:
        limit: as in ``check_size``.
    """
    tags, _ = _tags(stream)
    header = _header(tags)
    pixel = max(1, header.bands * header.bits // 8)
    check_size(header.width, header.height, limit, pixel=pixel)
    needed = header.height * header.width * header.bands * header.bits // 8
    if tags.get(_COMPRESSION) in _FAX and header.bits > 1:
        raise Refused("its compression is that of a fax, of one bit a pixel, and it has more", "save it again")
    if needed > LARGE:
        check_content(needed, _MOST.get(tags.get(_COMPRESSION, _PLAIN)), length_of(stream))
    if _TILE_WIDTH in tags:
        tile = tags[_TILE_WIDTH] * tags.get(_TILE_HEIGHT, 0) * pixel
        if tile > max(2 * needed, LARGE * PIXEL):
            raise Refused(f"a tile of it takes {tile:,} bytes", "save it again")


def is_plain_rgb(tags: Mapping[int, Any]) -> bool:
    """Tell whether ``read_tiff`` gives the pixels of an 8-bit photo as a viewer shows them, but for its orientation."""
    return (
        tuple(tags.get(_BITS, ())) == (8, 8, 8)
        and (tags.get(_PHOTOMETRIC), tags.get(_PLANAR, 1)) == (_RGB, _SIDE_BY_SIDE)
        and tags.get(_COMPRESSION, _PLAIN) in _LOSSLESS
        and tags.get(_PREDICTOR, 1) in (1, 2)
        and tags.get(_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
        and _PROFILE not in tags
    )


def read_tiff(stream: IO[bytes]) -> NDArray[Any]:
    """Read the samples of the first page, (H, W, bands) uint8 or uint16, without any conversion.

    Raises:
        Refused: if its samples or its compression are of another kind.
    """
    samples = read_samples(stream)
    if samples.dtype.kind == "f":
        raise Refused(f"its {8 * samples.itemsize}-bit floating-point samples are not read", _EIGHT_OR_SIXTEEN)
    if samples.dtype.kind == "i" and any((rows < 0).any() for rows in samples):
        raise Refused("it has negative samples, which no pixel has here", "shift it above zero")
    if samples.dtype.kind == "u":
        return samples  # and no view of it, for who holds the samples may give back their rows
    return samples.view(f"u{samples.itemsize}")


def read_samples(stream: IO[bytes]) -> NDArray[Any]:
    """Read the samples of the first page, (H, W, bands), in their own type: 8 or 16 bits, or floats of 32 or 64.

    Strips and tiles, bands side by side or one after the other, with and without lossless compression and prediction.

    Raises:
        Refused: if its samples or its compression are of another kind.
    """
    tags, order = _tags(stream)
    header = _header(tags)
    tiled = _TILE_OFFSETS in tags
    offsets, counts = tags[_TILE_OFFSETS if tiled else _OFFSETS], tags[_TILE_COUNTS if tiled else _COUNTS]
    kind = tags.get(_FORMAT, (_UNSIGNED,))[0]
    if header.bits not in _BITS_OF.get(kind, ()):
        what = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOATING: "floating-point"}.get(kind, "unknown")
        raise Refused(f"its {header.bits}-bit {what} samples are not read", _EIGHT_OR_SIXTEEN)
    compression, predictor = tags.get(_COMPRESSION, _PLAIN), tags.get(_PREDICTOR, 1)
    if compression not in _LOSSLESS or predictor not in (1, _OF_FLOATS if header.floating else _DIFFERENCES):
        raise Refused(f"its compression (TIFF {compression}, {predictor}) is not read", "save it with Deflate")
    stored = np.dtype(f"{order}{'uif'[kind - 1]}{header.bits // 8}")
    planes = header.bands if tags.get(_PLANAR, 1) == 2 else 1
    depth = header.bands // planes
    high = tags[_TILE_HEIGHT] if tiled else min(tags.get(_ROWS, header.height), header.height)
    wide = tags[_TILE_WIDTH] if tiled else header.width
    if compression == _PLAIN and not tiled and header.height <= high:  # one strip, as large as the picture
        offsets, counts, high = _cut(offsets, counts, header.height, wide * depth * stored.itemsize)
    down, across = -(-header.height // high), -(-header.width // wide)
    if len(offsets) < planes * down * across:
        raise ValueError("some of its blocks are missing")
    picture = np.zeros((header.height, header.width, header.bands), stored.newbyteorder("="))
    for number in range(planes * down * across):
        plane, place = divmod(number, down * across)
        top, left = place // across * high, place % across * wide
        rows = high if tiled else min(high, header.height - top)
        stream.seek(offsets[number])
        bands = slice(plane * depth, (plane + 1) * depth)
        for unpacked in _unpack(stream.read(counts[number]), compression, rows, wide * depth * stored.itemsize):
            if predictor == _OF_FLOATS:
                block = _predicted_floats(np.frombuffer(unpacked, np.uint8).reshape(-1, stored.itemsize, wide, depth))
            else:
                block = np.frombuffer(unpacked, stored).reshape(-1, wide, depth)
            if predictor == _DIFFERENCES:  # each is its difference from its left neighbour; sums wrap as theirs did
                block = block.cumsum(axis=1, dtype=picture.dtype)
            place = picture[top : top + len(block), left : left + wide, bands]
            place[...] = block[: place.shape[0], : place.shape[1]]
            top += len(block)
    return picture


def _predicted_floats(differences: NDArray[np.uint8]) -> NDArray[Any]:
    """Floats (rows, W, bands) from their bytes, (rows, bytes of one, W, bands), the highest of all in a row first.

    Each byte is its difference from that of the same band to its left (Adobe Photoshop TIFF Technical Note 3).
    """
    rows, size, wide, depth = differences.shape
    values = differences.reshape(rows, size * wide, depth).cumsum(axis=1, dtype=np.uint8)
    values = values.reshape(rows, size, wide * depth).transpose(0, 2, 1)
    return np.ascontiguousarray(values).view(f">f{size}").reshape(rows, wide, depth)


def _cut(
    offsets: Sequence[int], counts: Sequence[int], height: int, row: int
) -> tuple[Sequence[int], Sequence[int], int]:
    """Planes of one uncompressed strip each as many strips, which do not fill the memory; and the rows of one."""
    high = min(height, max(1, PIECE // row))
    if any(count < height * row for count in counts):
        raise ValueError("a strip of it is too short")
    tops = range(0, height, high)
    starts = [offset + top * row for offset in offsets for top in tops]
    return starts, [min(high, height - top) * row for _ in offsets for top in tops], high


def _tags(stream: IO[bytes]) -> tuple[ImageFileDirectory_v2, str]:
    """The first directory, and the byte order as numpy writes it."""
    stream.seek(0)
    start = stream.read(8)
    if start[2:4] in (b"+\0", b"\0+"):
        start += stream.read(8)
    tags = ImageFileDirectory_v2(start)
    stream.seek(tags.next)
    tags.load(stream)
    return tags, "<" if start[:1] == b"I" else ">"


def _header(tags: ImageFileDirectory_v2) -> TiffHeader:
    bands = tags.get(_BANDS, 1)
    rows = tags.get(_TILE_HEIGHT if _TILE_OFFSETS in tags else _ROWS, 0)
    across = -(-tags[_WIDTH] // max(1, tags.get(_TILE_WIDTH, 1))) if _TILE_OFFSETS in tags else 1
    most = 2 * -(-tags[_HEIGHT] // max(1, rows)) * across * bands
    if (blocks := len(tags.get(_TILE_OFFSETS, tags.get(_OFFSETS, ())))) > max(most, _MANY):
        raise Refused(f"it is damaged: {blocks:,} blocks where {most // 2:,} hold all", "copy or download it again")
    transparent = bool(_ALPHA & set(tags.get(_EXTRA, ()))) and not _is_named_otherwise(tags, bands)
    floating = tags.get(_FORMAT, (_UNSIGNED,))[0] == _FLOATING
    is_photo = bands <= _COLOURS.get(tags.get(_PHOTOMETRIC, _RGB), 3) + transparent and not (floating and bands > 1)
    return TiffHeader(tags[_HEIGHT], tags[_WIDTH], bands, max(tags.get(_BITS, (1,))), floating, is_photo)


def _is_named_otherwise(tags: ImageFileDirectory_v2, bands: int) -> bool:
    """Tell whether a last band that passes for transparency has another name, as a writer's default makes it."""
    last = tagged_bands(tags, bands)[-1]
    return are_named([last]) and last not in ("alpha", "mask", "transparency")


def _unpack(block: bytes, compression: int, rows: int, row: int) -> Iterator[bytes | memoryview]:
    """The bytes of rows of a strip or tile: libtiff, by way of Pillow, unpacks one that passes for a grey picture."""
    if compression == _PLAIN:
        if len(block) < rows * row:
            raise ValueError("a block of it is too short")
        yield memoryview(block)[: rows * row]
        return
    tags = ImageFileDirectory_v2()
    tags.update({_WIDTH: row, _HEIGHT: rows, _BITS: 8, _COMPRESSION: compression, _PHOTOMETRIC: 1, _OFFSETS: 0})
    tags.update({_BANDS: 1, _ROWS: rows, _COUNTS: len(block)})
    file = BytesIO()
    tags.save(file)
    file.write(block)
    file.seek(0)
    picture = TiffImagePlugin.TiffImageFile(file, "")
    picture.load()
    for top, bottom in strips_of(picture.size):
        yield cut(picture, top, bottom).tobytes()
