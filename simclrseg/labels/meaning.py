"""What the values of masks mean, over the whole set: by number, by colour, and as their photos are turned."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, SimclrsegError, some
from simclrseg.labels.classes import BINARY, Classes, Colour, numbered_classes
from simclrseg.labels.reading import BINARIZING, BLACK, UNKNOWN, Rules, listed, with_rule
from simclrseg.labels.scans import KEPT, Scan, are_objects
from simclrseg.metadata import IGNORE

_WHITE = (255, 255, 255)
_BLACK_AND_WHITE = Classes(BINARY, (BLACK, _WHITE))
_TO_NAME_COLOURS = "give the colours of the classes in a --classes-file, such as `road: [128, 64, 128]`"
_OF_TRAINING = re.compile("--(masks|classes-file)")
_AS_TRAINED = "save its masks as those are that the model was trained on"
_MOST_UNNAMED = 64  # more values than this are a soft or lossy mask rather than classes without a name
_MOSTLY = 0.9  # share of foreground that is rather a background
_FAR_MORE = 20  # times the pixels of all other ids but 0: so much is rather an object than ignored


def orientations(scans: Sequence[Scan], rules: Rules) -> tuple[dict[Path, int], list[str]]:
    """The masks to turn as their photos are, by the orientation; and a line where the others decide it."""
    rotated = [scan for scan in scans if scan.orientation != 1]
    asked = next((name for name in ("stored", "upright") if name in rules), None)
    sure = {name for scan in rotated if len(scan.fits) == 1 for name in scan.fits}
    unsure = [scan for scan in rotated if len(scan.fits) > 1]
    if asked and (misfits := [scan for scan in rotated if asked not in scan.fits]):
        reason = f"{misfits[0].mask} does not have the size of its photo as it is {asked}"
        raise DataError(reason, "leave it out of --masks", option="masks", path=misfits[0].mask)
    if unsure and not asked and len(sure) != 1:
        raise DataError(
            f"{len(unsure):,} photos carry an EXIF orientation, such as that of {unsure[0].mask.name}, and their masks "
            "fit both ways",
            f"pass {with_rule(rules, 'upright')} if they are drawn on the photos as they are seen, "
            f"{with_rule(rules, 'stored')} if on the pixels as they are stored",
            option="masks",
            path=unsure[0].mask,
        )
    chosen = asked or (next(iter(sure)) if len(sure) == 1 else None)
    turned = {scan.mask: scan.orientation for scan in rotated if (chosen or next(iter(scan.fits))) == "stored"}
    if not rotated or asked or (sure <= {"upright"} and not unsure):
        return turned, []
    how = {"stored": "as they are stored, and turned with them", "upright": "as they are seen"}
    which = how[chosen] if chosen else "as they are stored where that alone fits"
    fitting = len(rotated) - len(unsure)
    return turned, [
        f"{len(rotated):,} photos carry an EXIF orientation: their masks are read as drawn on the photos {which} "
        f"({fitting:,} fit no other way)"
    ]


def refuse_lossy(scans: Sequence[Scan], rules: Rules) -> None:
    """A lossy file holds other values than were saved, unless it is of black and white alone."""
    if rules.keys() & {"threshold", "alpha"}:
        return
    lossy = [scan for scan in scans if scan.why_lossy and (scan.colours or not scan.numbers.keys() <= {0, 255})]
    if lossy:
        high = max((number for scan in lossy for number in scan.numbers), default=0)
        advice = "save masks as PNG"
        if high >= 128:
            others = {name: number for name, number in rules.items() if name not in BINARIZING}
            advice = f"pass {with_rule(others, 'threshold', 128)}, or {advice}"
        values = (
            f" (it has values {listed(lossy[0].numbers)})" if lossy[0].numbers and "foreground" not in rules else ""
        )
        reason = f"{lossy[0].mask} is {lossy[0].why_lossy}{values}"
        raise DataError(reason, advice, path=lossy[0].mask)


def inverting_tables(scans: Sequence[Scan]) -> list[str]:
    """A line on masks that show 0 as white, whose values are read as they are stored, where those of all fit."""
    inverting, others = ([scan for scan in scans if scan.inverting is inverse] for inverse in (True, False))
    if not inverting:
        return []
    names = some([scan.mask.name for scan in inverting], shown=3)
    count = f"{len(inverting):,} of {len(scans):,} masks have an inverting table ({names})"
    if others and len({number for scan in scans for number in scan.numbers} - {0}) == 1:
        theirs, rest = (
            float(np.mean([1 - scan.numbers.get(0, 0) / sum(scan.numbers.values()) for scan in group]))
            for group in (inverting, others)
        )
        if abs(1 - theirs - rest) < abs(theirs - rest) / 2:
            reason = f"{count}, and as they are stored {theirs:.0%} of them is foreground, of the others {rest:.0%}"
            raise DataError(reason, "save all masks in one way, as PNG", path=inverting[0].mask)
    return [f"{count}: the values are read as they are stored, whatever a viewer shows"]


def inverting_bits(scans: Sequence[Scan], rules: Rules, *, alone: bool) -> list[str]:
    """A line on bits that show 0 as white: scanners mean what is shown, and tifffile what is stored.

    Args:
        alone: no rule of masks helps, and only other files do.
    """
    inverting = [scan for scan in scans if scan.inverting_bits]
    if not inverting or "inverted" in rules:
        return []
    alike = len(inverting) == len(scans) and not alone
    remedy = f"pass {with_rule(rules, 'inverted')}" if alike else "save all masks in one way, as PNG"
    return [
        f"{len(inverting):,} of {len(scans):,} masks have one bit a pixel and an inverting table "
        f"({some([scan.mask.name for scan in inverting], shown=3)}): they are read as a viewer shows them; if they "
        f"were saved by Python's tifffile, which means the opposite, {remedy}"
    ]


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
    if not indexed:
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


def meaning_of_numbers(
    scans: Sequence[Scan], classes: Classes | None, rules: Rules
) -> tuple[tuple[str, ...], NDArray[np.uint8], str]:
    """Names of the classes, the ids of the numbers 0 to 255, and a line, of masks with one number a pixel."""
    union = frozenset[float]().union(*(scan.numbers for scan in scans))
    table = np.full(256, UNKNOWN, np.uint8)
    if len(union) == 1 and (classes is None or rules.keys() & BINARIZING):
        raise DataError(f"{scans[0].mask.parent}: the masks hold {listed(union)} only: there is nothing to learn")
    said = classes is not None and classes.ignored is not None
    if union <= {0, 255} and 255 in union and not said:
        if classes is not None and len(classes.names) != 2:
            why = f"but there are {len(classes.names)} classes, and nothing says that 255 is ignored"
            advice = "name `ignore` in the --classes-file, or correct the masks"
            raise _misfit(rules, scans, scans[0], why, advice, values=union, classes=classes)
        names = classes.names if classes else BINARY
        table[[0, 255]] = 0, 1
        return names, table, f"masks: 0 is {names[0]}, 255 is {names[1]}"
    doubt = _check_ignored(scans, rules) if IGNORE in union and not said else ""
    names = classes.names if classes else _unnamed(scans, union - {IGNORE}, rules)
    for scan in scans:
        if beyond := [number for number in scan.numbers if number not in range(len(names)) and number != IGNORE]:
            why = f"but there are {len(names)} classes, ids 0 to {len(names) - 1}"
            advice = "add the others, or correct the mask (255 is ignored)"
            raise _misfit(rules, scans, scan, why, advice, values=beyond, classes=classes)
    table[: len(names)] = range(len(names))
    table[IGNORE] = IGNORE
    if rules.keys() & BINARIZING:
        least = rules.get("threshold")
        what = "everything but 0" if least is None else f"{least:g} and more"
        return names, table, f"masks: {what} is {names[1]}"
    ignored = ", 255 is ignored" if IGNORE in union else ""
    return names, table, f"masks: class ids 0 to {len(names) - 1} ({some(names)}){ignored}{doubt}"


def _check_ignored(scans: Sequence[Scan], rules: Rules) -> str:
    """Make sure that 255 is no foreground: beside two or more ids it is ignored, and beside 0 alone it may be either.

    Returns:
        What is worth a word, where it is ignored.
    """
    with_it = [scan for scan in scans if IGNORE in scan.numbers]
    sure = [scan for scan in with_it if len(scan.numbers) > 2]
    doubtful = [scan for scan in with_it if len(scan.numbers) <= 2]
    two = [scan for scan in doubtful if scan.numbers.keys() <= {0, IGNORE}]
    others = [scan for scan in scans if not scan.numbers.keys() <= {0, IGNORE}]
    either = (
        f"pass {with_rule(rules, 'threshold', 128)} if 255 is the object, or name `ignore` in a "
        "--classes-file if it is ignored"
    )
    many = len(two) > len(others)
    if len(doubtful) == len(scans) and not many:
        why = "and in no mask 255 stands beside two ids or more, so that it may be the object or be ignored"
        raise _misfit(rules, scans, others[0], why, either)
    if doubtful and len(doubtful) >= len(sure):
        odd, count = (others[0], len(two)) if many else (doubtful[0], len(scans) - len(doubtful))
        why = f"where {count:,} of {len(scans):,} masks hold {'0 and 255 only' if many else 'ids, and no 255 alone'}"
        advice = (
            f"save all in one way, or pass {with_rule(rules, 'foreground')} if everything but 0 is the object, or name "
            "`ignore` in a --classes-file if 255 is ignored"
        )
        raise _misfit(rules, scans, odd, why, advice)
    ignored, background = (sum(scan.numbers.get(number, 0) for scan in scans) for number in (IGNORE, 0))
    known = sum(pixels for scan in scans for number, pixels in scan.numbers.items() if number not in (0, IGNORE))
    if ignored > _FAR_MORE * known and ignored < 2 * background:  # 255 is most of a scribble, and then of no class
        most = max(sure, key=lambda scan: scan.numbers[IGNORE])
        why = f"where 255, which is ignored, has {ignored / known:,.0f} times the pixels of all other ids but 0"
        raise DataError(f"{most.mask} has values {listed(most.numbers)} {why}", either, option="masks", path=most.mask)
    doubt = f"; in {len(doubtful):,} masks it stands beside one id ({doubtful[0].mask.name})" if doubtful else ""
    if ignored > known:
        doubt += f"; it has {ignored / known:.1f} times the pixels of all other ids but 0"
    return doubt


def _unnamed(scans: Sequence[Scan], ids: frozenset[float], rules: Rules) -> tuple[str, ...]:
    """Names of classes that nobody has named; refuses numbers that cannot be their ids."""
    if strange := {number for number in ids if number != int(number) or number < 0}:
        odd = next(scan for scan in scans if strange & scan.numbers.keys())
        advice = "save it as an 8-bit PNG" + (", with 255 for what is ignored" if min(strange) < 0 else "")
        raise _misfit(rules, scans, odd, "which are no class ids", advice)
    highest = max(scans, key=lambda scan: max(scan.numbers.keys() - {IGNORE}, default=0))
    gaps = sorted(set(range(min(int(max(ids)), KEPT))) - ids)
    if gaps or len(ids) > _MOST_UNNAMED:
        none_of = f"but {listed(gaps)} occur{'s' if len(gaps) == 1 else ''} in no mask"
        why = none_of if gaps else f"but the masks have {len(ids)} values"
        first = "count class ids from 0" if gaps else "make soft masks 0/255"
        advice = f"{first}, or name the class of each in a --classes-file"
        raise _misfit(rules, scans, highest, why, advice)
    return numbered_classes(len(ids)).names


def _misfit(
    rules: Rules,
    scans: Sequence[Scan],
    odd: Scan,
    why: str,
    advice: str,
    *,
    values: Iterable[float] = (),
    classes: Classes | None = None,
) -> DataError:
    """The error for a mask of values, by default all that it has, that fit nothing, with the rule that may read it."""
    values = list(values) or list(odd.numbers)
    levels = {number for scan in scans for number in scan.numbers}
    top = next((top for top in (1, 255, 65535) if max(levels) <= top), 0)
    two = classes is None or len(classes.names) == 2
    rule = f"pass {with_rule(rules, 'foreground')}"
    if two and min(levels) == 0 and rule not in advice and are_objects(scans, rules):
        advice += f"; or {rule} if the numbers count objects"
    elif top and min(levels) < 0.1 * top and max(levels) > 0.75 * top and len(levels) > 8:
        half = 0.5 if top == 1 else (top + 1) // 2
        advice = f"make soft masks 0/255, or pass {with_rule(rules, 'threshold', half)}"
    elif 0 in levels and len(levels) == 2:
        advice += f"; or {rule} if everything but 0 is the object"
    return DataError(f"{odd.mask} has values {listed(values)} {why}", advice, path=odd.mask)


def suggestions(
    scans: Sequence[Scan], names: Sequence[str], table: NDArray[np.uint8], rules: Rules, *, named: bool, of_model: bool
) -> list[str]:
    """Lines on what looks like another meaning than masks were given, and the rule that gives it.

    Args:
        named: the user has named the classes.
        of_model: a model says how masks are read, so that the files alone can be changed.
    """
    if len(names) == 2:
        counts = np.zeros(256, np.int64)
        for scan in scans:
            for number, pixels in scan.numbers.items():
                counts[table[int(number)]] += pixels
        share = counts[0 if "inverted" in rules else 1] / max(1, counts[:2].sum())
        turn_it = "leave inverted out of --masks" if "inverted" in rules else f"pass {with_rule(rules, 'inverted')}"
        turn_it = "turn the masks round" if of_model else turn_it
        line = f"{names[1]} is {share:.0%} of the masks: if that is the background, {turn_it}"
        return [line] if share > _MOSTLY else []
    if named or of_model:
        return []
    lines = []
    if are_objects(scans, rules):
        lines.append(
            "most ids are one connected piece in their mask: if they count objects rather than name classes, pass "
            f"{with_rule(rules, 'foreground')}"
        )
    shown = {index: colour for scan in scans for index, colour in (scan.palette or {}).items()}
    black = next((index for index, colour in shown.items() if colour == BLACK), 0)
    if black not in (0, IGNORE) and shown.get(0, BLACK) != BLACK:
        lines.append(
            f"index {black} is black and index 0 is {list(shown[0])}, which counts as the background: if black is the "
            "background, give the colours of the classes in a --classes-file, black first"
        )
    return lines


def of_files(error: SimclrsegError) -> SimclrsegError:
    """The same error where a model says how masks are read: its remedy is what their files allow, and no option."""
    if not _OF_TRAINING.search(error.remedy):
        return error
    ways = [way for way in re.split("[,;] or ", error.remedy) if not _OF_TRAINING.search(way)]
    remedy = " or ".join(ways) or _AS_TRAINED
    return DataError(error.reason, remedy, option=error.option, path=error.path, value=error.value)
