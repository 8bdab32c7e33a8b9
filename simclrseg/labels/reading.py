"""From a mask's file to class ids, by the rules that a user gave and what was found of the set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, SimclrsegError, some
from simclrseg.images.decode import Mask
from simclrseg.images.headers import Refused
from simclrseg.images.stored_masks import StoredMask, eight_bits, read_stored_mask
from simclrseg.images.strips import strips_of
from simclrseg.labels import NAMING
from simclrseg.labels.classes import MAX_CLASSES, Classes
from simclrseg.metadata import IGNORE

Rules = Mapping[str, float | str | None]
"""Words of ``RULES``, each with its number, or with the name that it takes."""
MaskFiles = Path | tuple[Path, ...]
"""The file of a mask, or those of its parts."""
BINARIZING = {"threshold", "foreground"}
"""Rules that leave two classes."""
OF_NUMBERS = {*BINARIZING, "alpha"}
"""Rules after which no colour has a meaning."""
UNKNOWN = MAX_CLASSES
"""What a number or a colour becomes that no class has."""
BLACK = (0, 0, 0)
_OF_TRAINING = re.compile("--(masks|classes-file)|^(add the others|give each class its number)")
_AS_TRAINED = "save its masks as those are that the model was trained on"
_COLOURFUL = 32  # levels between the channels of a grey picture


@dataclass(frozen=True)
class Reader:
    """From a mask's file, or those of its parts, to (H, W) class ids: the same way for all files of a set."""

    rules: Rules
    table: NDArray[np.uint8]  # ids by number, 0 to 255, or by colour, red << 16 | green << 8 | blue
    by_colour: bool
    white: int  # the number that stands for the 1 of bilevel files
    turned: Mapping[Path, int]  # masks to be turned by their photo's orientation
    parts: Mapping[Path, int]  # of files that show one class each, that class

    def __call__(self, files: MaskFiles) -> Mask:
        if isinstance(files, Path):
            return self._ids(files)
        first = self._ids(files[0])
        ids, smallest = np.zeros_like(first), np.full(first.shape, first.size)
        for file in files:  # where two are drawn, the smaller lies on top, or else the later, as of polygons
            drawn = self._ids(file)
            ids[(drawn == IGNORE) & (ids == 0)] = IGNORE
            size = np.count_nonzero(drawn == 1)
            on_top = (drawn == 1) & (size <= smallest)
            ids[on_top], smallest[on_top] = self.parts[file], size
        return ids

    def _ids(self, file: Path) -> Mask:
        stored = read_stored_mask(file, turned_by=self.turned.get(file, 1))
        try:
            values, palette = values_of(stored, self.rules, white=self.white)
        except Refused as error:
            raise DataError(f"{file} {error.reason}", error.remedy, path=file) from error
        if values.dtype != np.uint8 or (values.ndim == 3 and not self.by_colour):
            raise DataError(f"{file} has changed since the masks were looked at", "start again", path=file)
        height, width = values.shape[:2]
        ids = np.empty((height, width), np.uint8)
        beyond = []
        for top, bottom in strips_of((width, height)):
            rows = values[top:bottom]
            if self.by_colour:
                rows = rows if palette is None else np.asarray(palette[rows])
                ids[top:bottom] = look_up(rows, self.table)
            else:
                ids[top:bottom] = cv2.LUT(rows, self.table)
            if (unknown := ids[top:bottom] == UNKNOWN).any():
                beyond.append(np.unique(rows[unknown], axis=0))
        if beyond:
            found = listed(np.unique(np.concatenate(beyond), axis=0).tolist())
            raise DataError(f"{file} has values {found}, which no class has", "correct the mask", path=file)
        return ids


