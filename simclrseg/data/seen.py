"""Which images a network has learned from: a record small enough to travel in its weights file.

An image is known by a hash of its content, of which a record holds 32 bits, packed into about three bytes. Of more than
``MOST`` images it holds the smallest hashes, which are a random sample: of other images, only those with a hash below
its largest can be judged (Cohen & Kaplan 2007, bottom-k sketches), and their share that was seen is the share of all.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.samples import spread
from simclrseg.errors import DataError, ImageError
from simclrseg.metadata import ModelMetadata
from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads

log = logging.getLogger(__name__)

MOST = 4096
LOOKED_AT = 64
"""Images of each dataset in a fingerprint."""
_BYTES = 4  # of a hash in a record: one of a million images agrees by chance with one of a full record
_DIGEST = 6  # of an image's hash, and in records of older versions, which are hashes one after the other
_PACKED = "~"
"""Begins the text of a record whose hashes are packed; it is no letter of base64, with which an older one begins."""
_LONGEST = 1 << 20
"""Letters of a record: far more than any has."""


@dataclass(frozen=True)
class Overlap:
    """How many images were seen among those that the record can judge."""

    seen: int
    judged: int


def record(hashes: Iterable[bytes], *, most: int = MOST) -> str:
    """The smallest ``most`` of some hashes, as text."""
    smallest = sorted({one[:_BYTES] for one in hashes})[:most]
    return _packed([int.from_bytes(one) for one in smallest]) if smallest else ""


def joined(first: str, second: str, *, most: int = MOST) -> str:
    """The record of what either has seen.

    A record that is full says nothing of hashes above its largest, and the joint one, which is full then, reaches no
    further: as many are below.
    """
    return record((one for part in (first, second) for one in _hashes(part)), most=most)


def overlap(text: str, hashes: Sequence[bytes], *, most: int = MOST) -> Overlap:
    """How many images with these hashes a record can judge, and how many of them it holds."""
    held = _hashes(text)
    judged = [one[:_BYTES] for one in hashes if len(held) < most or one[:_BYTES] <= held[-1]]
    return Overlap(len(set(held) & set(judged)) if held else 0, len(judged))


def image_hashes(dataset: Dataset, indices: Sequence[int]) -> list[bytes]:
    """A hash of each image's ``content``; an image that cannot be read has none."""
    return list(hashes_by_index(dataset, indices).values())


def hashes_by_index(dataset: Dataset, indices: Sequence[int]) -> dict[int, bytes]:
    """A hash of the ``content`` of each image that can be read."""

    def hashed(index: int) -> bytes | None:
        try:
            return hashlib.sha256(dataset.content(index)).digest()[:_DIGEST]
        except (OSError, ImageError):
            return None

    pairs = zip(indices, map_in_threads(hashed, indices, telling="photos"), strict=True)
    return {index: one for index, one in pairs if one is not None}


def fingerprint(parts: Sequence[tuple[Dataset, Sequence[int]]]) -> str:
    """Hashes of the content of up to ``LOOKED_AT`` images of each dataset, in order: of those in files of their own.

    They are evenly chosen, so that the same indices give the same ones.
    """
    hashes = set[str]()
    for dataset, indices in parts:
        files = [index for index in spread(indices, LOOKED_AT) if dataset.path(index) is not None]
        hashes.update(one.hex() for one in image_hashes(dataset, files))
    return " ".join(sorted(hashes))


def kept(before: str, now: str) -> tuple[int, int]:
    """How many images two fingerprints share, and of how many; those that could not be read are no others."""
    first, second = set(before.split()), set(now.split())
    return len(first & second), min(len(first), len(second))


