"""What files of labels say: images, the objects in each, and the names of their classes."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from simclrseg.errors import DataError, some
from simclrseg.images.decode import list_images
from simclrseg.labels.classes import IGNORE_NAME, MAX_CLASSES
from simclrseg.labels.polygons import Object, Ring
from simclrseg.metadata import IGNORE

BACKGROUND = "background"
_GROUND = frozenset({BACKGROUND, "_background_", "__background__"})
_IGNORED = frozenset({IGNORE_NAME, "__ignore__", "_ignore_"})
GUESSED = "photos found by the last part of their name, in another folder"
"""The note of what an ``Images`` has guessed."""
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of files


@dataclass
class LabelledImage:
    """An image and what is drawn in it; None where nobody has looked for objects."""

    image: Path
    source: Path  # the file that says so
    objects: tuple[Object, ...] | None
    size: tuple[int, int] | None = None  # (height, width), as the source has it


@dataclass
class Labelled:
    """All that files of labels of one form say.

    Attributes:
        classes: their names, background first.
        relative: points are in widths and heights of the image instead of pixels.
        splits: the images of published lists, by the names of ``Dataset.official``; None where files do not tell.
        notes: lines about what was found and left out.
    """

    form: str
    images: list[LabelledImage]
    classes: tuple[str, ...]
    relative: bool = False
    splits: Mapping[str, Sequence[Path]] | None = None
    notes: list[str] = field(default_factory=list)


def class_ids(names: Iterable[str], source: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes, background first, and the id of each name; ``background`` and ``ignore`` are what they say.

    Raises:
        DataError: if there is none but those, or they are too many.
    """
    named = [name for name in dict.fromkeys(names) if name.lower() not in _GROUND | _IGNORED]
    if not named:
        raise DataError(f"{source} names no class but the background: there is nothing to learn", path=source)
    if len(named) >= MAX_CLASSES:
        raise DataError(f"{source} has {len(named):,} classes: {MAX_CLASSES - 1} are possible", path=source)
    ids = {name: number for number, name in enumerate(named, 1)}
    rest = {name: 0 if name.lower() in _GROUND else IGNORE for name in names if name not in ids}
    return (BACKGROUND, *named), ids | rest


def ring(values: Sequence[Any], what: str) -> Ring:
    """A polygon from x and y in turn.

    Args:
        what: names it in messages.

    Raises:
        DataError: if it has fewer than three points, or numbers that are none.
    """
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise DataError(f"{what}: its points are not all numbers")
    if len(numbers) % 2:
        raise DataError(f"{what}: {len(numbers)} numbers are no pairs of x and y")
    if len(numbers) < 6:
        raise DataError(f"{what}: a polygon of {len(numbers) // 2} points encloses nothing")
    return numbers.reshape(-1, 2)


def read_json(file: Path) -> Any:
    """The content of a JSON file; a DataError names one that cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file} cannot be opened: {error.strerror}", path=file) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON that can be read ({error})", "export it again", path=file) from error


class Images:
    """The images below a folder, found by what files of labels call them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.guessed: list[str] = []  # names of which only the last part was found
        self.files = list_images(root)
        self._named: dict[str, list[Path]] = {}
        for file in self.files:
            self._named.setdefault(_plain(file.name), []).append(file)
            self._named.setdefault(_plain(file.stem), []).append(file)

    def find(self, name: str, source: Path) -> Path | None:
        """The image that a name means in ``source``: of several, the one whose folders are named too, or are nearest.

        A path of another machine, of Windows and of Label Studio does as well, whose last part counts; the suffix may
        miss, and letters may be of another case.

        Raises:
            DataError: if it may be one or the other.
        """
        texts = [name, unquote(name), unquote(name).rpartition("?d=")[2]]
        for parts in filter(None, (PurePosixPath(text.replace("\\", "/")).parts for text in texts)):
            for last in (parts[-1], _UPLOADED.sub("", parts[-1], count=1)):
                if fitting := self._named.get(_plain(last)):
                    return self._nearest(fitting, [*(part for part in parts[:-1] if part != ".."), last], source)
        return None

    def _nearest(self, fitting: Sequence[Path], parts: Sequence[str], source: Path) -> Path:
        def closeness(file: Path) -> tuple[int, bool, bool, int]:
            pairs = zip(reversed(file.parent.parts), reversed(parts[:-1]), strict=False)
            same = len(list(takewhile(lambda pair: _plain(pair[0]) == _plain(pair[1]), pairs)))
            near = os.path.commonpath([file.absolute().parent, source.absolute().parent])
            return same, _plain(file.name) == _plain(parts[-1]), file.name == parts[-1], len(Path(near).parts)

        first, *others = sorted(fitting, key=closeness, reverse=True)
        name = "/".join(parts)
        if others and closeness(others[0]) == closeness(first):
            raise DataError(f"{source} names {name!r}, which fits {first} and {others[0]}", "rename one", path=source)
        if closeness(first)[0] < len(parts) - 1:
            self.guessed.append(name)
        return first


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def left_out(missing: Sequence[str], what: str) -> list[str]:
    """A line that counts and names what is left out, if anything is."""
    return [f"{what}: {len(missing):,} ({some(missing, shown=3)})"] if missing else []


def raise_first(problems: Sequence[tuple[Path, DataError]], of: int) -> None:
    """Raise the first of the problems in files, with their number."""
    if problems:
        file, problem = problems[0]
        more = f" (objects that cannot be read: {len(problems):,} of {of:,})" if len(problems) > 1 else ""
        raise DataError(f"{problem}{more}", "" if problem.remedy else "correct or delete it", path=file)
