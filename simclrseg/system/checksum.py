"""A checksum that a model file holds of itself, in its metadata, by which bytes that have changed since are found.

It is the CRC-32 of the whole file, weights, graph and metadata alike, with zeros in place of its own digits. A longer
hash finds no more of what chance damages, and would make `predict` start later. It stands where this tool alone puts
it: in a safetensors file at the end of the header, in an ONNX file behind all else and before its version once more,
which counts as once. Tools that write such a file anew, with other weights and the same metadata, put it elsewhere, and
it says nothing then. So nobody's change is called damage.
"""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from simclrseg.errors import SimclrsegError

KEY = "checksum"
_COVERS = "CRC-32 of this file with zeros in place of these digits: "
_ZEROS = b"0" * 8
UNSEALED = {KEY: _COVERS + _ZEROS.decode()}
"""What the metadata of a safetensors file must hold for ``seal_safetensors``."""
DAMAGED = "is damaged: it does not hold the bytes that were written"

_BLOCK = 1 << 20  # bytes read at once
_NEAR = 512  # bytes in which the checksum stands, and what follows it


def seal_safetensors(path: Path) -> None:
    """Put its checksum into a file that was written with ``UNSEALED`` in its metadata."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        metadata = header.pop("__metadata__")  # in any order, of which files of the same content shall not differ
        metadata = {**{key: metadata[key] for key in sorted(metadata) if key != KEY}, **UNSEALED}
        text = json.dumps({**header, "__metadata__": metadata}, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= size, "the header is written longer than safetensors does"
        file.seek(8)
        file.write(text.ljust(size))
        _fill_in(file)


def seal_onnx(path: Path, key: str, ir_version: int) -> None:
    """Add its checksum to a file, as an entry of its metadata.

    Args:
        key: of the entry.
        ir_version: that the file states.
    """
    entry = _field(0x0A, key.encode()) + _field(0x12, _COVERS.encode() + _ZEROS)  # key and value
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(_field(0x72, entry) + bytes([0x08, ir_version]))
        _fill_in(file)


def _field(tag: int, content: bytes) -> bytes:
    """A field of a protobuf message, of less than 16,384 bytes."""
    size = len(content)
    return bytes([tag, size] if size < 128 else [tag, size & 127 | 128, size >> 7]) + content


def _fill_in(file: BinaryIO) -> None:
    place = _place(file)
    assert place is not None
    digits = _digits(file, place)
    file.seek(place)
    file.write(digits)


def is_damaged(path: Path) -> bool:
    """Tell whether a file holds a checksum, and other bytes than it was made of."""
    with path.open("rb") as file:
        place = _place(file)
        if place is None:
            return False
        digits = _digits(file, place)
        file.seek(place)
        return file.read(len(digits)) != digits


@contextmanager
def checked_meanwhile(path: Path, damaged: SimclrsegError) -> Iterator[None]:
    """Look for damage in a thread while the block opens the file; where it is found, raise ``damaged`` in any case."""
    found: list[bool] = []

    def look() -> None:
        with suppress(OSError):  # the block says why
            found.append(is_damaged(path))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    except Exception as error:
        thread.join()
        if any(found):
            raise damaged from error
        raise
    finally:
        thread.join()
    if any(found):
        raise damaged


def _place(file: BinaryIO) -> int | None:
    """Where the digits begin; None where there is no checksum, or another tool has written the file since."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(9)
    header = 8 + int.from_bytes(start[:8], "little")
    if start[8:] == b"{" and header <= end:
        end, behind = header, rb'"\}\} *'
    else:
        behind = rb"\x08."
    begin = max(0, end - _NEAR)
    file.seek(begin)
    found = re.search(re.escape(_COVERS.encode()) + rb"(.{8})" + behind + rb"\Z", file.read(end - begin), re.DOTALL)
    return begin + found.start(1) if found else None


def _digits(file: BinaryIO, place: int) -> bytes:
    """What the digits are to be, in hexadecimal."""
    checksum = 0
    file.seek(0)
    left = place
    while left and (block := file.read(min(left, _BLOCK))):
        left -= len(block)
        checksum = zlib.crc32(block, checksum)
    checksum = zlib.crc32(_ZEROS, checksum)
    file.seek(len(_ZEROS), os.SEEK_CUR)
    while block := file.read(_BLOCK):
        checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}".encode()
