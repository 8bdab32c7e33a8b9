"""Decoded pictures, kept in RAM or in a file while they are first read, so that no epoch decodes them again.

The pixels are those of the decoder, wherever they come from. ``stores`` holds them.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
import PIL

from simclrseg import labels
from simclrseg.data import datasets
from simclrseg.data.datasets.dataset import Dataset, size_text
from simclrseg.data.datasets.derived import Derived
from simclrseg.data.datasets.locate import user_cache
from simclrseg.data.stores import HEAD, Memory, PictureFile, Room, Store
from simclrseg.errors import DataError, OutputError
from simclrseg.images import decode, depth, headers, opening, resizing, srgb, stored_masks, strips, tiff
from simclrseg.images.decode import Mask, Pixels, known_shape
from simclrseg.images.limits import room_for
from simclrseg.system.distributed import local_world_size
from simclrseg.system.hardware import available_memory
from simclrseg.system.threads import map_in_threads

log = logging.getLogger(__name__)

T = TypeVar("T")
Where = Literal["auto", "ram", "disk", "none"]

MEMORY_SHARE = {"auto": 1 / 4, "ram": 3 / 4}
"""Fraction of the free memory, shared by the processes of this machine, that pictures may take."""
DISK_SHARE = {"auto": 1 / 2, "disk": 9 / 10}
"""Fraction of the free disk that pictures may take."""

_SAMPLE = 2000  # headers that are read to estimate the size of all pictures
_LOCKS = 64  # for pictures that are being decoded
CROPPED_IN_RAM = 1 << 29
"""Bytes that pictures may take in RAM by themselves where crops are read: those in a file are as quick."""
_SUFFIX = ".decoded"
_ELSEWHERE = "set XDG_CACHE_HOME to a folder on another disk, or pass --cache none"


def cached(
    dataset: Dataset,
    indices: Sequence[int],
    *,
    where: Where,
    masks: bool = False,
    write: bool = True,
    cropped: bool = False,
) -> Dataset:
    """The same dataset, whose pictures are decoded once.

    Args:
        indices: the images that will be read again and again; what they need decides where they are kept.
        where: ``auto`` takes RAM where a quarter of the free memory holds them, else the disk where half of what is
            free there does, else nothing.
        masks: keep masks too.
        write: False, for a dry run, reads what lies on the disk and puts nothing there.
        cropped: True where few rows of a picture are read at a time; then ``auto`` takes less RAM.

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
            room = Room(math.inf if where == "ram" else 0)
        else:
            most = CROPPED_IN_RAM if cropped and where == "auto" else math.inf
            room = Room(min(most, free * MEMORY_SHARE[where]) / local_world_size())
        if needed <= room.left:
            log.info(f"{what}, kept in RAM as they are read (--cache {where})")
            return Cached(dataset, Memory(room), Memory(room) if masks else None)
        if where == "ram":
            left = size_text(room.left)
            raise DataError(
                f"--cache ram: {what}, and {left} of memory may be taken", "pass --cache auto", option="cache"
            )
    kinds = [_Kind(dataset, dataset.path, channels=len(dataset.bands), dtype=dataset.dtype)]
    if masks:
        kinds.append(_Kind(dataset, dataset.mask_path, channels=None, dtype=np.uint8))
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
            reason = f"{_folder()} cannot be written: {error.cause}"
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

    def __init__(self, dataset: Dataset, images: Store, masks: Store | None = None) -> None:
        super().__init__(dataset)
        self._images = _Kept(self, images, super().image, super().path)
        self._masks = None if masks is None else _Kept(self, masks, super().mask, super().mask_path)

    def image(self, index: int) -> Pixels:
        return self._images.whole(index)

    def mask(self, index: int) -> Mask:
        return super().mask(index) if self._masks is None else np.asarray(self._masks.whole(index), np.uint8)

    def image_shape(self, index: int) -> tuple[int, int]:
        return self._images.shape(index)

    def mask_shape(self, index: int) -> tuple[int, int]:
        return super().mask_shape(index) if self._masks is None else self._masks.shape(index)

    def image_rows(self, index: int, top: int, bottom: int) -> Pixels:
        return self._images.rows(index, top, bottom)

    def mask_rows(self, index: int, top: int, bottom: int) -> Mask:
        if self._masks is None:
            return super().mask_rows(index, top, bottom)
        return np.asarray(self._masks.rows(index, top, bottom), np.uint8)