def contents_apart(parts: Sequence[tuple[Dataset, Sequence[int]]]) -> list[dict[int, bytes]]:
    """A hash of each image of some datasets that can be read: of its whole file where others begin as it does.

    Files of one size without compression begin alike where the first rows of their photos are black.
    """

    def hashed(path: Path | None) -> bytes | None:
        with suppress(OSError):
            return hashlib.sha256(path.read_bytes()).digest()[:_DIGEST] if path else None
        return None

    found = [hashes_by_index(dataset, indices) for dataset, indices in parts]
    times = Counter(one for hashes in found for one in hashes.values())
    for (dataset, _), hashes in zip(parts, found, strict=True):
        alike = [index for index, one in hashes.items() if times[one] > 1]
        whole = map_in_threads(hashed, map(dataset.path, alike), telling="photos that begin alike")
        hashes |= {index: one for index, one in zip(alike, whole, strict=True) if one is not None}
    return found


def first_of_each(
    parts: Sequence[tuple[Dataset, Sequence[int]]], known: tuple[Dataset, Sequence[int]]
) -> tuple[list[list[int]], int]:
    """Of images of some datasets the first with each content, and how many repeat one.

    An image that cannot be read stays: what is wrong with it is told when it is looked at.

    Args:
        known: images that count as having been there before.
    """
    first, *others = contents_apart([known, *parts])
    before, found, repeated = set(first.values()), list[list[int]](), 0
    for (_, indices), contents in zip(parts, others, strict=True):
        found.append([])
        for index in indices:
            content = contents.get(index)
            if content in before:
                repeated += 1
                continue
            if content is not None:
                before.add(content)
            found[-1].append(index)
    return found, repeated


def of_a_test_list(dataset: Dataset, indices: Sequence[int]) -> bool:
    """Whether some of the images are of the set's test list."""
    return not set(dataset.official.get("test", ())).isdisjoint(indices)


def warn_if_seen(dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata | None) -> None:
    """Warn where a model, or the weights it began with, was trained on images that are to be scored."""
    if metadata is None or not metadata.seen or not distributed.is_main():
        return
    found = overlap(metadata.seen, image_hashes(dataset, indices))
    if found.seen:
        began = "" if metadata.pretrained in (None, "none") else f", begun with {metadata.pretrained}"
        of = "photos to be scored" if found.judged == len(indices) else "photos to be scored that can be judged"
        log.warning(
            f"{found.seen:,} of {found.judged:,} {of} were seen in training, with or without labels "
            f"({metadata.dataset}{began}): expect lower scores on new photos"
        )


def _hashes(text: str) -> list[bytes]:
    """The hashes of a record, in their order."""
    try:
        if len(text) > _LONGEST:
            raise ValueError("it is longer than any record")
        if text.startswith(_PACKED):
            return [number.to_bytes(_BYTES) for number in _unpacked(text)]
        content = base64.b64decode(text, validate=True)
    except (IndexError, OverflowError, ValueError) as error:
        raise DataError("the weights' record of the photos they have seen is damaged", "fetch them again") from error
    old = [content[start : start + _BYTES] for start in range(0, len(content), _DIGEST)]
    return sorted(set(old))


def _packed(numbers: Sequence[int]) -> str:
    """Ascending numbers by the steps between them, each in about as few bits as can be (Rice 1979).

    A step has its lowest bits as they are, behind as many ones as the rest says, and a zero.
    """
    low = max(0, math.floor(math.log2(max(1, numbers[-1] / len(numbers)))))
    bits, before = [], 0
    for number in numbers:
        step, before = number - before, number
        bits.append("1" * (step >> low) + "0" + (f"{step & (1 << low) - 1:0{low}b}" if low else ""))
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)  # an end without a zero is no number
    content = int(stream, 2).to_bytes(len(stream) // 8)
    return _PACKED + base64.b64encode(bytes([low]) + content).decode()


def _unpacked(text: str) -> list[int]:
    content = base64.b64decode(text[len(_PACKED) :], validate=True)
    low, stream = content[0], "".join(f"{byte:08b}" for byte in content[1:])
    numbers, place, number = [], 0, 0
    while (zero := stream.find("0", place)) >= 0:
        rest = stream[zero + 1 : zero + 1 + low]
        if len(rest) < low:
            raise ValueError("its last number is cut")
        number += (zero - place << low) + int(rest or "0", 2)
        numbers.append(number)
        place = zero + 1 + low
    if not numbers or len(stream) - place >= 8:
        raise ValueError("its end is no number")
    return numbers