def values_of(stored: StoredMask, rules: Rules, *, white: int = 255) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """(H, W) numbers, and the palette whose indices they are, or (H, W, 3) colours.

    Raises:
        Refused: where a file cannot be read by these rules.
    """
    values, palette = stored.values, stored.palette
    if "alpha" in rules:
        if stored.alpha is None:
            raise Refused("has no alpha channel", "leave alpha out of --masks, or save it with one")
        values, palette = stored.alpha, None
    elif stored.bilevel:
        values = values * np.uint8(white)
    if isinstance(least := rules.get("threshold"), int | float):
        return (_grey(values if palette is None else palette[values]) >= least).astype(np.uint8), None
    if "foreground" in rules:
        if palette is not None and BLACK in map(tuple, palette[np.unique(values)].tolist()):
            values = np.asarray(palette[values])
        elif palette is None and values.ndim == 2:
            return (values != 0).astype(np.uint8), None
        return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0, np.uint8), None
    if (eight := eight_bits(values)) is None:
        raise Refused("has 16-bit colours that are none of 8 bits", "save it as an 8-bit PNG")
    values = eight
    if values.ndim == 3 and _is_grey(values):
        values = np.ascontiguousarray(values[:, :, 0])
    if values.dtype == np.uint16 and values.max() == 65535 and not (values == 255).any():
        values = np.where(values == 65535, np.uint16(255), values)  # the largest number, as 255 of eight bits is
    if values.dtype.kind != "f" and values.dtype != np.uint8 and values.min() >= 0 and values.max() <= 255:
        values = values.astype(np.uint8)
    return values, palette


def _is_grey(values: NDArray[Any]) -> bool:
    """Tell whether the channels of (H, W, 3) are all alike: by strips, for what is compared takes as much again."""
    strips = strips_of((values.shape[1], values.shape[0]))
    return all((values[top:bottom] == values[top:bottom, :, :1]).all() for top, bottom in strips)


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 2:
        return values
    if (values.max(axis=2) - values.min(axis=2)).max() > _COLOURFUL * np.iinfo(values.dtype).max // 255:
        raise Refused("is in colour, which has no threshold", "name its classes in a --classes-file")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_RGB2GRAY))


def hidden_share(stored: StoredMask) -> float:
    """The share of pixels that an alpha channel hides; 0 where the values alone say the same as it does."""
    if stored.alpha is None or stored.alpha.min() == stored.alpha.max():
        return 0.0
    hidden = stored.alpha < (128 << 8 if stored.alpha.dtype == np.uint16 else 128)
    empty = stored.values == 0 if stored.values.ndim == 2 else ~stored.values.any(axis=2)
    return 0.0 if (hidden == empty).all() else max(float(hidden.mean()), 0.005)


def rules_text(rules: Rules) -> str:
    """Rules in the words that a user types: where masks lie, then what their values mean."""
    words = {name: f"{value:g}" if isinstance(value, int | float) else value for name, value in rules.items()}
    in_order = sorted(words, key=lambda name: name not in NAMING)
    return "+".join(name if words[name] is None else f"{name}:{words[name]}" for name in in_order)


def with_rule(rules: Rules, name: str, value: float | str | None = None) -> str:
    """The option that adds a rule to those that were given, as a shell takes it."""
    return f"--masks {quote(rules_text({**rules, name: value}))}"


def listed(values: Iterable[float]) -> str:
    return some([f"{value:g}" if isinstance(value, float) else value for value in values], shown=8)


def look_up(values: Mask, table: NDArray[np.uint8]) -> Mask:
    """(H, W[, 3]) greys or colours -> (H, W) ids by a table of all colours: its cost does not grow with the classes."""
    if values.ndim == 2:
        return np.asarray(cv2.LUT(values, np.ascontiguousarray(table[::0x010101])), np.uint8)
    red, green, blue = (values[:, :, channel].astype(np.int32) for channel in range(3))
    ids: Mask = table[red << 16 | green << 8 | blue]
    return ids


def colour_table(classes: Classes) -> NDArray[np.uint8]:
    table = np.full(2**24, UNKNOWN, np.uint8)
    for (red, green, blue), index in classes.ids.items():
        table[red << 16 | green << 8 | blue] = index
    return table


def of_files(error: SimclrsegError) -> SimclrsegError:
    """The same error where a model says how masks are read: its remedy is what their files allow, and no option."""
    if not _OF_TRAINING.search(error.remedy):
        return error
    ways = [way for way in re.split("[,;] or ", error.remedy) if not _OF_TRAINING.search(way)]
    remedy = " or ".join(ways) or _AS_TRAINED
    return DataError(error.reason, remedy, option=error.option, path=error.path, value=error.value)