class _Kept:
    """The images of a dataset, or its masks, with a store in front of them; a picture is decoded by one thread.

    Few large ones are decoded at a time, for each takes memory. Images that lie in no file are not kept.

    Args:
        decode: an index -> the picture; an unreadable one raises there, each time it is asked for.
        path: of its file.
    """

    def __init__(
        self, dataset: Dataset, store: Store, decode: Callable[[int], Pixels], path: Callable[[int], Path | None]
    ) -> None:
        self._dataset = dataset
        self._store = store
        self._decode = decode
        self._path = path
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def whole(self, index: int) -> Pixels:
        return self._found(index, lambda: self._store.get(index), lambda picture: picture)

    def rows(self, index: int, top: int, bottom: int) -> Pixels:
        """Some of its rows, for which a file reads few others."""
        return self._found(
            index,
            lambda: self._store.get(index, top, bottom),
            lambda picture: picture[top:bottom].copy(),  # a part of it would keep the whole in memory
        )

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of a picture that can be read."""
        return self._found(index, lambda: self._store.shape(index), lambda picture: picture.shape[:2])

    def _found(self, index: int, stored: Callable[[], T | None], of: Callable[[Pixels], T]) -> T:
        if self._dataset.path(index) is None:
            return of(self._decode(index))
        if (found := stored()) is not None:
            return found
        height, width = known_shape(self._path(index))
        with room_for(height * width), self._locks[index % _LOCKS]:
            if (found := stored()) is not None:  # another thread has decoded it
                return found
            picture = self._decode(index)
            self._store.put(index, picture)
            picture.flags.writeable = False  # whoever changed it would change it for all epochs
            return of(picture)


class _Kind:
    """A dataset's images or its masks, all of them, so that every choice of images shares a file.

    Args:
        channels: bands of the images; None for masks.
    """

    def __init__(
        self, dataset: Dataset, path_of: Callable[[int], Path | None], *, channels: int | None, dtype: type[np.generic]
    ) -> None:
        self._paths = [path_of(index) for index in range(len(dataset))]
        self._channels = channels
        self._dtype = dtype
        self._name = "masks" if channels is None else "photos"
        folder = next((os.path.abspath(path.parent) for path in self._paths if path is not None), "")
        name = re.sub(r"[^\w.+-]+", "_", dataset.name)[:60]
        self._stem = f"{name}-{self._name}-{_digest(dataset.name, folder)[:8]}"
        of_images = f"{dataset.bands} {dataset.image_reading} {dataset.reach}"
        of_masks = f"{dataset.classes} {dataset.colours} {dataset.border} {dataset.mask_reading}"
        meaning, sources = (of_masks if channels is None else of_images), self._paths
        if channels is None and dataset.has_blanks:  # masks ignore what images do not hold
            meaning, sources = meaning + of_images, [*sources, *map(dataset.path, range(len(dataset)))]
        key = _digest(str(HEAD), decoder_identity(), meaning, *map(_state, sources))[:16]
        # Another place as soon as a source, what it means or its decoder has changed.
        self._place = _folder() / f"{self._stem}-{key}{_SUFFIX}"

    def lying(self) -> PictureFile | None:
        """The file that an earlier run has left."""
        return PictureFile.open(self._place, len(self._paths), channels=self._channels, dtype=self._dtype)

    def open(self) -> PictureFile:
        """The file, made where there is none; one of the same set whose sources have changed is removed."""
        for other in self._place.parent.glob(f"{self._stem}-*{_SUFFIX}"):
            if other != self._place:
                log.info(f"{other} is removed: its {self._name} or their decoder have changed")
                other.unlink(missing_ok=True)
        file = self.lying()
        if file is None:
            if len(self._paths) > _SAMPLE:
                log.info(f"reading the sizes of {len(self._paths):,} {self._name}")
            sizes = np.array(map_in_threads(known_shape, self._paths), np.uint32).reshape(-1, 2)
            file = PictureFile(self._place, sizes, channels=self._channels, dtype=self._dtype)
            file.create()
        return file


def _folder() -> Path:
    return user_cache() / "decoded"


def _decoded_bytes(paths: Sequence[Path | None], pixel: int) -> int:
    """Bytes that pictures take in memory, by their headers; from a sample where they are many."""
    sample = random.Random(0).sample(paths, min(_SAMPLE, len(paths)))
    if not sample:
        return 0
    pixels = sum(height * width for height, width in map_in_threads(known_shape, sample))
    return round(pixels * pixel * len(paths) / len(sample))


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
    modules = (decode, opening, depth, stored_masks, srgb, strips, resizing, headers, tiff)
    readers = [Path(str(module.__file__)) for module in modules]
    folders = [Path(str(package.__file__)).parent for package in (datasets, labels)]
    sources = [*readers, *(file for folder in folders for file in sorted(folder.glob("*.py")))]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return f"{cv2.__version__} {PIL.__version__} {code}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
