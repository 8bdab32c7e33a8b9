"""Decoded pictures, kept in RAM or in a file while they are first read, so that no epoch decodes them again.

The pixels are those of the decoder, wherever they come from. The file holds a slot for every picture of a set, and a
checksum that is written after its pixels: what a kill or a full disk cut short counts as absent, and any number of
threads and processes may fill one file, for all write the same bytes to the same place.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import random
import re
import shutil
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import PIL

from simclrseg import labels
from simclrseg.data import datasets
from simclrseg.data.datasets.base import Dataset, size_text
from simclrseg.data.datasets.derived import Derived
from simclrseg.data.datasets.locate import user_cache
from simclrseg.errors import DataError, ImageError, OutputError
from simclrseg.images import decode, depth, headers, masks, resizing, srgb, strips, tiff
from simclrseg.images.decode import Mask, Pixels, image_shape
from simclrseg.system.distributed import local_world_size
from simclrseg.system.files import replacing
from simclrseg.system.hardware import available_memory
from simclrseg.system.threads import map_in_threads

log = logging.getLogger(__name__)

Where = Literal["auto", "ram", "disk", "none"]

MEMORY_SHARE = {"auto": 1 / 4, "ram": 3 / 4}
"""Fraction of the free memory, shared by the processes of this machine, that pictures may take."""
DISK_SHARE = {"auto": 1 / 2, "disk": 9 / 10}
"""Fraction of the free disk that pictures may take."""

_SAMPLE = 2000  # headers that are read to estimate the size of all pictures
_HEAD = b"simclrseg: decoded pictures, 1\n"
_MARKED = 1 << 32  # in a slot's mark, above the checksum: a picture is there
_SUFFIX = ".decoded"
_ELSEWHERE = "set XDG_CACHE_HOME to a folder on another disk, or pass --cache none"


def cached(
    dataset: Dataset, indices: Sequence[int], *, where: Where, masks: bool = False, write: bool = True
) -> Dataset:
    """The same dataset, whose pictures are decoded once.

    Args:
        indices: the images that will be read again and again; what they need decides where they are kept.
        where: ``auto`` takes RAM where a quarter of the free memory holds them, else the disk where half of what is
            free there does, else nothing.
        masks: keep masks too.
        write: False, for a dry run, reads what lies on the disk and puts nothing there.

    Returns:
        The dataset itself where there is nothing to keep: generated pictures and those already in memory.

    Raises:
        DataError: if they do not fit where they were asked to be.
    """
    image_files = [dataset.path(index) for index in indices]
    mask_files = [dataset.mask_path(index) for index in indices] if masks else []
    if where == "none" or not any(image_files):
        return dataset
    pixel = len(dataset.bands) * np.dtype(dataset.dtype).itemsize
    needed = _decoded_bytes(image_files, pixel) + _decoded_bytes(mask_files, 1)
    what = f"{len(indices):,} photos take {size_text(needed)} decoded"
    if where in MEMORY_SHARE:
        free = available_memory()
        if free is None:  # the system does not say: what was asked for
            room = _Room(math.inf if where == "ram" else 0)
        else:
            room = _Room(free * MEMORY_SHARE[where] / local_world_size())
        if needed <= room.left:
            log.info(f"{what}, kept in RAM as they are read (--cache {where})")
            return Cached(dataset, _Memory(room), _Memory(room) if masks else None)
        if where == "ram":
            left = size_text(room.left)
            raise DataError(
                f"--cache ram: {what}, and {left} of memory may be taken", "pass --cache auto", option="cache"
            )
    kinds = [_Kind(dataset, dataset.path, channels=len(dataset.bands), dtype=dataset.dtype)]
    if masks:
        kinds.append(_Kind(dataset, dataset.mask_path, channels=1, dtype=np.uint8))
    if not write:
        return _as_it_lies(dataset, kinds, what=what)
    try:
        return _on_disk(dataset, kinds, indices, where=where, what=what)
    except DataError as error:
        if where == "disk":
            raise
        log.warning(f"every epoch decodes its photos: {error}")
        return dataset


def _on_disk(dataset: Dataset, kinds: Sequence[_Kind], indices: Sequence[int], *, where: Where, what: str) -> Cached:
    """Pictures in files below the user's cache folder."""
    try:
        files = [kind.open() for kind in kinds]
        missing = sum(file.missing(indices) for file in files)
        room = shutil.disk_usage(_folder()).free * DISK_SHARE[where]
    except (OutputError, OSError) as error:
        if isinstance(error, OutputError):
            reason = f"{_folder()} cannot be written: {error.reason}"
        else:
            reason = f"{error.filename or _folder()}: {error.strerror or type(error).__name__}"
        raise DataError(f"--cache {where}: {reason}", _ELSEWHERE, option="cache", value=where) from error
    if missing > room:
        for file in files:
            file.discard_if_empty()
        raise DataError(
            f"--cache {where}: {what}, {size_text(missing)} of it still to be written to {_folder()}, where "
            f"{size_text(room)} may be taken",
            f"make room there, or {_ELSEWHERE}",
            option="cache",
            value=where,
        )
    log.info(f"{what}, kept in {_folder()} as they are read, {size_text(missing)} still to come (--cache {where})")
    return Cached(dataset, *files)


