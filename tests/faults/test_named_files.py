"""Files of named sets that are damaged, or edited by hand."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError
from tests.folders import write

PIXELS = np.zeros((16, 16, 3), np.uint8)
BATCH = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMCLRSEG_DATA", str(tmp_path))
    return tmp_path


def write_cifar(root: Path, *, batch: dict[bytes, Any] | None = None, names: Any = (b"cat", b"dog")) -> None:
    folder = root / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(pickle.dumps({**BATCH, **(batch or {})}, 2))
    (folder / "batches.meta").write_bytes(
        pickle.dumps({b"label_names": list(names) if isinstance(names, tuple) else names}, 2)
    )


@pytest.mark.parametrize(
    ("batch", "names", "reason"),
    [
        ({b"labels": 3}, (b"cat", b"dog"), "is not a batch of CIFAR-10"),
        ({b"labels": [[0], [1, 2]]}, (b"cat", b"dog"), "is not a batch of CIFAR-10"),
        ({b"labels": []}, (b"cat", b"dog"), "is not a batch of CIFAR-10"),
        ({b"data": None}, (b"cat", b"dog"), "is not a batch of CIFAR-10"),
        ({b"labels": [0, 2]}, (b"cat", b"dog"), "has labels from 0 to 2, and there are 2 names"),
        ({b"labels": [-1, 1]}, (b"cat", b"dog"), "has labels from -1 to 1, and there are 2 names"),
        ({}, 5, "has no list of names"),
        ({}, (b"cat", 5), "has no list of names"),
    ],
)
def test_a_batch_of_cifar_that_does_not_fit_is_named(root: Path, batch: Any, names: Any, reason: str) -> None:
    write_cifar(root, batch=batch, names=names)
    with pytest.raises(DataError, match=reason):
        open_dataset("cifar10")


def test_names_of_other_bytes_and_labels_in_an_array_are_read(root: Path) -> None:
    write_cifar(root, batch={b"labels": np.array([0, 1])}, names=(b"chat", b"\xe9lan"))
    dataset = open_dataset("cifar10")
    assert dataset.label_names == ("chat", "\\xe9lan") and list(dataset.labels) == [0, 1] * 6


def write_voc(root: Path, train: str, val: str) -> None:
    base = root / "voc" / "VOCdevkit" / "VOC2012"
    for stem in ("a", "b", "c"):
        write(base / "JPEGImages" / f"{stem}.jpg", PIXELS)
        write(base / "SegmentationClass" / f"{stem}.png", PIXELS[:, :, 0])
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(train)
    (lists / "val.txt").write_text(val)


def test_a_photo_that_a_list_names_twice_counts_once(root: Path) -> None:
    write_voc(root, "a\nb\na\n", "c\nc\n")
    assert open_dataset("voc").official == {"train": (0, 1), "test": (2,)}


def test_a_photo_in_the_lists_of_two_parts_is_named(root: Path) -> None:
    write_voc(root, "a\nb\nc\n", "c\n")
    with pytest.raises(
        DataError, match=r"voc: VOCdevkit/VOC2012/JPEGImages/c\.jpg in the lists of both train and test"
    ):
        open_dataset("voc")
