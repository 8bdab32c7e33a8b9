"""Writing a PNG row by row, so that no picture has to be in memory twice. Never imports torch."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

_GREY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6  # PNG's colour types
_NO_FILTER, _SUB = 0, 1  # PNG's row filters


class PngWriter:
    """A PNG whose rows come from top to bottom.

    Compression is OpenCV's default (level 1, run lengths): files are a little larger than the smallest possible, and
    written many times faster.

    Args:
        size: (height, width).
        bands: 1 (grey, or palette indexes), 3 (RGB) or 4 (RGBA).
        bits: 8 or 16 of each band.
        palette: RGB colours by index, for 1 band of 8 bits.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: tuple[int, int],
        *,
        bands: int = 1,
        bits: int = 8,
        palette: Sequence[tuple[int, int, int]] | None = None,
    ) -> None:
        self._file = file
        self._step = bands * bits // 8  # bytes of a pixel
        self._filter = _SUB if bands > 1 or bits == 16 else _NO_FILTER
        kind = _PALETTE if palette else {1: _GREY, 3: _RGB, 4: _RGBA}[bands]
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], bits, kind, 0, 0, 0))
        if palette:
            self._chunk(b"PLTE", bytes(value for colour in palette for value in colour))
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)

    def write(self, rows: np.ndarray) -> None:
        """Add rows (h, W) or (h, W, bands), uint8 or uint16 as announced."""
        rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder(">"))
        raw = rows.view(np.uint8).reshape(len(rows), -1)
        lines = np.empty((raw.shape[0], raw.shape[1] + 1), np.uint8)
        lines[:, 0] = self._filter
        lines[:, 1:] = raw
        if self._filter == _SUB:
            lines[:, 1 + self._step :] -= raw[:, : -self._step]
        self._data(self._deflate.compress(lines.data))

    def end(self) -> None:
        """Write what is left, and the end."""
        self._data(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _data(self, compressed: bytes) -> None:
        if compressed:
            self._chunk(b"IDAT", compressed)

    def _chunk(self, kind: bytes, content: bytes) -> None:
        self._file.write(struct.pack(">I", len(content)) + kind)
        self._file.write(content)
        self._file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
