"""Images of a set that show the same photo, which no split may part."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads

_PARTS = ("trainval", "train", "validation", "test")  # of an image that two lists name, the last counts
_OF_ROBOFLOW = re.compile(r"(.+)\.rf\.[0-9a-zA-Z]{20,}")
_HEAD = 1 << 12  # bytes, which tell most files of one size apart


def same_photos(
    images: Sequence[Path], official: Mapping[str, Sequence[int]], summary: list[str]
) -> list[tuple[int, ...]]:
    """Images that show the same photo, which belong to one part of a split, and lines on them.

    These are files that are the same to the byte, and the versions of a photo that Roboflow makes.
    """
    copies, versions = _twins(images), _versions(images)
    _tell_same(copies, "exact copies of other photos", images, official, summary)
    _tell_same(versions, "versions of other photos, by Roboflow's names", images, official, summary)
    return copies + versions


def _versions(images: Sequence[Path]) -> list[tuple[int, ...]]:
    """Images of one photo that Roboflow has changed in several ways: x_jpg.rf.<hash>.jpg."""
    versions: dict[tuple[Path, str], list[int]] = {}
    for index, image in enumerate(images):
        if match := _OF_ROBOFLOW.fullmatch(image.stem):
            versions.setdefault((image.parent, match[1]), []).append(index)
    return [tuple(group) for group in versions.values() if len(group) > 1]


def _tell_same(
    twins: Sequence[tuple[int, ...]],
    what: str,
    images: Sequence[Path],
    official: Mapping[str, Sequence[int]],
    summary: list[str],
) -> None:
    """Add a line on groups of images that show the same photo; of files that cannot be read nothing is said."""
    if not twins:
        return
    first = " = ".join(images[index].name for index in twins[0][:3])
    line = f"{what}: {sum(map(len, twins)) - len(twins):,} ({first})"
    part = {index: split for split in _PARTS if split in official for index in official[split]}
    across = [[split for split in _PARTS if split in {part.get(index) for index in group}] for group in twins]
    if apart := [(group, parts) for group, parts in zip(twins, across, strict=True) if len(parts) > 1]:
        group, parts = apart[0]
        same = " = ".join(images[index].name for index in group[:3])
        line += f"; the same photos are in {' and '.join(parts)}: {len(apart):,} ({same}), which makes scores too good"
    elif not official:
        line += "; a random split keeps them together"
    summary.append(line)


def _twins(images: Sequence[Path]) -> list[tuple[int, ...]]:
    alike: dict[object, list[int]] = {}
    for index, image in enumerate(images):
        with suppress(OSError):
            alike.setdefault(image.stat().st_size, []).append(index)
    for length in (_HEAD, -1):  # what begins alike is read as a whole
        groups = [group for group in alike.values() if len(group) > 1]
        indices = [index for group in groups for index in group]
        digests = distributed.from_main(partial(_digests, [images[index] for index in indices], length))
        alike = {}
        for index, digest in zip(indices, digests, strict=True):
            alike.setdefault(digest, []).append(index)
    return sorted(tuple(group) for digest, group in alike.items() if len(group) > 1 and digest)


def _digests(files: Sequence[Path], length: int) -> list[bytes]:
    return map_in_threads(partial(_digest, length=length), files)


def _digest(file: Path, *, length: int) -> bytes:
    with suppress(OSError), open(file, "rb") as stream:
        return (hashlib.file_digest(stream, "sha256") if length < 0 else hashlib.sha256(stream.read(length))).digest()
    return b""
