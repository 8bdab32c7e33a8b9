"""TIFFs as they are stored: any number of bands, which neither Pillow nor OpenCV reads beyond 4, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from simclrseg.images.bands import SENTINEL2, are_named, tagged_bands
from simclrseg.images.geography import Geography, geography_of
from simclrseg.images.headers import Refused
from simclrseg.images.limits import LARGE, MAX_PIXELS, PIXEL, check_content, check_size, length_of
from simclrseg.images.strips import cut, strips_of
from simclrseg.metadata import RGB

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF; those with a plus are BigTIFFs."""
_NOT_READ = b"MM\0+"  # Pillow takes it for no BigTIFF
PIECE = 1 << 24  # bytes that are read together
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _BANDS, _ROWS, _COUNTS = 273, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _FORMAT = 284, 317, 322, 323, 324, 325, 339
_PLAIN = 1
_EIGHT_OR_SIXTEEN = "save it with 8 or 16 bits"
_LOSSLESS = {_PLAIN, 5, 8, 32773, 32946, 34925, 50000}  # LZW, Deflate, PackBits, old Deflate, LZMA, Zstandard
_RARE = {34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}  # of which builds of libtiff differ
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


class Tiff:
    """The first page of a TIFF, whose tags are read once; a damaged one raises about anything, here as later.

    Attributes:
        bits: of a sample.
        floating: the samples are floating-point numbers.
        is_photo: they are colours that viewers know, unless they have other names, and transparency where the file says
            so.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        stream.seek(0)
        start = stream.read(8)
        if start[2:4] in (b"+\0", b"\0+"):
            start += stream.read(8)
        if start[:4] == _NOT_READ:
            raise Refused("a BigTIFF of big-endian numbers, which is not read", "save it as another TIFF, or as PNG")
        self._order = "<" if start[:1] == b"I" else ">"  # of bytes, as numpy writes it
        self._tags = tags = ImageFileDirectory_v2(start)
        stream.seek(tags.next)
        tags.load(stream)
        self.height, self.width, self.bands = tags[_HEIGHT], tags[_WIDTH], tags.get(_BANDS, 1)
        rows = tags.get(_TILE_HEIGHT if _TILE_OFFSETS in tags else _ROWS, 0)
        across = -(-self.width // max(1, tags.get(_TILE_WIDTH, 1))) if _TILE_OFFSETS in tags else 1
        most = 2 * -(-self.height // max(1, rows)) * across * self.bands
        if (blocks := len(tags.get(_TILE_OFFSETS, tags.get(_OFFSETS, ())))) > max(most, _MANY):
            raise Refused(f"it is damaged: {blocks:,} blocks where {most // 2:,} hold all", "copy or download it again")
        self.bits, self._kind = max(tags.get(_BITS, (1,))), tags.get(_FORMAT, (_UNSIGNED,))[0]
        self.floating = self._kind == _FLOATING
        colours = _COLOURS.get(tags.get(_PHOTOMETRIC, _RGB), 3) + self._has_alpha()
        photo = self.bands <= colours and not (self.floating and self.bands > 1)
        self.is_photo = photo and not self._names_other_bands()

    def _names_other_bands(self) -> bool:
        """Tell whether what the file stores as red, green and blue has names of others, or of these in another order.

        GDAL stores any three bands of bytes so.
        """
        first = self.names[: len(RGB)] if self._tags.get(_PHOTOMETRIC) == _RGB else RGB
        return first != RGB and not {*first}.isdisjoint({*RGB, *SENTINEL2.values()})

    def _has_alpha(self) -> bool:
        """Tell whether the last band is transparency, and not called otherwise, as a writer's default makes it."""
        if not _ALPHA & set(self._tags.get(_EXTRA, ())):
            return False
        last = self.names[-1]
        return not are_named([last]) or last in ("alpha", "mask", "transparency")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Those of the bands, or numbers."""
        return tagged_bands(self._tags, self.bands)

    @cached_property
    def geography(self) -> Geography | None:
        """What the tags say of its place."""
        return geography_of(self._tags)

    @property
    def nodata(self) -> float | None:
        """The value of pixels that hold nothing."""
        return self.geography.nodata if self.geography else None

    def check(self, limit: int = MAX_PIXELS) -> None:
        """Refuse too many pixels or bytes, or far more than the file can hold.

        Args:
            limit: as in ``check_size``.
        """
        tags, pixel = self._tags, max(1, self.bands * self.bits // 8)
        check_size(self.width, self.height, limit, pixel=pixel)
        needed = self.height * self.width * self.bands * self.bits // 8
        if tags.get(_COMPRESSION) in _FAX and self.bits > 1:
            raise Refused("its compression is that of a fax, of one bit a pixel, and it has more", "save it again")
        if needed > LARGE:
            check_content(needed, _MOST.get(tags.get(_COMPRESSION, _PLAIN)), length_of(self._stream))
        if _TILE_WIDTH in tags:
            tile = tags[_TILE_WIDTH] * tags.get(_TILE_HEIGHT, 0) * pixel
            if tile > max(2 * needed, LARGE * PIXEL):
                raise Refused(f"a tile of it takes {tile:,} bytes", "save it again")

    def refuse_compression(self) -> None:
        """Name a rare compression as the reason why the pixels cannot be read; nothing where it is another."""
        if name := _RARE.get(self._tags.get(_COMPRESSION, _PLAIN)):
            raise Refused(f"its compression, {name}, is not read here", "save it with LZW or Deflate")

    @property
    def is_plain_rgb(self) -> bool:
        """Tell whether ``pixels`` are those of an 8-bit photo as a viewer shows them, but for its orientation."""
        tags = self._tags
        return (
            tuple(tags.get(_BITS, ())) == (8, 8, 8)
            and (tags.get(_PHOTOMETRIC), tags.get(_PLANAR, 1)) == (_RGB, _SIDE_BY_SIDE)
            and tags.get(_COMPRESSION, _PLAIN) in _LOSSLESS
            and tags.get(_PREDICTOR, 1) in (1, 2)
            and self._kind == _UNSIGNED
            and _PROFILE not in tags
        )

    def pixels(self) -> NDArray[Any]:
        """Read the samples as ``samples`` does, but none that are floating-point numbers or negative."""
        samples = self.samples()
        if samples.dtype.kind == "f":
            raise Refused(f"its {8 * samples.itemsize}-bit floating-point samples are not read", _EIGHT_OR_SIXTEEN)
        return unsigned(samples)

    def samples(self) -> NDArray[Any]:
        """Read (H, W, bands) in their own type: 8 or 16 bits, or floats of 32 or 64; others are refused.

        Strips and tiles, bands side by side or one after the other, with and without lossless compression and
        prediction.
        """
        tags = self._tags
        tiled = _TILE_OFFSETS in tags
        offsets, counts = tags[_TILE_OFFSETS if tiled else _OFFSETS], tags[_TILE_COUNTS if tiled else _COUNTS]
        if self.bits not in _BITS_OF.get(self._kind, ()):
            what = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOATING: "floating-point"}.get(self._kind, "unknown")
            raise Refused(f"its {self.bits}-bit {what} samples are not read", _EIGHT_OR_SIXTEEN)
        compression, predictor = tags.get(_COMPRESSION, _PLAIN), tags.get(_PREDICTOR, 1)
        if compression not in _LOSSLESS or predictor not in (1, _OF_FLOATS if self.floating else _DIFFERENCES):
            raise Refused(f"its compression (TIFF {compression}, {predictor}) is not read", "save it with Deflate")
        stored = np.dtype(f"{self._order}{'uif'[self._kind - 1]}{self.bits // 8}")
        planes = self.bands if tags.get(_PLANAR, 1) == 2 else 1
        depth = self.bands // planes
        high = tags[_TILE_HEIGHT] if tiled else min(tags.get(_ROWS, self.height), self.height)
        wide = tags[_TILE_WIDTH] if tiled else self.width
        row = wide * depth * stored.itemsize
        if compression == _PLAIN and not tiled and self.height <= high:  # one strip, as large as the picture
            offsets, counts, high = _cut(offsets, counts, self.height, row)
        down, across = -(-self.height // high), -(-self.width // wide)
        if len(offsets) < planes * down * across:
            raise ValueError("some of its blocks are missing")
        picture = np.zeros((self.height, self.width, self.bands), stored.newbyteorder("="))
        for number in range(planes * down * across):
            plane, place = divmod(number, down * across)
            top, left = place // across * high, place % across * wide
            rows = high if tiled else min(high, self.height - top)
            self._stream.seek(offsets[number])
            bands = slice(plane * depth, (plane + 1) * depth)
            for unpacked in _unpack(self._stream.read(counts[number]), compression, rows, row):
                if predictor == _OF_FLOATS:
                    differences = np.frombuffer(unpacked, np.uint8)
                    block = _predicted_floats(differences.reshape(-1, stored.itemsize, wide, depth))
                else:
                    block = np.frombuffer(unpacked, stored).reshape(-1, wide, depth)
                if predictor == _DIFFERENCES:  # each is its difference from its left neighbour; sums wrap as theirs did
                    block = block.cumsum(axis=1, dtype=picture.dtype)
                place = picture[top : top + len(block), left : left + wide, bands]
                place[...] = block[: place.shape[0], : place.shape[1]]
                top += len(block)
        return picture


def open_tiff(stream: IO[bytes]) -> Tiff | None:
    """The first page of a file; None where it is no TIFF."""
    stream.seek(0)
    return Tiff(stream) if stream.read(4) in SIGNATURES else None


def unsigned(samples: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers without a sign, of the same memory; negative ones are refused."""
    if samples.dtype.kind == "u":
        return samples  # and no view of it, for who holds the samples may give back their rows
    if any((rows < 0).any() for rows in samples):
        raise Refused("it has negative samples, which no pixel has here", "shift it above zero")
    return samples.view(f"u{samples.itemsize}")


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
