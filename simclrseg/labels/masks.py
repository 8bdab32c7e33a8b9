"""Masks of images: what they mean is found out over the whole set, so that none is misread in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, some
from simclrseg.labels import NAMING
from simclrseg.labels.classes import BINARY, Classes, numbered_classes
from simclrseg.labels.colours import by_number, colours_that_mean, indexed_ones
from simclrseg.labels.numbers import meaning_of_numbers, suggestions
from simclrseg.labels.reading import OF_NUMBERS, MaskFiles, Reader, Rules, colour_table, rules_text, with_rule
from simclrseg.labels.scans import Scan, scan_mask
from simclrseg.labels.storage import inverting_bits, inverting_tables, orientations, refuse_lossy
from simclrseg.metadata import IGNORE, voc_colours
from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads


def mask_details(
    images: Sequence[Path],
    masks: Sequence[MaskFiles | None],
    *,
    classes: Classes | None,
    class_count: int | None,
    rules: Rules | None = None,
    parts: Mapping[Path, str] | None = None,
    of_model: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """Look at every mask once: what its values mean, as arguments of ``FileDataset``, and in lines for its summary.

    Args:
        masks: the mask of each image, None where it has none.
        classes: names and colours of their classes, where they are known.
        class_count: how many classes they hold, where nothing names them.
        rules: what the user says of their values, and where they lie; by default it is found out.
        parts: of files that show one class each, the class.
        of_model: True where a model says how they are read, and no option.
    """
    rules, parts = rules or {}, parts or {}
    by_part = set(parts.values()) - {BINARY[1]}  # else each is an object of the foreground
    if by_part and (classes is not None or class_count is not None):
        raise DataError("the folders of the masks name their classes", "leave --classes-file and a number out")
    if classes is None and class_count is not None:
        classes = numbered_classes(class_count)
    has_colours = classes is not None and classes.colours and not classes.numbered
    coloured = classes if has_colours and not rules.keys() & OF_NUMBERS else None
    by_class = colour_table(coloured) if coloured else None
    files = [(mask,) if isinstance(mask, Path) else mask or () for mask in masks]
    pairs = [(image, file) for image, its in zip(images, files, strict=True) for file in its]
    scans: list[Scan] = distributed.from_main(
        lambda: map_in_threads(lambda pair: scan_mask(*pair, rules=rules, table=by_class), pairs, telling="masks")
    )
    problems = [scan for scan in scans if scan.problem]
    if problems:
        more = f" (masks that do not fit: {len(problems):,})" if len(problems) > 1 else ""
        raise DataError(problems[0].problem + more, problems[0].remedy, path=problems[0].mask)
    turned, lines = orientations(scans, rules)
    refuse_lossy(scans, rules)
    lines += [*inverting_tables(scans), *inverting_bits(scans, rules, alone=bool(by_part) or of_model)]
    by_colour, white = colours_that_mean(scans, classes, coloured), 255
    if by_colour is not None and by_colour is coloured:
        names, table = by_colour.names, colour_table(by_colour)
        kind = "RGB" if any(scan.colours for scan in scans) else "indexed" if indexed_ones(scans) else "grey"
        lines.append(f"masks: {kind}, {len(names)} classes by colour ({some(names)}){_told(rules)}")
    else:
        numbers = {number for scan in scans if not scan.bilevel for number in scan.numbers}
        white = 255 if by_colour or numbers <= {0, 255} else 1
        if classes is not None and classes.numbered:
            white = 1 if 1 in classes.numbers else 255
        scans = [by_number(scan, white, by_colour is not None) for scan in scans]
        names, table, line = meaning_of_numbers(scans, classes, rules)
        shown = f", by the palettes' colours ({some([*map(list, by_colour.colours)])})" if by_colour else ""
        lines.append(line + shown + _told(rules))
        lines += suggestions(scans, names, table, rules, named=classes is not None, of_model=of_model)
        table = colour_table(by_colour) if by_colour else table
    lines += _ignored(scans, coloured if by_colour is not None else None, table)
    if "inverted" in rules:
        if len(names) != 2:
            raise DataError(f"--masks inverted is for two classes, and these are {len(names)}", option="masks")
        table = np.array([1, 0, *range(2, 256)], np.uint8)[table]
    if parts and len(names) != 2:
        folders = sorted(set(parts.values())) if by_part else []
        ways = [with_rule(rules, "folder", folder) for folder in folders] if len(folders) > 1 else []
        one = f"pass {' or '.join(ways[:3])}, if one of them holds all classes, or" if ways else "pass"
        raise DataError(
            f"the masks hold a class each in a file or folder of its own, but ids of {len(names)} classes "
            f"({some(names)}) inside",
            f"{one} {with_rule(rules, 'foreground')}, which takes all but 0 for the class, or store 0 and 1",
            option="masks",
        )
    if by_part:
        names = (BINARY[0], *sorted(set(parts.values())))
        on_top = "; smaller ones lie on top" if len(names) > 2 else ""
        lines.append(f"a file for each class: {len(names) - 1} ({some(names[1:])}){on_top}")
    elif parts:
        lines.append("a file for each object")
    of_values = {name: value for name, value in rules.items() if name not in NAMING}
    reader = Reader(
        of_values,
        table,
        by_colour is not None,
        white,
        turned,
        {file: names.index(name) if by_part else 1 for file, name in parts.items()},
    )
    colours = classes.colours if classes and has_colours else voc_colours(len(names))
    reading = " ".join(filter(None, [rules_text(of_values), _digest(turned) if turned else ""]))
    return {"classes": names, "colours": colours, "decode": reader, "mask_reading": reading}, lines


def _ignored(scans: Sequence[Scan], coloured: Classes | None, table: NDArray[np.uint8]) -> list[str]:
    """A line on how much of the masks is ignored.

    Args:
        coloured: the classes where their colours are what counts.
        table: ids by number where numbers are.
    """

    def count(scan: Scan) -> int:
        if coloured is None:
            return sum(number for value, number in scan.numbers.items() if table[int(value)] == IGNORE)
        shown: Mapping[Any, tuple[float, ...]] = scan.palette or {number: (number,) * 3 for number in scan.numbers}
        return scan.ignored + sum(scan.numbers[index] for index, colour in shown.items() if colour == coloured.ignored)

    if coloured is None and len(table) != 256:  # black and white
        return []
    counts = [count(scan) for scan in scans]
    if not any(counts):
        return []
    share, some_of_it = sum(counts) / sum(scan.pixels for scan in scans), sum(map(bool, counts))
    return [f"ignored: {100 * share:.2g} % of all pixels, in {some_of_it:,} of {len(scans):,} masks"]


def _told(rules: Rules) -> str:
    return f" (--masks {rules_text(rules)})" if rules else ""


def _digest(turned: Mapping[Path, int]) -> str:
    text = "\n".join(f"{file.name} {orientation}" for file, orientation in sorted(turned.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
