"""What a mask's file holds, looked at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import ImageError
from simclrseg.images.decode import image_header, known_shape
from simclrseg.images.headers import Refused
from simclrseg.images.limits import room_for
from simclrseg.images.stored_masks import read_stored_mask
from simclrseg.images.strips import histogram
from simclrseg.labels.classes import Colour
from simclrseg.labels.reading import OF_NUMBERS, UNKNOWN, Rules, hidden_share, look_up, values_of, with_rule
from simclrseg.metadata import IGNORE

KEPT = 300
"""Numbers of a file that are looked at."""
_EXAMINED = 20  # masks in which objects are counted
_OBJECT = 4  # pixels of an object


@dataclass(frozen=True)
class Scan:
    """One mask, once looked at: what it holds, or why it cannot be used."""

    mask: Path
    problem: str = ""
    remedy: str = ""  # of the problem
    numbers: Mapping[float, int] = field(default_factory=dict)  # -> pixels; of an indexed file, by index
    palette: Mapping[int, Colour] | None = None  # of the indices that occur
    colours: tuple[Colour, ...] = ()  # of an RGB file: some, those first that no class has
    unknown: bool = False  # such ones occur in it
    pixels: int = 0
    ignored: int = 0  # pixels of an RGB file in the colour of what is ignored
    coloured: bool = False  # the file has three channels, be they all alike
    bilevel: bool = False
    why_lossy: str = ""  # why its values may not be those that were saved, after "is"
    inverting: bool = False  # of numbers
    inverting_bits: bool = False
    orientation: int = 1  # the photo's
    fits: frozenset[str] = frozenset()  # readings of the orientation under which the mask has the photo's size


def scan_mask(image: Path, mask: Path, *, rules: Rules, table: NDArray[np.uint8] | None) -> Scan:
    """Look at a mask; at few large ones at a time, for each takes memory several times."""
    height, width = known_shape(image)
    with room_for(height * width):
        return _scan(image, mask, rules=rules, table=table)


def _scan(image: Path, mask: Path, *, rules: Rules, table: NDArray[np.uint8] | None) -> Scan:
    try:
        stored = read_stored_mask(mask)
        values, palette = values_of(stored, rules)
    except ImageError as error:
        return Scan(mask, problem=error.reason, remedy=error.remedy)
    except Refused as error:
        return Scan(mask, problem=f"{mask} {error.reason}", remedy=error.remedy)
    height, width = values.shape[:2]
    (*shape, orientation) = height, width, 1
    with suppress(ImageError):  # the loader names images that cannot be read
        *shape, orientation = image_header(image)
    as_stored = shape[::-1] if orientation >= 5 else shape
    fits = {"upright"} if shape == [height, width] else set()
    fits |= {"stored"} if as_stored == [height, width] and not stored.turned else set()
    scan = Scan(
        mask,
        bilevel=stored.bilevel and not rules.keys() & OF_NUMBERS,
        why_lossy=stored.why_lossy,
        coloured=stored.values.ndim == 3 and not rules.keys() & OF_NUMBERS,
        inverting=stored.inverting and not stored.bilevel,
        inverting_bits=stored.inverting and stored.bilevel,
        orientation=orientation,
        fits=frozenset(fits),
        pixels=height * width,
    )
    if not fits:
        of_image = f"its photo {image.name} is {shape[1]} x {shape[0]}"
        problem = f"{mask} is {width} x {height} pixels but {of_image}: a mask needs the size of its photo"
        return replace(scan, problem=problem)
    if not rules.keys() & OF_NUMBERS and (share := hidden_share(stored)):
        problem = f"{mask} hides {share:.0%} of its pixels by its alpha channel"
        remedy = f"if that is the mask, pass {with_rule(rules, 'alpha')}, else save it without transparency"
        return replace(scan, problem=problem, remedy=remedy)
    if values.ndim == 3:
        some_pixels = values.reshape(-1, 3)
        if table is not None:
            ids = look_up(values, table)
            unknown = values[ids == UNKNOWN]
            some_pixels = unknown if len(unknown) else some_pixels
            scan = replace(scan, ignored=int(np.count_nonzero(ids == IGNORE)))
        found = np.unique(some_pixels[: 1 << 16], axis=0)[:KEPT]
        colours: tuple[Any, ...] = tuple(map(tuple, found.tolist()))
        return replace(scan, colours=colours, unknown=table is not None and len(unknown) > 0)
    if values.dtype == np.uint8:
        counts = histogram(values)
        kept = np.flatnonzero(counts)
        numbers: dict[float, int] = dict(zip(kept.tolist(), counts[kept].tolist(), strict=True))
    else:
        kept, counts = np.unique(values, return_counts=True)
        numbers = dict(zip(kept.tolist()[: KEPT - 1] + kept.tolist()[-1:], counts.tolist(), strict=False))
    if palette is None:
        return replace(scan, numbers=numbers)
    used: dict[int, Any] = {int(index): tuple(palette[int(index)].tolist()) for index in numbers}
    return replace(scan, numbers=numbers, palette=used)


def are_objects(scans: Sequence[Scan], rules: Rules) -> bool:
    """Tell whether numbers rather count objects than name classes: most are one connected piece in their file."""
    pieces = []
    for scan in [scan for scan in scans if scan.numbers][:: -(-len(scans) // _EXAMINED)]:
        with suppress(ImageError, Refused):
            values, _ = values_of(read_stored_mask(scan.mask), rules)
            for number in [number for number in scan.numbers if number not in (0, IGNORE)][:50]:
                where = (values == number).astype(np.uint8)
                pieces.append(cv2.connectedComponents(where)[0] == 2 and np.count_nonzero(where) >= _OBJECT)
    return len({number for scan in scans for number in scan.numbers} - {0, IGNORE}) > 2 and bool(np.mean(pieces) > 0.8)
