"""What the numbers in masks mean, over the whole set: class ids, black and white, what is ignored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, some
from simclrseg.labels.classes import BINARY, Classes, numbered_classes
from simclrseg.labels.reading import BINARIZING, BLACK, UNKNOWN, Rules, listed, with_rule
from simclrseg.labels.scans import KEPT, Scan, are_objects
from simclrseg.metadata import IGNORE

_MOST_UNNAMED = 64  # more values than this are a soft or lossy mask rather than classes without a name
_MOSTLY = 0.9  # share of foreground that is rather a background
_FAR_MORE = 20  # times the pixels of all other ids but 0: so much is rather an object than ignored


def meaning_of_numbers(
    scans: Sequence[Scan], classes: Classes | None, rules: Rules
) -> tuple[tuple[str, ...], NDArray[np.uint8], str]:
    """Names of the classes, the ids of the numbers 0 to 255, and a line, of masks with one number a pixel."""
    union = frozenset[float]().union(*(scan.numbers for scan in scans))
    table = np.full(256, UNKNOWN, np.uint8)
    if len(union) == 1 and (classes is None or rules.keys() & BINARIZING):
        raise DataError(f"{scans[0].mask.parent}: the masks hold {listed(union)} only: there is nothing to learn")
    if classes is not None and classes.numbered and not rules.keys() & BINARIZING:
        return _by_number_of_class(scans, classes, union)
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
            if classes is not None and _gaps(union):
                advice = f"give each class its number, as `{names[-1]}: {max(beyond):g}`, or count classes from 0"
            raise _misfit(rules, scans, scan, why, advice, values=beyond, classes=classes)
    table[: len(names)] = range(len(names))
    table[IGNORE] = IGNORE
    if rules.keys() & BINARIZING:
        least = rules.get("threshold")
        what = "everything but 0" if least is None else f"{least:g} and more"
        return names, table, f"masks: {what} is {names[1]}"
    ignored = ", 255 is ignored" if IGNORE in union else ""
    return names, table, f"masks: class ids 0 to {len(names) - 1} ({some(names)}){ignored}{doubt}"


def _by_number_of_class(
    scans: Sequence[Scan], classes: Classes, union: frozenset[float]
) -> tuple[tuple[str, ...], NDArray[np.uint8], str]:
    """The same of masks whose numbers a file gives to classes."""
    known = classes.numbers
    if classes.ignored is None and known[IGNORE] == IGNORE and IGNORE in union and union <= {0, IGNORE}:
        reason = f"{scans[0].mask} has values {listed(union)}, and no class has the number {IGNORE}"
        raise DataError(reason, f"give it to one, as `{classes.names[-1]}: {IGNORE}`", path=scans[0].mask)
    for scan in scans:
        if beyond := [number for number in scan.numbers if number not in known]:
            reason = f"{scan.mask} has values that no class has: {listed(beyond)}"
            raise DataError(reason, "add them, or correct the mask", path=scan.mask)
    table = np.full(256, UNKNOWN, np.uint8)
    table[[*known]] = [*known.values()]
    return classes.names, table, f"masks: {len(classes.names)} classes by number ({some(classes.names)})"


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
    gaps = _gaps(ids)
    if gaps or len(ids) > _MOST_UNNAMED:
        none_of = f"but {listed(gaps)} occur{'s' if len(gaps) == 1 else ''} in no mask"
        why = none_of if gaps else f"but the masks have {len(ids)} values"
        first = "count class ids from 0" if gaps else "make soft masks 0/255"
        advice = f"{first}, or give the number of each in a --classes-file, as `cat: {max(ids):g}`"
        raise _misfit(rules, scans, highest, why, advice)
    return numbered_classes(len(ids)).names


def _gaps(ids: frozenset[float]) -> list[int]:
    """Numbers below the largest that do not occur."""
    return sorted(set(range(min(int(max(ids - {IGNORE}, default=0)), KEPT))) - ids)


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
