"""Where decoded pictures are kept: in RAM, or in a file that any number of threads and processes fill together.

The file holds a slot for every picture of a set, and checksums of its bands of rows that are written after its pixels:
what a kill or a full disk cut short counts as absent, and all write the same bytes to the same place. A crop reads the
bands that it lies in, and no others.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import zlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from simclrseg.images.decode import Pixels
from simclrseg.system.files import replacing

log = logging.getLogger(__name__)

HEAD = b"simclrseg: decoded pictures, 2\n"
"""How a file begins; another number where it is laid out otherwise."""
_MARKED = 1 << 32  # in a mark, above the checksum: the rows are there
_BAND = 1 << 20  # bytes that have a checksum of their own


class Room:
    """Bytes that may still be taken: the guard where sizes were estimated."""

    def __init__(self, left: float) -> None:
        self.left = left
        self._lock = threading.Lock()
        self._full = False

    def take(self, count: int) -> bool:
        with self._lock:
            if count <= self.left and not self._full:
                self.left -= count
                return True
            first, self._full = not self._full, True
        if first:
            log.warning("the cache in RAM is full: the other photos are decoded in each epoch (or take --cache disk)")
        return False


class Memory:
    """Pictures in RAM, by index; several threads use it at once."""

    def __init__(self, room: Room) -> None:
        self._pictures: dict[int, Pixels] = {}
        self._room = room

    def get(self, index: int, top: int = 0, bottom: int | None = None) -> Pixels | None:
        picture = self._pictures.get(index)
        return None if picture is None else picture[top:bottom]

    def shape(self, index: int) -> tuple[int, int] | None:
        picture = self._pictures.get(index)
        return None if picture is None else (picture.shape[0], picture.shape[1])

    def put(self, index: int, picture: Pixels) -> None:
        if index not in self._pictures and self._room.take(picture.nbytes):
            self._pictures[index] = picture


class PictureFile:
    """Pictures in a file: head, their sizes (n, 2) uint32, marks uint64 of each picture's bands of rows, their pixels.

    A mark is 0 for absent rows, else the CRC-32 of their pixels and ``_MARKED``. A small picture is one band. The file
    is opened for each access, so that another process may remove it at any time.

    Args:
        channels: of pictures (H, W, channels); None for those that are (H, W).
    """

    def __init__(self, path: Path, sizes: np.ndarray, *, channels: int | None, dtype: type[np.generic]) -> None:
        self.path = path
        self._sizes = sizes  # height and width; 0 for a picture without a readable header
        self._channels = channels
        self._dtype = np.dtype(dtype)
        height, width = sizes.astype(np.int64).T
        self._row = width * (channels or 1) * self._dtype.itemsize  # (n,) bytes, as all below
        self._band = np.maximum(1, _BAND // np.maximum(1, self._row))  # rows
        bands = -(-height // self._band)
        self._first = np.cumsum(bands) - bands  # mark of each picture
        self._marks = int(bands.sum())
        self._bytes = height * self._row
        self._marks_at = len(HEAD) + sizes.nbytes
        start = self._marks_at + 8 * self._marks
        self._starts = [start, *accumulate(self._bytes.tolist(), initial=start)][1:]
        self.writable = True

    @classmethod
    def open(
        cls, path: Path, count: int, *, channels: int | None, dtype: type[np.generic] = np.uint8
    ) -> PictureFile | None:
        """The file at ``path``, or None where there is none of ``count`` pictures."""
        try:
            with open(path, "rb") as stream:
                head, raw = stream.read(len(HEAD)), stream.read(8 * count)
        except FileNotFoundError:
            return None
        if head != HEAD or len(raw) < 8 * count:
            return None
        file = cls(path, np.frombuffer(raw, np.uint32).reshape(count, 2), channels=channels, dtype=dtype)
        return file if path.stat().st_size == file._starts[-1] else None

    def create(self) -> None:
        """Put an empty file into place; its disk space is taken only when pictures are written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary, open(temporary, "wb") as stream:
            stream.write(HEAD + self._sizes.tobytes())
            stream.truncate(self._starts[-1])

    def get(self, index: int, top: int = 0, bottom: int | None = None) -> Pixels | None:
        height, rows = int(self._sizes[index, 0]), int(self._band[index])
        bottom = height if bottom is None else min(bottom, height)
        first, last = top // rows, -(-bottom // rows)
        start, end = first * rows, min(last * rows, height)
        marks = np.zeros(max(0, last - first), np.uint64)
        try:
            with open(self.path, "rb", buffering=0) as stream:
                stream.seek(self._marks_at + 8 * (int(self._first[index]) + first))
                stream.readinto(marks.data)
                if not len(marks) or not marks.all():
                    return None
                picture = np.empty((end - start, *self._shape(index)[1:]), self._dtype)
                stream.seek(self._starts[index] + start * int(self._row[index]))
                stream.readinto(picture.data)
        except OSError:
            return None
        if marks.tolist() != _marks(picture, rows):
            return None
        picture.flags.writeable = False
        return picture[top - start : bottom - start]

    def shape(self, index: int) -> tuple[int, int] | None:
        """Height and width of a picture that is there."""
        return None if self.get(index, 0, 1) is None else (int(self._sizes[index, 0]), int(self._sizes[index, 1]))

    def put(self, index: int, picture: Pixels) -> None:
        if not self.writable or picture.shape != self._shape(index) or picture.dtype != self._dtype:
            return
        picture = np.ascontiguousarray(picture)
        marks = np.array(_marks(picture, int(self._band[index])), np.uint64)
        marks_at = self._marks_at + 8 * int(self._first[index])
        try:
            with open(self.path, "r+b", buffering=0) as stream:
                for place, data in ((self._starts[index], picture), (marks_at, marks)):
                    stream.seek(place)
                    if stream.write(data.data) < data.nbytes:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if self.writable:
                log.warning(f"{self.path} takes no more ({error.strerror}): the other photos are decoded in each epoch")
            self.writable = False

    def missing(self, indices: Sequence[int]) -> int:
        """Bytes that will be written when all of these have been read."""
        marks = np.fromfile(self.path, np.uint64, self._marks, offset=self._marks_at)
        present = np.append(marks, 0)[self._first] != 0  # those of a picture are written together
        chosen = np.asarray(indices, np.int64)
        return int(self._bytes[chosen][~present[chosen]].sum())

    def discard_if_empty(self) -> None:
        if self.missing(range(len(self._sizes))) == self._bytes.sum():
            self.path.unlink(missing_ok=True)

    def _shape(self, index: int) -> tuple[int, ...]:
        height, width = self._sizes[index].tolist()
        return (height, width) if self._channels is None else (height, width, self._channels)


def _marks(rows: Pixels, band: int) -> list[int]:
    """The marks of whole bands of so many rows, the last of which may be shorter."""
    return [_MARKED | zlib.crc32(rows[top : top + band].data) for top in range(0, len(rows), band)]


Store = Memory | PictureFile
