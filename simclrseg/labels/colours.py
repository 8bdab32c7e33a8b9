"""Whether the colours of masks say what they hold, or the numbers behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simclrseg.errors import DataError, some
from simclrseg.labels.classes import BINARY, Classes, Colour
from simclrseg.labels.reading import BLACK
from simclrseg.labels.scans import Scan

_WHITE = (255, 255, 255)
_BLACK_AND_WHITE = Classes(BINARY, (BLACK, _WHITE))
_TO_NAME_COLOURS = "give the colours of the classes in a --classes-file, such as `road: [128, 64, 128]`"


def by_number(scan: Scan, white: int, by_palette: bool) -> Scan:
    """The same with the numbers that its bits, or a palette of black and another colour, stand for."""
    if by_palette and scan.palette is not None:
        numbers: dict[float, int] = defaultdict(int)
        for index, pixels in scan.numbers.items():
            numbers[255 * (scan.palette[int(index)] != BLACK)] += pixels
        return replace(scan, numbers=numbers)
    if scan.bilevel:
        return replace(scan, numbers={white * bool(number): pixels for number, pixels in scan.numbers.items()})
    return scan


def indexed_ones(scans: Iterable[Scan]) -> list[Scan]:
    return [scan for scan in scans if scan.palette is not None]


def colours_that_mean(scans: Sequence[Scan], classes: Classes | None, coloured: Classes | None) -> Classes | None:
    """The classes whose colours say what masks hold; None where their numbers do.

    Args:
        coloured: the same as ``classes`` where their colours are named.
    """
    indexed, rgb = indexed_ones(scans), [scan for scan in scans if scan.colours]
    if coloured is not None:
        strange = {scan.mask: colours for scan in scans if (colours := _unknown_colours(scan, coloured.ids))}
        if not strange:
            return coloured
        numbers_do = not rgb and all(scan.palette is None or _is_ramp(scan.palette) for scan in scans)
        if numbers_do and any(len(scan.numbers) for scan in scans):
            return None
        mask = next((scan.mask for scan in (*rgb, *indexed) if scan.mask in strange), next(iter(strange)))
        reason = f"{mask} has colours that no class has: {some([*map(list, strange[mask])])}"
        blended = len(strange[mask]) > 8
        remedy = "save masks as PNG without smooth edges" if blended else "add them, or correct the mask"
        if scans[0].palette is not None and not blended:
            remedy += "; where indices are ids whatever their colours, name the classes without colours"
        raise DataError(reason, remedy, path=mask)
    if rgb:
        if others := [scan for scan in scans if not scan.coloured]:
            reason = f"{rgb[0].mask} is an RGB mask but {others[0].mask} holds class ids"
            raise DataError(reason, "save all masks in one way", path=rgb[0].mask)
        found = some([*map(list, rgb[0].colours)])
        raise DataError(f"{rgb[0].mask} is an RGB mask ({found})", _TO_NAME_COLOURS, path=rgb[0].mask)
    if not indexed or (classes is not None and classes.numbered):
        return None
    used = {colour for scan in indexed for colour in (scan.palette or {}).values()}
    plain = [scan for scan in scans if scan.palette is None]
    two = classes is None or len(classes.names) == 2
    if two and used <= {BLACK, _WHITE} and all(scan.numbers.keys() <= {0, 255} for scan in plain):
        return _BLACK_AND_WHITE
    two_colours = classes is None and BLACK in used and len(used) == 2
    black_at = {index for scan in indexed for index, colour in (scan.palette or {}).items() if colour == BLACK}
    if two_colours and black_at != {0} and all(scan.numbers.keys() <= {0} for scan in plain):
        return Classes(BINARY, (BLACK, *(used - {BLACK})))
    first: dict[int, tuple[Colour, Path]] = {}
    homes: dict[Colour, tuple[set[int], Path]] = {}
    for scan in indexed:
        indices = defaultdict(set)
        for index, colour in (scan.palette or {}).items():
            indices[colour].add(index)
            known, where = first.setdefault(index, (colour, scan.mask))
            if known != colour:
                raise _differing(scan.mask, f"index {index} is {list(colour)} in it and {list(known)} in {where.name}")
        for colour, found_at in indices.items():
            home, where = homes.setdefault(colour, (found_at, scan.mask))
            if not home & found_at:
                found = f"{list(colour)} is index {min(found_at)} in it and {min(home)} in {where.name}"
                raise _differing(scan.mask, found)
    zero = first.get(0, (BLACK,))[0]
    if zero != BLACK and (two_colours or used <= {BLACK, _WHITE}):
        raise _differing(indexed[0].mask, f"index 0 is {list(zero)} in it, and other masks hold ids")
    return None


def _differing(mask: Path, how: str) -> DataError:
    return DataError(f"{mask} has a palette that differs from others' ({how})", _TO_NAME_COLOURS, path=mask)


def _unknown_colours(scan: Scan, ids: Mapping[Colour, int]) -> tuple[Colour, ...]:
    """Colours of a mask that no class has; a grey level counts as the colour that it shows."""
    if scan.colours:
        return scan.colours if scan.unknown else ()
    shown: Iterable[Any] = ((number,) * 3 for number in scan.numbers)
    return tuple(
        colour for colour in (scan.palette.values() if scan.palette is not None else shown) if colour not in ids
    )


def _is_ramp(palette: Mapping[int, Colour]) -> bool:
    """Tell whether a palette shows numbers as greys: of 8, 4 or 2 bits."""
    return any(all(colour == (index * step,) * 3 for index, colour in palette.items()) for step in (1, 17, 85))
