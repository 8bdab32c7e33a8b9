"""From what a user types after `--dataset` to a dataset."""

from __future__ import annotations

import os
from pathlib import Path

from simclrseg.data.datasets import DATASETS, HUB, LABEL_SUFFIXES
from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.derived import choose_bands
from simclrseg.data.datasets.drawn import drawn_set
from simclrseg.data.datasets.folder import image_folder
from simclrseg.data.datasets.label_files import tell_labels_aside
from simclrseg.errors import DataError, UsageError
from simclrseg.images.bands import places_of


def data_root() -> Path:
    """Where named sets lie: ``$SIMCLRSEG_DATA``, else the user's cache directory."""
    if folder := os.environ.get("SIMCLRSEG_DATA"):
        return Path(os.path.expanduser(folder))
    return user_cache() / "data"


def user_cache() -> Path:
    """Our folder among the user's caches: what lies there can be made again.

    Raises:
        UsageError: if nobody knows where it would be.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if caches.startswith("~"):  # HOME is not set, and the system does not know the user
        raise UsageError(
            "there is no home folder for what is kept",
            "set HOME, or XDG_CACHE_HOME and SIMCLRSEG_DATA",
            option="dataset",
        )
    return Path(caches) / "simclrseg"


def open_dataset(name_or_path: str, options: DatasetOptions | None = None) -> Dataset:
    """Open a named set or one of the Hub, fetching it where it is missing, a folder, or a file of labels.

    A folder that has the name of a set is reached as ``./name``.

    Raises:
        UnknownName: for a band that is not there.
        DataError: for a name that is neither a set nor a folder, and if the data is missing or does not fit together.
    """
    options = options or DatasetOptions()
    dataset = _open(name_or_path, options)
    if options.bands:
        dataset = choose_bands(dataset, options.bands)
    elif places_of(options.model_bands, dataset.bands):
        dataset = choose_bands(dataset, options.model_bands)
    return dataset


def _open(name_or_path: str, options: DatasetOptions) -> Dataset:
    if name_or_path in DATASETS:
        if options.classes is not None and options.masks:
            raise DataError(
                f"--classes-file is for folders of masks; {name_or_path} brings its own classes", option="classes_file"
            )
        if options.mask_rules or options.mask_folder:
            raise DataError(f"--masks is for masks of your own; {name_or_path} is read by its own rule", option="masks")
        dataset: Dataset = DATASETS[name_or_path](data_root() / name_or_path, options)
        return dataset
    if name_or_path.startswith(HUB):
        from simclrseg.data.datasets.hub import hub_dataset

        if options.mask_folder and not options.of_model:
            raise DataError(f"--masks folder is for a folder; {name_or_path} has columns", option="masks")
        return hub_dataset(name_or_path, user_cache() / "hub", options)
    folder = Path(os.path.expanduser(name_or_path))
    labels = folder.suffix.lower() in LABEL_SUFFIXES and folder.is_file()
    if (labels or (folder.is_dir() and options.masks)) and (drawn := drawn_set(folder, options)):
        return drawn
    if folder.is_dir():
        dataset = image_folder(folder, options)
        asked = options.mask_rules or options.mask_folder or options.classes or options.of_model or options.settled
        if dataset.has_masks and options.masks and not asked:
            dataset.summary = [*dataset.summary, *tell_labels_aside(folder, dataset)]
        return dataset
    if folder.exists():
        raise DataError(
            f"{name_or_path} is no folder",
            "give the one that holds the photos, a COCO file or a data.yaml",
            path=name_or_path,
        )
    # What is typed was there when its knob was read: a run or a file names this one.
    raise DataError(f"{name_or_path}: no such folder", "put it back where it was", path=name_or_path)
