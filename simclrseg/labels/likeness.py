"""Whether pictures look like masks, by what they hold: areas of one value, where photos have grain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simclrseg.images.decode import known_shape
from simclrseg.images.framing import middle
from simclrseg.images.limits import LARGE, room_for
from simclrseg.images.listing import why_unread
from simclrseg.images.stored_masks import StoredMask, read_stored_mask
from simclrseg.labels.looking import look_at, sample

_IF_UNSURE = 50  # pictures of a folder that are looked at
_ROWS = 256  # of a picture
_COLUMNS = 4096  # likewise
_FEW = 32  # values of a mask, which a photo has more of
_FLAT, _RATHER_FLAT = 0.9, 0.7  # shares of pixels that are as their neighbour is
_DARK, _BRIGHT = 16, 239  # what 0 and 255 are in lossy files, at their farthest
_SOME = 0.005  # share of the pixels that are bright, at least, for an area to be there
_GREY = 8  # levels between the channels of a grey picture in a lossy file
_STEP = 2  # levels from a pixel to the next in an area of one value in a lossy file, at most
_SMOOTH = 0.8  # share of such steps: 97 of 100 photos of Oxford Pets have less than 0.7, JPEGs of two colours 0.85
_NEARLY_WHITE = 250


@dataclass(frozen=True)
class Likeness:
    """What some pictures have in common.

    Attributes:
        masks: they are flat as masks are.
        areas: they are, or hold a few values only or one, or are of smooth areas and in lossy files.
        photos: they are in colour, and grainy as no mask is even in a lossy file.
        lossy: some are compressed so that they cannot hold ids.
        coloured: some are RGB rather than of numbers.
        white: most of their area is white, as in drawings on paper.
        palette: they have no colours, or few, which recur in several of them, as those of classes do.
    """

    masks: bool
    areas: bool
    photos: bool
    lossy: bool
    coloured: bool
    white: bool
    palette: bool


@dataclass(frozen=True)
class _Look:
    flat: bool
    few: bool
    grainy: bool
    blank: bool
    lossy: bool
    coloured: bool
    white: bool
    values: frozenset[int] = frozenset()  # where they are few


_UNREAD = _Look(False, False, True, False, True, True, False)
"""A photo that is not read is one."""


def likeness(files: Sequence[Path]) -> Likeness:
    """Look at some of the pictures; those that cannot be read say nothing.

    More are looked at if all are blank, or flat and in colours.
    """
    looks = [look for look in look_at(sample(files), _look) if look]
    if all(look.blank or (look.flat and look.coloured) for look in looks):
        looks = [look for look in look_at(sample(files, _IF_UNSURE), _look) if look]
    telling = [look for look in looks if not look.blank]
    return Likeness(
        bool(telling) and all(look.flat for look in telling),
        bool(looks) and all(look.flat or look.few or (look.lossy and not look.grainy) for look in telling),
        bool(telling) and all(look.grainy and look.coloured and not look.few for look in telling),
        any(look.lossy for look in telling),
        any(look.coloured for look in telling),
        2 * sum(look.white for look in looks) > len(looks),
        _recur([look for look in telling if look.coloured]),
    )


def _recur(looks: Sequence[_Look]) -> bool:
    """Whether colours are those of classes: few over all the pictures, and mostly such as several of them have."""
    values = frozenset[int]().union(*(look.values for look in looks))
    few = all(look.few for look in looks) and len(values) <= _FEW
    return few and 2 * len(values) <= sum(len(look.values) for look in looks)


def _look(file: Path) -> _Look:
    if why_unread(file.name):
        return _UNREAD
    height, width = known_shape(file)
    with room_for(height * width):
        if height * width <= LARGE:
            return _look_of(read_stored_mask(file))
        return _look_of(read_stored_mask(file, at_most=(_ROWS, _COLUMNS)), (height, width))


def _look_of(stored: StoredMask, size: tuple[int, int] | None = None) -> _Look:
    """Look at the middle of a picture.

    Args:
        size: (height, width) of all of it; by default it is.
    """
    size = size or (stored.values.shape[0], stored.values.shape[1])
    top, left, bottom, right = middle(stored.values.shape, (_ROWS, _COLUMNS))
    values = stored.values[top:bottom, left:right].copy()
    stored = replace(stored, values=values)  # a large picture is in memory long enough
    shown = values if stored.palette is None else stored.palette[values]
    top = 1 if stored.bilevel else np.iinfo(shown.dtype).max if shown.dtype.kind == "u" else 255
    darkest = shown.min(axis=2) if shown.ndim == 3 else shown
    white = bool(np.mean(darkest >= min(_NEARLY_WHITE, top)) > 0.5)
    apart = values.max(axis=2).astype(np.int64) - values.min(axis=2) if values.ndim == 3 else np.zeros(1)
    coloured = bool(apart.max() > (_GREY if stored.lossy else 0))
    steps = np.abs(np.diff(shown.astype(np.float64), axis=1))
    grainy = bool(steps.size and np.mean(steps <= _STEP) < _SMOOTH)
    if values.ndim == 3:
        wide = values.astype(np.int64)
        values = wide[:, :, 0] << 32 | wide[:, :, 1] << 16 | wide[:, :, 2] if coloured else values[:, :, 0]
    blank = bool((values == values[0, 0]).all())
    grey = None if coloured or values.dtype != np.uint8 else values
    unique = np.unique(values)
    few = not stored.lossy and len(unique) <= _FEW
    flat = not stored.lossy and _is_flat(values, few)
    flat |= grey is not None and _is_black_and_white(grey, bool(stored.lossy))
    kept = frozenset(unique.tolist()) if few else frozenset[int]()
    return _Look(flat, few, grainy, blank, bool(stored.lossy), coloured, white, kept)


def _is_flat(values: np.ndarray, few: bool) -> bool:
    if min(values.shape) < 2:
        return False
    same = min(float(np.mean(values[:, 1:] == values[:, :-1])), float(np.mean(values[1:] == values[:-1])))
    return same >= _FLAT or (few and same >= _RATHER_FLAT)


def _is_black_and_white(grey: np.ndarray, lossy: bool) -> bool:
    """Whether a grey picture is of black and white areas with blended edges, and the black ones have no grain."""
    dark, bright = grey <= _DARK, grey >= _BRIGHT
    blended = 1 - dark.mean() - bright.mean()
    steps = np.abs(np.diff(grey.astype(np.int16), axis=1))[dark[:, 1:] & dark[:, :-1]]
    if not steps.size or bright.mean() < _SOME or blended > min(1 - _FLAT, bright.mean()):
        return False
    return bool(np.mean(steps <= _STEP) >= _SMOOTH if lossy else np.mean(steps == 0) >= _RATHER_FLAT)