def _as_it_lies(dataset: Dataset, kinds: Sequence[_Kind], *, what: str) -> Dataset:
    """Pictures in the files that an earlier run has left, where it has: with them the next run would be as quick."""
    files = []
    for kind in kinds:
        try:
            file = kind.lying()
        except OSError:
            file = None
        if file is None:
            log.info(f"{what}; a dry run keeps none of them, so its steps are those of a first epoch")
            return dataset
        file.writable = False
        files.append(file)
    return Cached(dataset, *files)


class Cached(Derived):
    """A dataset in front of which a store stands: see ``cached``. Pictures are read-only."""

    def __init__(self, dataset: Dataset, images: _Store, masks: _Store | None = None) -> None:
        super().__init__(dataset)
        self._images = images
        self._masks = masks

    def image(self, index: int) -> Pixels:
        if self.path(index) is None:
            return super().image(index)
        return _kept(self._images, index, super().image)

    def mask(self, index: int) -> Mask:
        if self._masks is None or self.path(index) is None:
            return super().mask(index)
        return np.asarray(_kept(self._masks, index, super().mask), np.uint8)


def _kept(store: _Store, index: int, decode: Callable[[int], Pixels]) -> Pixels:
    picture = store.get(index)
    if picture is None:
        picture = decode(index)  # an unreadable one raises here, each time it is asked for
        store.put(index, picture)
    picture.flags.writeable = False  # whoever changed it would change it for all epochs
    return picture


class _Room:
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


class _Memory:
    """Pictures in RAM, by index; several threads use it at once."""

    def __init__(self, room: _Room) -> None:
        self._pictures: dict[int, Pixels] = {}
        self._room = room

    def get(self, index: int) -> Pixels | None:
        return self._pictures.get(index)

    def put(self, index: int, picture: Pixels) -> None:
        if index not in self._pictures and self._room.take(picture.nbytes):
            self._pictures[index] = picture


