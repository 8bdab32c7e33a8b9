"""PNGs of few bits, which Pillow writes of indexed pictures alone."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of (H, W) values of so many bits: 1, 2, 4 or 8."""
    height, width = values.shape
    in_bits = np.unpackbits(values.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :]
    rows = np.packbits(in_bits.reshape(height, -1), axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
