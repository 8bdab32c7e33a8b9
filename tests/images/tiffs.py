"""TIFFs as satellites' archives have them, which no library here writes."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def tiff(
    picture: np.ndarray,
    *,
    deflate: bool = False,
    predictor: int = 1,
    planar: bool = False,
    rows: int | None = None,
    tile: int | None = None,
    order: str = "<",
    sample_format: int = 1,
    photometric: int = 1,
    extra: int | None = None,
    bits: int | None = None,
    compression: int | None = None,
) -> bytes:
    """A TIFF of (H, W, bands).

    Args:
        predictor: 2 stores differences from the left neighbour.
        planar: one band after the other instead of side by side.
        rows: of a strip; all of them by default.
        tile: side of tiles, in pixels, instead of strips.
        order: ``<`` or ``>``, the byte order.
        photometric: the colour space: 1 is grey, 2 RGB.
        extra: what the last band is, as ExtraSamples: 0 is not said, 2 transparency.
        compression: what it claims to be, in place of what it is.
        bits: of a value, if it is less than a byte: each row of one band is packed.
    """
    height, width, bands = picture.shape
    high, wide = (tile, tile) if tile else (rows or height, width)
    planes = [picture[:, :, band : band + 1] for band in range(bands)] if planar else [picture]
    blocks = []
    for plane in planes:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                block = plane[top : top + high, left : left + wide]
                if tile:
                    margin = ((0, high - block.shape[0]), (0, wide - block.shape[1]), (0, 0))
                    block = np.pad(block, margin, constant_values=7)
                if predictor == 2:
                    block = np.diff(block, axis=1, prepend=block.dtype.type(0))
                if bits:
                    block = np.packbits(np.unpackbits(block, axis=2)[:, :, 8 - bits :].reshape(len(block), -1), axis=1)
                packed = block.astype(block.dtype.newbyteorder(order)).tobytes()
                blocks.append(zlib.compress(packed) if deflate else packed)
    lengths = [len(block) for block in blocks]
    fields: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits or 8 * picture.itemsize] * bands),
        259: ("H", [compression or (8 if deflate else 1)]),
        262: ("H", [photometric]),
        277: ("H", [bands]),
        284: ("H", [2 if planar else 1]),
        317: ("H", [predictor]),
        339: ("H", [sample_format] * bands),
    }
    if extra is not None:
        fields[338] = ("H", [extra])
    if tile:
        fields |= {322: ("I", [tile]), 323: ("I", [tile]), 324: ("I", lengths), 325: ("I", lengths)}
    else:
        fields |= {273: ("I", lengths), 278: ("I", [high]), 279: ("I", lengths)}
    end = 8 + 2 + 12 * len(fields) + 4
    sizes = {tag: struct.calcsize(f"={len(values)}{kind}") for tag, (kind, values) in fields.items()}
    first = end + sum(size for size in sizes.values() if size > 4)
    offsets = [first + sum(lengths[:number]) for number in range(len(blocks))]
    fields[324 if tile else 273] = ("I", offsets)
    directory, outside = struct.pack(f"{order}H", len(fields)), b""
    for tag, (kind, values) in sorted(fields.items()):
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        directory += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values))
        if len(data) > 4:
            directory += struct.pack(f"{order}I", end + len(outside))
            outside += data
        else:
            directory += data.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8) + directory + bytes(4) + outside + b"".join(blocks)
