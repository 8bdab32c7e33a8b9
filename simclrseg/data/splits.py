"""Which photos train, validate and test: a function of their keys and one seed."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simclrseg.data.datasets.base import Dataset
from simclrseg.errors import DataError

TEST_SHARE = 0.2
VALIDATION_EVERY = 10
TestSplit = Literal["official", "random"]


@dataclass(frozen=True)
class Split:
    """Indices into a dataset, ascending.

    Attributes:
        development: photos that are not test, before ``data_ratio`` took its share.
        test_split: where the test photos come from; ``random`` also where an official list was asked for and is none.
        line: the same for the user.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    development: int
    data_ratio: float
    seed: int
    test_split: TestSplit
    line: str


def make_split(
    keys: Sequence[str],
    *,
    official: Mapping[str, Sequence[int]],
    usable: Sequence[int] | None = None,
    test_split: TestSplit = "official",
    seed: int = 0,
    data_ratio: float = 1.0,
) -> Split:
    """Split a dataset.

    Photos are put into the order of a hash of seed and key. A random test split is the first fifth; of the
    development photos every tenth is for validation, unless a list says otherwise. ``data_ratio`` takes the first
    part of that order, so that the photos of a smaller ratio are among those of a larger one.

    Args:
        keys: of all photos.
        official: published lists, as in ``Dataset.official``.
        usable: photos that may be taken, such as those with a mask; None for all. Never moves a photo between
            test and development.
        test_split: ``official`` takes the published lists where there are any.
        data_ratio: share of the development photos to use, above 0 and up to 1.

    Raises:
        DataError: if fewer than two photos are left to train and validate with.
    """
    taken = set(range(len(keys)) if usable is None else usable)
    order = hashed_order(keys, seed)
    lists = dict(official) if test_split == "official" else {}
    test_split = "official" if "test" in lists else "random"

    pool, validation_list = _development(lists, len(keys))
    if "test" in lists:
        test = set(lists["test"])
    else:  # of the training list only where there is one: the validation list stays as it is
        candidates = [index for index in order if index in pool]
        test = set(candidates[: max(1, math.floor(TEST_SHARE * len(candidates)))] if len(candidates) > 2 else ())
    train = [index for index in order if index in pool - test and index in taken]
    validation = [index for index in order if index in validation_list and index in taken]

    development = len(train) + len(validation)
    if validation:
        train, validation = _share(train, data_ratio), _share(validation, data_ratio)
    else:
        some = _share(train, data_ratio)
        last = VALIDATION_EVERY - 1 if len(some) >= VALIDATION_EVERY else len(some) - 1
        validation = some[last::VALIDATION_EVERY]
        train = [index for place, index in enumerate(some) if place % VALIDATION_EVERY != last]
    if not train or not validation:
        raise DataError(
            f"{development:,} development photos at data ratio {data_ratio:g} leave {len(train)} to train and "
            f"{len(validation)} to validate with: add photos, or raise --data-ratio"
        )
    used = len(train) + len(validation)
    line = (
        f"{data_ratio:g}: {used:,} of {development:,} development photos, "
        f"{len(train):,} train / {len(validation):,} validation"
    )
    return Split(
        train=tuple(sorted(train)),
        validation=tuple(sorted(validation)),
        test=tuple(sorted(test & taken)),
        development=development,
        data_ratio=data_ratio,
        seed=seed,
        test_split=test_split,
        line=line,
    )


def hashed_order(keys: Sequence[str], seed: int) -> list[int]:
    """All indices, in an order in which two photos stand alike whichever others there are."""
    return sorted(range(len(keys)), key=lambda index: hashlib.sha256(f"{seed}/{keys[index]}".encode()).digest())


def test_hash(dataset: Dataset, test: Sequence[int]) -> str:
    """A hash of what a score on the test photos depends on: their keys and files, their masks, the border rule.

    Two runs with the same hash were scored on the same pixels.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(lambda index: _digest(dataset, index), sorted(test, key=lambda i: dataset.keys[i])))
    return hashlib.sha256(f"{dataset.border}\n{''.join(digests)}".encode()).hexdigest()


def split_json(dataset: Dataset, split: Split, hash_of_test: str | None) -> dict[str, Any]:
    """What a run's split.json holds: the keys of each part, and how they were chosen."""
    return {
        "dataset": dataset.name,
        "split_seed": split.seed,
        "test_split": split.test_split,
        "data_ratio": split.data_ratio,
        "development": split.development,
        "border": dataset.border,
        "test_hash": hash_of_test,
        "train": [dataset.keys[index] for index in split.train],
        "validation": [dataset.keys[index] for index in split.validation],
        "test": [dataset.keys[index] for index in split.test],
    }


def _development(lists: Mapping[str, Sequence[int]], count: int) -> tuple[set[int], set[int]]:
    """Photos to train with and photos to validate with, as far as lists say."""
    validation = set(lists.get("validation", ()))
    named = set(lists.get("trainval", ())) | set(lists.get("train", ()))
    everything = named or set(range(count)) - set(lists.get("test", ()))
    return everything - validation, validation


def _share(indices: list[int], ratio: float) -> list[int]:
    """The first part of a list; 0.29 of 100 are 29, whatever 0.29 * 100 is in binary."""
    return indices[: math.floor(ratio * len(indices) + 1e-9)]


def _digest(dataset: Dataset, index: int) -> str:
    """Key, photo and mask of one test photo, as one line."""
    photo, mask = dataset.path(index), dataset.mask_path(index)
    if mask is not None:
        masked = _file_digest(mask)
    elif dataset.has_mask(index):
        ids = dataset.mask(index)
        masked = hashlib.sha256(f"{ids.shape}".encode() + ids.tobytes()).hexdigest()
    else:
        masked = ""
    return f"{dataset.keys[index]}\t{_file_digest(photo) if photo is not None else ''}\t{masked}\n"


def _file_digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
