"""Cats vs. Dogs (Asirra): images of cats and dogs, without masks (Elson et al., "Asirra", CCS 2007)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simclrseg.data.datasets.dataset import DatasetOptions, FileDataset
from simclrseg.data.datasets.fetch import Source, fetch, missing, reach_hub
from simclrseg.images.listing import list_images

_SOURCE = Source(
    name="cats_vs_dogs",
    layout="a folder cat/ and a folder dog/ of photos",
    address="https://huggingface.co/datasets/microsoft/cats_vs_dogs",
    download=825_000_000,
    disk=3_000_000_000,
)
_LABELS = ("cat", "dog")


def cats_vs_dogs(root: Path, options: DatasetOptions) -> FileDataset:
    """Images with the labels cat and dog; the set has no official split."""
    folders = _folders(root)
    if len(folders) < len(_LABELS):
        fetch(_SOURCE, root, _download, entries=_LABELS)
        folders = _folders(root)
    images = [(image, label) for label, folder in enumerate(folders) for image in list_images(folder)]
    if not images:
        raise missing(_SOURCE, root, "the folders hold no photos")
    labels = np.array([label for _, label in images], np.int64)
    counts = ", ".join(f"{(labels == label).sum():,} {name}" for label, name in enumerate(_LABELS))
    return FileDataset(
        "cats_vs_dogs",
        root,
        [image for image, _ in images],
        labels=labels,
        label_names=_LABELS,
        summary=[f"{root}: {len(images):,} photos ({counts})"],
    )


def _folders(root: Path) -> list[Path]:
    """The folders of cats and of dogs, whichever way they are spelled (Kaggle's archive has Cat and Dog)."""
    children = {child.name.lower(): child for child in root.iterdir() if child.is_dir()} if root.is_dir() else {}
    spelled = [children.get(label) or children.get(f"{label}s") for label in _LABELS]
    return [folder for folder in spelled if folder is not None]


def _download(folder: Path) -> None:
    from datasets import Image, load_dataset

    reach_hub()
    rows = load_dataset("microsoft/cats_vs_dogs", split="train", cache_dir=str(folder / "cache"))
    rows = rows.cast_column("image", Image(decode=False))  # the files as they are, not decoded and packed again
    for label in _LABELS:
        (folder / label).mkdir()
    for number, row in enumerate(rows):
        label = _LABELS[row["labels"]]
        (folder / label / f"{label}.{number}.jpg").write_bytes(row["image"]["bytes"])
