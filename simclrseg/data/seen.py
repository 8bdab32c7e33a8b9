"""Which images a network has learned from: a record small enough to travel in its weights file.

An image is known by a hash of its content. Of more than ``MOST`` images the record holds the smallest hashes, which are
a random sample: of other images, only those with a hash below its largest can be judged (Cohen & Kaplan 2007, bottom-k
sketches), and their share that was seen is the share of all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simclrseg.data.datasets.base import Dataset
from simclrseg.errors import DataError, ImageError
from simclrseg.system.threads import map_in_threads

MOST = 10_000
_BYTES = 6  # of a hash: two of a million images agree by chance with a probability of 0.2 %


@dataclass(frozen=True)
class Overlap:
    """How many images were seen among those that the record can judge."""

    seen: int
    judged: int


def record(hashes: Iterable[bytes], *, most: int = MOST) -> str:
    """The smallest ``most`` of some hashes, as text."""
    smallest = sorted(set(hashes))[:most]
    return base64.b64encode(b"".join(smallest)).decode()


def joined(first: str, second: str, *, most: int = MOST) -> str:
    """The record of what either has seen.

    A record that is full says nothing of hashes above its largest, so no joint record reaches further.
    """
    parts = [_hashes(first), _hashes(second)]
    limits = [part[-1] for part in parts if len(part) >= most]
    return record((one for part in parts for one in part if not limits or one <= min(limits)), most=most)


def overlap(text: str, hashes: Sequence[bytes], *, most: int = MOST) -> Overlap:
    """How many images with these hashes a record can judge, and how many of them it holds."""
    held = _hashes(text)
    judged = [one for one in hashes if len(held) < most or one <= held[-1]]
    return Overlap(len(set(held) & set(judged)) if held else 0, len(judged))


def image_hashes(dataset: Dataset, indices: Sequence[int]) -> list[bytes]:
    """A hash of each image's ``content``; an image that cannot be read has none."""
    return list(hashes_by_index(dataset, indices).values())


def hashes_by_index(dataset: Dataset, indices: Sequence[int]) -> dict[int, bytes]:
    """A hash of the ``content`` of each image that can be read."""

    def hashed(index: int) -> bytes | None:
        try:
            return hashlib.sha256(dataset.content(index)).digest()[:_BYTES]
        except (OSError, ImageError):
            return None

    pairs = zip(indices, map_in_threads(hashed, indices), strict=True)
    return {index: one for index, one in pairs if one is not None}


def first_of_each(
    parts: Sequence[tuple[Dataset, Sequence[int]]], known: Iterable[bytes]
) -> tuple[list[list[int]], int]:
    """Of images of some datasets the first with each content that can be read, and how many repeat one.

    Args:
        known: hashes of images that count as having been there before.
    """
    before, found, repeated = set(known), list[list[int]](), 0
    for dataset, indices in parts:
        found.append([])
        for index, content in hashes_by_index(dataset, indices).items():
            if content in before:
                repeated += 1
                continue
            before.add(content)
            found[-1].append(index)
    return found, repeated


def _hashes(text: str) -> list[bytes]:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError("the weights' record of the photos they have seen is damaged", "fetch them again") from error
    return [content[start : start + _BYTES] for start in range(0, len(content), _BYTES)]
