"""Marks on the knobs, and the values that need more than a type and a range."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from simclrseg.data.datasets import DATASETS, HUB, LABEL_SUFFIXES
from simclrseg.errors import suggestion
from simclrseg.models import BACKBONES
from simclrseg.registry import canonical
from simclrseg.runs.names import RESERVED

OF_A_RUN = "of_a_run"
"""Key of pydantic's context: these are the stored values of a run."""
BEGUN_IN = "begun_in"
"""Key of the same: the folder that the run was begun in, or None."""
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
"""Ends of names under which labelling tools and people hand sets on."""


class Flag:
    """Other spellings of an option, such as ``-o``."""

    def __init__(self, *names: str) -> None:
        self.names = names


@dataclass(frozen=True)
class Positional:
    """The value is typed without a name, as an argument shown as ``metavar``; a list takes many.

    With ``named``, the option takes it as well.
    """

    metavar: str
    named: bool = False


@dataclass(frozen=True)
class Common:
    """One of the ten or so options of a command that matter first: ``--help`` shows these, ``--help-all`` all."""


@dataclass(frozen=True)
class Tells:
    """A text that a table adds to the help, so that names are written there alone.

    Attributes:
        briefly: what ``--help`` has in its place, where only ``--help-all`` has room for it.
    """

    words: Callable[[], str]
    briefly: str | None = None


@dataclass(frozen=True)
class Completes:
    """The completer of values, by its name in ``cli/completion.py``."""

    what: str


@dataclass(frozen=True)
class KeyOnly:
    """A key of files and of ``--set`` that has no option of its own."""


@dataclass(frozen=True)
class Transient:
    """Belongs to one call, not to the experiment: never written into a run's ``config.yaml``."""


def _path(text: str) -> str:
    """A path as it was typed, with the user's folder for a leading ``~``."""
    if not text.strip():
        raise ValueError("is empty: name a file or a folder")
    return os.path.expanduser(text)


def _known_dataset(name: str, info: ValidationInfo) -> str:
    path = _path(name)
    begun_in: Path | None = info.context and info.context.get(BEGUN_IN)
    if begun_in and name not in DATASETS and not os.path.exists(path) and os.path.exists(begun_in / path):
        return str(begun_in / path)
    if of_a_run(info) or name in DATASETS or os.path.isdir(path) or (name.startswith(HUB) and len(name) > len(HUB)):
        return path
    if os.path.isfile(path) and Path(path).suffix.lower() in LABEL_SUFFIXES:
        return path
    if (meant := canonical(name, DATASETS)) in DATASETS and not os.path.exists(path):
        return meant
    if os.path.exists(path):
        if path.lower().endswith(ARCHIVES):
            raise ValueError(f"'{name}' is an archive: unpack it, and give the folder that comes out")
        raise ValueError(f"'{name}' is no folder: give the one that holds the photos, a COCO file or a data.yaml")
    if any(mark in name for mark in "/\\.~"):
        raise ValueError(f"there is no folder '{name}'")
    raise ValueError(f"{name!r} is neither a dataset nor a folder: {suggestion(name, DATASETS)}")


def dataset_names() -> str:
    return f"Names: {', '.join(DATASETS)}."


def _known_backbone(name: str) -> str:
    name = canonical(name, BACKBONES)
    if name in BACKBONES or name.startswith("tu-"):  # tu-: timm's models, known once timm is imported
        return name
    raise ValueError(f"{name!r} is not a backbone: {suggestion(name, BACKBONES)}")


def check_columns(names: list[str], columns: Mapping[str, str | None]) -> None:
    if not any(name.startswith(HUB) for name in names):
        for knob, column in columns.items():
            if column is not None:
                raise ValueError(f"{knob} ({column}) is for sets of the Hub, such as {HUB}owner/name: leave it out")


def _known_normalization(text: str, info: ValidationInfo) -> str:
    from simclrseg.data.normalization import read_normalization

    names = ("imagenet", "dataset")
    if (meant := canonical(text, names)) in names and not os.path.isfile(_path(text)):
        return meant
    if not of_a_run(info) and not text.startswith("{") and not os.path.isfile(_path(text)):
        raise ValueError(f"{text!r} is neither imagenet, dataset nor a file: {suggestion(text, names)}")
    return _content(text, info, lambda source: read_normalization(source).text)


def _classes(text: str, info: ValidationInfo) -> str:
    from simclrseg.labels.classes import read_classes

    return _content(text, info, lambda source: read_classes(source).text)


def _band_names(text: str) -> str:
    from simclrseg.images.bands import parsed_bands

    parsed_bands(text)
    return text


def _content(text: str, info: ValidationInfo, read: Callable[[str], str]) -> str:
    """Put a file's content, in braces, in the place of its name: a run keeps that, for the file may go or change."""
    if text.startswith("{"):
        return read(text)
    path = _path(text)
    if of_a_run(info) and not os.path.isfile(path):
        return path  # of an older version, which kept the name; it is missed where it is needed
    return read(path)


def of_a_run(info: ValidationInfo) -> bool:
    """Tell whether the value is what a run was made with: its data may have gone since, and may not be needed."""
    return bool(info.context and info.context.get(OF_A_RUN))


def _start(text: str) -> str:
    """Weights to start from: a name that is not a run's in its own spelling, where no file or folder bears it."""
    path = _path(text)
    return path if os.path.exists(path) else canonical(path, RESERVED)


BandNames = Annotated[str, AfterValidator(_band_names)]
PathText = Annotated[str, AfterValidator(_path)]
StartName = Annotated[str, AfterValidator(_start), Completes("pretrained")]
DatasetName = Annotated[str, AfterValidator(_known_dataset), Completes("datasets")]
NormalizationName = Annotated[str, AfterValidator(_known_normalization), Completes("files")]
ClassesName = Annotated[str, AfterValidator(_classes), Completes("files")]
BackboneName = Annotated[str, AfterValidator(_known_backbone), Completes("backbones")]