class _File:
    """Pictures in a file: head, their sizes (n, 2) uint32, a mark (n,) uint64 for each, their pixels.

    A mark is 0 for an absent picture, else the CRC-32 of its pixels and ``_MARKED``. The file is opened for each
    access, so that another process may remove it at any time.
    """

    def __init__(self, path: Path, sizes: np.ndarray, *, channels: int, dtype: type[np.generic]) -> None:
        self.path = path
        self._sizes = sizes  # height and width; 0 for a picture without a readable header
        self._channels = channels
        self._dtype = np.dtype(dtype)
        self._bytes = sizes.astype(np.int64).prod(axis=1) * channels * self._dtype.itemsize
        self._marks_at = len(_HEAD) + sizes.nbytes
        start = self._marks_at + 8 * len(sizes)
        self._starts = [start, *accumulate(self._bytes.tolist(), initial=start)][1:]
        self.writable = True

    @classmethod
    def open(cls, path: Path, count: int, *, channels: int, dtype: type[np.generic] = np.uint8) -> _File | None:
        """The file at ``path``, or None where there is none of ``count`` pictures."""
        try:
            with open(path, "rb") as stream:
                head, raw = stream.read(len(_HEAD)), stream.read(8 * count)
        except FileNotFoundError:
            return None
        if head != _HEAD or len(raw) < 8 * count:
            return None
        file = cls(path, np.frombuffer(raw, np.uint32).reshape(count, 2), channels=channels, dtype=dtype)
        return file if path.stat().st_size == file._starts[-1] else None

    def create(self) -> None:
        """Put an empty file into place; its disk space is taken only when pictures are written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary, open(temporary, "wb") as stream:
            stream.write(_HEAD + self._sizes.tobytes())
            stream.truncate(self._starts[-1])

    def get(self, index: int) -> Pixels | None:
        mark = np.zeros(1, np.uint64)
        try:
            with open(self.path, "rb", buffering=0) as stream:
                stream.seek(self._marks_at + 8 * index)
                stream.readinto(mark.data)
                if not mark[0]:
                    return None
                picture = np.empty(self._shape(index), self._dtype)
                stream.seek(self._starts[index])
                stream.readinto(picture.data)
        except OSError:
            return None
        return picture if mark[0] == _mark(picture) else None

    def put(self, index: int, picture: Pixels) -> None:
        if not self.writable or picture.shape != self._shape(index) or picture.dtype != self._dtype:
            return
        picture = np.ascontiguousarray(picture)
        mark = np.array([_mark(picture)], np.uint64)
        try:
            with open(self.path, "r+b", buffering=0) as stream:
                for place, data in ((self._starts[index], picture), (self._marks_at + 8 * index, mark)):
                    stream.seek(place)
                    if stream.write(data.data) < data.nbytes:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if self.writable:
                log.warning(f"{self.path} takes no more ({error.strerror}): the other photos are decoded in each epoch")
            self.writable = False

    def missing(self, indices: Sequence[int]) -> int:
        """Bytes that will be written when all of these have been read."""
        marks = np.fromfile(self.path, np.uint64, len(self._sizes), offset=self._marks_at)
        chosen = np.asarray(indices, np.int64)
        return int(self._bytes[chosen][marks[chosen] == 0].sum())

    def discard_if_empty(self) -> None:
        if self.missing(range(len(self._sizes))) == self._bytes.sum():
            self.path.unlink(missing_ok=True)

    def _shape(self, index: int) -> tuple[int, ...]:
        height, width = self._sizes[index].tolist()
        return (height, width, self._channels) if self._channels > 1 else (height, width)


_Store = _Memory | _File


class _Kind:
    """A dataset's images or its masks, all of them, so that every choice of images shares a file."""

    def __init__(
        self, dataset: Dataset, path_of: Callable[[int], Path | None], *, channels: int, dtype: type[np.generic]
    ) -> None:
        self._paths = [path_of(index) for index in range(len(dataset))]
        self._channels = channels
        self._dtype = dtype
        self._name = "photos" if channels > 1 else "masks"
        folder = next((os.path.abspath(path.parent) for path in self._paths if path is not None), "")
        name = re.sub(r"[^\w.+-]+", "_", dataset.name)[:60]
        self._stem = f"{name}-{self._name}-{_digest(dataset.name, folder)[:8]}"
        of_images = f"{dataset.bands} {dataset.reach}"
        of_masks = f"{dataset.classes} {dataset.colours} {dataset.border} {dataset.mask_reading}"
        meaning = of_images if channels > 1 else of_masks
        key = _digest(decoder_identity(), meaning, *map(_state, self._paths))[:16]
        # Another place as soon as a source, what it means or its decoder has changed.
        self._place = _folder() / f"{self._stem}-{key}{_SUFFIX}"

    def lying(self) -> _File | None:
        """The file that an earlier run has left."""
        return _File.open(self._place, len(self._paths), channels=self._channels, dtype=self._dtype)

    def open(self) -> _File:
        """The file, made where there is none; one of the same set whose sources have changed is removed."""
        for other in self._place.parent.glob(f"{self._stem}-*{_SUFFIX}"):
            if other != self._place:
                log.info(f"{other} is removed: its {self._name} or their decoder have changed")
                other.unlink(missing_ok=True)
        file = self.lying()
        if file is None:
            if len(self._paths) > _SAMPLE:
                log.info(f"reading the sizes of {len(self._paths):,} {self._name}")
            sizes = np.array(map_in_threads(_header, self._paths), np.uint32).reshape(-1, 2)
            file = _File(self._place, sizes, channels=self._channels, dtype=self._dtype)
            file.create()
        return file


def _folder() -> Path:
    return user_cache() / "decoded"


def _decoded_bytes(paths: Sequence[Path | None], pixel: int) -> int:
    """Bytes that pictures take in memory, by their headers; from a sample where they are many."""
    sample = random.Random(0).sample(paths, min(_SAMPLE, len(paths)))
    if not sample:
        return 0
    pixels = sum(height * width for height, width in map_in_threads(_header, sample))
    return round(pixels * pixel * len(paths) / len(sample))


def _header(path: Path | None) -> tuple[int, int]:
    """Height and width of a picture; 0 where it has no file or no readable header."""
    try:
        return (0, 0) if path is None else image_shape(path)
    except ImageError:
        return 0, 0


def _state(path: Path | None) -> str:
    """Fingerprint that changes with a file."""
    if path is None:
        return ""
    try:
        status = os.stat(path)
    except OSError:
        return f"{os.path.abspath(path)} missing"
    # st_ctime_ns too: copies and archives bring another file's time of modification along
    return f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


@cache
def decoder_identity() -> str:
    """Everything that decides which pixels a file becomes: the libraries' versions and our own source."""
    modules = (decode, depth, masks, srgb, strips, resizing, headers, tiff)
    readers = [Path(str(module.__file__)) for module in modules]
    folders = [Path(str(package.__file__)).parent for package in (datasets, labels)]
    sources = [*readers, *(file for folder in folders for file in sorted(folder.glob("*.py")))]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return f"{cv2.__version__} {PIL.__version__} {code}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _mark(picture: Pixels) -> int:
    return _MARKED | zlib.crc32(picture.data)
