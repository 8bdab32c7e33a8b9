"""CIFAR-10: 32 px images of 10 classes (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images")."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.fetch import Source, fetch, missing
from simclrseg.errors import DataError
from simclrseg.images.decode import Pixels
from simclrseg.text import in_one_line

_FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_FILES = (*_TRAIN, "test_batch", "batches.meta")
_WHOLE = 10_000  # pictures in an official batch
_SOURCE = Source(
    name="cifar10",
    layout=f"{_FOLDER}/ with {_TRAIN[0]} to {_TRAIN[-1]}, test_batch and batches.meta",
    address="https://www.cs.toronto.edu/~kriz/cifar.html",
    download=170_498_071,
    disk=400_000_000,
)


class Cifar10(Dataset):
    """Pictures in memory, (N, 3, 32, 32) as the batch files have them."""

    def __init__(self, keys: list[str], pixels: Pixels, **details: Any) -> None:
        super().__init__("cifar10", keys, **details)
        self._pixels = pixels

    def image(self, index: int) -> Pixels:
        return np.ascontiguousarray(self._pixels[index].transpose(1, 2, 0))


def cifar10(root: Path, options: DatasetOptions) -> Cifar10:
    """Open the batch files, however many pictures they hold."""
    folder = root / _FOLDER
    if not folder.is_dir():
        fetch(_SOURCE, root, _download, entries=(_FOLDER,))
    absent = [name for name in _FILES if not (folder / name).is_file()]
    if absent:
        raise missing(_SOURCE, root, f"{folder} lacks {', '.join(absent)}; remove the folder to fetch it anew")
    batches = {name: _read_batch(folder / name) for name in _FILES[:-1]}
    keys = [f"{name}/{number:05d}" for name, (pixels, _) in batches.items() for number in range(len(pixels))]
    names = _read_names(folder / "batches.meta")
    for name, (_, labels) in batches.items():
        if not 0 <= labels.min() <= labels.max() < len(names):
            reason = (
                f"{folder / name} has labels from {labels.min()} to {labels.max()}, and there are {len(names)} names"
            )
            raise DataError(reason, "fetch it again", path=folder / name)
    sizes = {name: len(pixels) for name, (pixels, _) in batches.items()}
    train = sum(sizes[name] for name in _TRAIN)
    total = len(keys)
    counts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    short = f" (an official batch has {_WHOLE:,})" if any(size != _WHOLE for size in sizes.values()) else ""
    return Cifar10(
        keys,
        np.concatenate([pixels for pixels, _ in batches.values()]),
        labels=np.concatenate([labels for _, labels in batches.values()]),
        label_names=names,
        official={"trainval": range(train), "test": range(train, total)},
        summary=[f"{folder}: {total:,} photos of 32 px, {train:,} trainval and {total - train:,} test", counts + short],
    )


def _read_batch(file: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """((N, 3, 32, 32) pixels, (N,) labels) of one batch file."""
    batch = _read_pickle(file, "data", "labels")
    try:
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except ValueError:  # rows of several lengths
        pixels = labels = np.zeros(0)
    right = labels.dtype.kind == "i" and labels.ndim == 1 and labels.size
    if not right or pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
        raise DataError(f"{file} is not a batch of CIFAR-10: it needs one row of 3072 bytes for each label", path=file)
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _read_names(file: Path) -> list[str]:
    names = _read_pickle(file, "label_names")["label_names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{file} has no list of names", "fetch it again", path=file)
    return [_text(name) for name in names]


class _Unpickler(pickle.Unpickler):
    """Arrays and plain values only: a pickle can otherwise run anything."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct", "ndarray", "dtype", "_frombuffer", "scalar"}
        if (module.split(".")[0] == "numpy" and name in allowed) or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in it")


def _read_pickle(file: Path, *needed: str) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = _Unpickler(stream, encoding="bytes").load()  # written by Python 2
        content = {_text(key): value for key, value in content.items()}
        return {key: content[key] for key in needed} | content
    except Exception as error:  # a damaged pickle raises about anything
        reason = in_one_line(error, 120)
        raise DataError(f"{file} is not a batch file of CIFAR-10 ({reason})", "fetch it again", path=file) from error


def _text(value: str | bytes) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _download(folder: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(str(folder), download=True)
