"""How the masks of a set are stored: turned as their photos are or not, lossy, or 0 shown as white."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simclrseg.errors import DataError, some
from simclrseg.labels.reading import BINARIZING, Rules, listed, with_rule
from simclrseg.labels.scans import Scan


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
            f"{with_rule(rules, 'stored')} if on the pixels as they are stored, or save photos and masks as they are "
            "seen, without an orientation",
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
