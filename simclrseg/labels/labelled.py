"""What files of labels say: images, the objects in each, and the names of their classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.errors import DataError, some
from simclrseg.labels.classes import IGNORE_NAME, MAX_CLASSES
from simclrseg.labels.polygons import Object, Ring
from simclrseg.metadata import IGNORE
from simclrseg.system.content import BadContent, read_json, read_yaml
from simclrseg.system.identify import why_not_fetched

BACKGROUND = "background"
YAML = (".yaml", ".yml")
_GROUND = frozenset({BACKGROUND, "_background_", "__background__"})
_IGNORED = frozenset({IGNORE_NAME, "__ignore__", "_ignore_"})
_SIDE = re.compile(r"\s*\d{1,9}(\.0*)?\s*")
_LARGEST_SIDE = 1 << 31  # pixels


@dataclass
class LabelledImage:
    """An image and what is drawn in it; None where nobody has looked for objects."""

    image: Path
    source: Path  # the file that says so
    objects: tuple[Object, ...] | None
    size: tuple[int, int] | None = None  # (height, width), as the source has it
    turned_by: int = 1  # the image's EXIF orientation, if objects are drawn on its pixels as they are stored


@dataclass
class Labelled:
    """All that files of labels of one form say.

    Attributes:
        classes: their names, background first.
        relative: points are in widths and heights of the image instead of pixels.
        splits: the images of published lists, by the names of ``Dataset.official``; None where files do not tell.
        unread: photos that have labels, or may have, and are not read.
        notes: lines about what was found and left out.
    """

    form: str
    images: list[LabelledImage]
    classes: tuple[str, ...]
    relative: bool = False
    splits: Mapping[str, Sequence[Path]] | None = None
    unread: Sequence[Path] = ()
    notes: list[str] = field(default_factory=list)


def class_ids(names: Iterable[str], source: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes, background first, and the id of each name; ``background`` and ``ignore`` are what they say."""
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
    except (OverflowError, TypeError, ValueError):
        numbers = np.array([np.nan])
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise DataError(f"{what}: its points are not all numbers")
    if len(numbers) % 2:
        raise DataError(f"{what}: {len(numbers)} numbers are no pairs of x and y")
    if len(numbers) < 6:
        raise DataError(f"{what}: a polygon of {len(numbers) // 2} points encloses nothing")
    return numbers.reshape(-1, 2)


def stated_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(height, width) as a file of labels states it, in numbers of any kind or in text; None where it does not."""
    sides = [float(side) if isinstance(side, str) and _SIDE.fullmatch(side) else side for side in (height, width)]
    if not all(isinstance(side, int | float) and 1 <= side < _LARGEST_SIDE for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def read_content(file: Path) -> Any:
    """The content of a file of JSON, or of YAML, by its suffix; a DataError names one that cannot be read."""
    by_hand = file.suffix.lower() in YAML
    try:
        content = read_yaml(file) if by_hand else read_json(file)
    except OSError as error:
        raise DataError(f"{file} cannot be opened: {error.strerror}", path=file) from error
    except BadContent as error:
        refuse_other_files(file)
        raise DataError(error.of(file), "" if by_hand else "export it again", path=file) from error
    if not isinstance(content, dict | list):
        refuse_other_files(file)
    return content


def refuse_other_files(file: Path) -> None:
    """Raise a DataError that names a file which was not fetched, such as a pointer of Git LFS."""
    if what := why_not_fetched(file):
        raise DataError(f"{file} {what}", path=file)


def left_out(missing: Sequence[str], what: str) -> list[str]:
    """A line that counts and names what is left out, if anything is."""
    return [f"{what}: {len(missing):,} ({some(missing, shown=3)})"] if missing else []


def raise_first(problems: Sequence[tuple[Path, DataError]], of: int) -> None:
    """Raise the first of the problems in files, with their number."""
    if problems:
        file, problem = problems[0]
        more = f" (objects that cannot be read: {len(problems):,} of {of:,})" if len(problems) > 1 else ""
        raise DataError(f"{problem}{more}", "" if problem.remedy else "correct or delete it", path=file)
