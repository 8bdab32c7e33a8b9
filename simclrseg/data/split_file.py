"""What a run keeps of its split: the keys of each part, and a hash of what its test images are."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BaseModel, Strict

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.splits import Share, Split
from simclrseg.errors import DataError
from simclrseg.system.content import BadContent, fitting, read_json
from simclrseg.system.files import sha256_of
from simclrseg.system.threads import map_in_threads
from simclrseg.text import encodable

log = logging.getLogger(__name__)

SPLIT_FILE = "split.json"
"""File of a run that records its split."""


def split_json(dataset: Dataset, split: Split, hash_of_test: str | None) -> dict[str, Any]:
    """The content of a run's split.json: the keys of each part, and how they were chosen."""
    return {
        "dataset": dataset.name,
        "split_seed": split.seed,
        "test_split": split.test_split,
        "data_ratio": split.data_ratio,
        "max_images": split.max_images,
        "validation_share": split.validation_share,
        "fold": split.fold,
        "group_by": split.group_by,
        "development": split.development,
        "border": dataset.border,
        "test_hash": hash_of_test,
        "train": [dataset.keys[index] for index in split.train],
        "validation": [dataset.keys[index] for index in split.validation],
        "test": [dataset.keys[index] for index in split.test],
    }


_Key = Annotated[str, AfterValidator(encodable)]


def _a_test_split(value: Any) -> Any:
    if value == "official" or value == "random" or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError("it must be official, random or a share of the photos")


class _Record(BaseModel):
    """What ``split_json`` writes, as far as a split follows from it."""

    train: list[_Key]
    validation: list[_Key]
    test: list[_Key]
    development: Annotated[int, Strict(), Ge(0)]
    data_ratio: Annotated[float, Strict(), Gt(0), Le(1)]
    split_seed: Annotated[int, Strict()]
    test_split: Annotated[Any, AfterValidator(_a_test_split)]
    fold: tuple[Annotated[int, Strict(), Ge(1)], Annotated[int, Strict(), Ge(2)]] | None
    group_by: str | None
    max_images: Annotated[int, Strict(), Ge(1)] | None = None
    validation_share: Annotated[Share, Strict()] | None = None

    @property
    def keys(self) -> list[str]:
        return [*self.train, *self.validation, *self.test]


def stored_split(dataset: Dataset, path: Path) -> Split:
    """The split that a run recorded, whatever has come to the dataset since.

    Training and validation images that are gone are left out, with a warning.

    Raises:
        DataError: if the record cannot be read, or test images are gone.
    """
    places = {encodable(key): index for index, key in enumerate(dataset.keys)}
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise BadContent("it has no keys")
        record = fitting(_Record, content)
        if twice := next((key for key, count in Counter(record.keys).items() if count > 1), None):
            raise BadContent(f"it has {twice} twice")
    except (OSError, BadContent) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path} cannot be read ({reason})",
            "restore it, or remove it, and the split is made anew from the photos that are there",
            path=path,
        ) from error
    parts = (record.train, record.validation, record.test)
    train, validation, test = (sorted(places[key] for key in keys if key in places) for keys in parts)
    chosen = record.model_dump(exclude={"train", "validation", "test", "split_seed"})
    split = Split(tuple(train), tuple(validation), tuple(test), seed=record.split_seed, **chosen)
    if gone := [key for key in record.test if key not in places]:
        raise DataError(
            f"{len(gone):,} of {len(record.test):,} test photos of {path} are not in {dataset.name}, such as {gone[0]}",
            "restore them, or name others with --dataset",
        )
    if gone := [key for key in (*record.train, *record.validation) if key not in places]:
        log.warning(f"{len(gone):,} photos that were trained on are not in {dataset.name} any more, such as {gone[0]}")
    return split


def test_hash(dataset: Dataset, test: Sequence[int]) -> str:
    """A hash of what a score on the test images depends on: keys, files, masks, border rule, chosen classes.

    Two runs with the same hash were scored on the same pixels.
    """

    def mask_digest(index: int) -> str:
        if (file := dataset.mask_path(index)) is not None:
            return _file_digest(file)
        if not dataset.has_mask(index):
            return ""
        ids = dataset.mask(index)  # generated, or made of several files
        return hashlib.sha256(f"{ids.shape}".encode() + ids.tobytes()).hexdigest()

    rule = f"{dataset.border}\n" + "".join(f"{one}\n" for one in (dataset.chosen, dataset.mask_reading) if one)
    return _hash(rule, dataset, test, mask_digest)


def labelled_test_hash(dataset: Dataset, test: Sequence[int]) -> str:
    """The same for classes: a hash of the test images' keys and files, and of the names of their classes."""
    labels = dataset.labels
    assert labels is not None  # the caller has seen them
    return _hash("", dataset, test, lambda index: dataset.label_names[labels[index]])


def _hash(head: str, dataset: Dataset, test: Sequence[int], truth: Callable[[int], str]) -> str:
    """A hash of a line for each image: its key, its file and what is true of it."""

    def line(index: int) -> str:
        image = dataset.path(index)
        return f"{dataset.keys[index]}\t{_file_digest(image) if image is not None else ''}\t{truth(index)}\n"

    in_order = sorted(test, key=lambda index: dataset.keys[index])
    lines = "".join(map_in_threads(line, in_order, telling="test photos"))
    return hashlib.sha256(f"{head}{lines}".encode("utf-8", "surrogateescape")).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", "restore it, or take it out of the set", path=path
        ) from error
