"""Masks of images: what their values mean, found out over the whole set, so that none is misread in silence."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simclrseg.errors import DataError, ImageError, some
from simclrseg.images.decode import Mask, image_header
from simclrseg.images.masks import StoredMask, read_stored_mask
from simclrseg.labels.classes import BINARY, MAX_CLASSES, Classes, Colour, numbered_classes
from simclrseg.metadata import IGNORE, voc_colours
from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads

Rules = Mapping[str, float | None]
"""Words of ``RULES``, each with its number."""
MaskFiles = Path | tuple[Path, ...]
"""The file of a mask, or those of its parts."""

_BINARIZING = {"threshold", "foreground"}
_OF_NUMBERS = {*_BINARIZING, "alpha"}
_UNKNOWN = MAX_CLASSES  # what a number or a colour becomes that no class has
_MOST_UNNAMED = 64  # more values than this are a soft or lossy mask rather than classes without a name
_KEPT = 300  # numbers of a file that are looked at
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_BLACK_AND_WHITE = Classes(BINARY, (_BLACK, _WHITE))
_MOSTLY = 0.9  # share of foreground that is rather a background
_EXAMINED = 20  # masks in which objects are counted
_OBJECT = 4  # pixels of an object
_COLOURFUL = 32  # levels between the channels of a grey picture


@dataclass(frozen=True)
class _Scan:
    """One mask, once looked at: what it holds, or why it cannot be used."""

    mask: Path
    problem: str = ""
    numbers: Mapping[float, int] = field(default_factory=dict)  # -> pixels; of an indexed file, by index
    palette: Mapping[int, Colour] | None = None  # of the indices that occur
    colours: tuple[Colour, ...] = ()  # of an RGB file: some, those first that no class has
    unknown: bool = False  # such ones occur in it
    bilevel: bool = False
    lossy: bool = False
    inverting: bool = False
    orientation: int = 1  # the photo's
    fits: frozenset[str] = frozenset()  # readings of the orientation under which the mask has the photo's size


@dataclass(frozen=True)
class _Reader:
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
        ids = self._ids(files[0]) * 0
        for file in files:
            ids[self._ids(file) == 1] = self.parts[file]
        return ids

    def _ids(self, file: Path) -> Mask:
        stored = read_stored_mask(file, turned_by=self.turned.get(file, 1))
        values, palette = _values(stored, self.rules, white=self.white)
        if values.dtype != np.uint8 or (values.ndim == 3 and not self.by_colour):
            raise DataError(f"{file} has changed since the masks were looked at", "start again", path=file)
        if self.by_colour:
            values = values if palette is None else np.asarray(palette[values])
            ids = _look_up(values, self.table)
        else:
            ids = np.asarray(cv2.LUT(values, self.table), np.uint8)
        if (unknown := ids == _UNKNOWN).any():
            found = _list(np.unique(values[unknown], axis=0).tolist())
            raise DataError(f"{file} has values {found}, which no class has", "correct the mask", path=file)
        return ids


def mask_details(
    images: Sequence[Path],
    masks: Sequence[MaskFiles | None],
    *,
    classes: Classes | None,
    class_count: int | None,
    rules: Rules | None = None,
    parts: Mapping[Path, str] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Look at every mask once: what its values mean, as arguments of ``FileDataset``, and in lines for its summary.

    Args:
        masks: the mask of each image, None where it has none.
        classes: names and colours of their classes, where they are known.
        class_count: how many classes they hold, where nothing names them.
        rules: what the user says of their values; by default they are found out.
        parts: of files that show one class each, the class.

    Raises:
        DataError: for a mask that cannot be read, of another size than its image, or with unexpected values.
    """
    rules, parts = rules or {}, parts or {}
    if parts and (classes is not None or class_count is not None):
        raise DataError("the folders of the masks name their classes", "leave --classes-file and a number out")
    if classes is None and class_count is not None:
        classes = numbered_classes(class_count)
    coloured = classes if classes and classes.colours and not rules.keys() & _OF_NUMBERS else None
    by_class = _colour_table(coloured) if coloured else None
    pairs = [(image, file) for image, files in zip(images, masks, strict=True) for file in _as_files(files)]
    scans: list[_Scan] = distributed.from_main(
        lambda: map_in_threads(lambda pair: _scan(*pair, rules=rules, table=by_class), pairs, telling="masks")
    )
    problems = [scan.problem for scan in scans if scan.problem]
    if problems:
        more = f" (masks that do not fit: {len(problems):,})" if len(problems) > 1 else ""
        raise DataError(problems[0] + more)
    turned, lines = _orientations(scans, rules)
    _refuse_lossy(scans, rules)
    if inverting := [scan.mask.name for scan in scans if scan.inverting]:
        count = f"{len(inverting):,} of {len(scans):,} masks have an inverting table ({some(inverting, shown=3)})"
        lines.append(f"{count}: the values are read as they are stored, whatever a viewer shows")
    by_colour, white = _colours_that_mean(scans, classes, coloured), 255
    if by_colour is not None and by_colour is coloured:
        names, table = by_colour.names, _colour_table(by_colour)
        kind = "RGB" if any(scan.colours for scan in scans) else "indexed" if _indexed(scans) else "grey"
        lines.append(f"masks: {kind}, {len(names)} classes by colour ({some(names)}){_told(rules)}")
    else:
        numbers = {number for scan in scans if not scan.bilevel for number in scan.numbers}
        white = 255 if by_colour or numbers <= {0, 255} else 1
        scans = [_by_number(scan, white, by_colour is not None) for scan in scans]
        names, table, line = _meaning_of_numbers(scans, classes, rules)
        lines.append(line + (", by the palettes' colours" if by_colour else "") + _told(rules))
        lines += _suggestions(scans, names, table, rules, named=classes is not None)
        table = _colour_table(by_colour) if by_colour else table
    if "inverted" in rules:
        if len(names) != 2:
            raise DataError(f"--masks inverted is for two classes, and these are {len(names)}", option="masks")
        table = np.array([1, 0, *range(2, 256)], np.uint8)[table]
    if parts:
        names = (BINARY[0], *sorted(set(parts.values())))
        lines.append(f"a file for each class: {len(names) - 1} ({some(names[1:])})")
    reader = _Reader(
        rules, table, by_colour is not None, white, turned, {file: names.index(name) for file, name in parts.items()}
    )
    colours = classes.colours if classes and classes.colours else voc_colours(len(names))
    reading = " ".join(filter(None, [rules_text(rules), _digest(turned) if turned else ""]))
    return {"classes": names, "colours": colours, "decode": reader, "mask_reading": reading}, lines


def _told(rules: Rules) -> str:
    return f" (--masks {rules_text(rules)})" if rules else ""


def rules_text(rules: Rules) -> str:
    """Rules in the words that a user types."""
    return "+".join(name if number is None else f"{name}:{number:g}" for name, number in rules.items())


def _as_files(files: MaskFiles | None) -> tuple[Path, ...]:
    return () if files is None else (files,) if isinstance(files, Path) else files


def _digest(turned: Mapping[Path, int]) -> str:
    text = "\n".join(f"{file.name} {orientation}" for file, orientation in sorted(turned.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _scan(image: Path, mask: Path, *, rules: Rules, table: NDArray[np.uint8] | None) -> _Scan:
    try:
        stored = read_stored_mask(mask)
        values, palette = _values(stored, rules)
    except ImageError as error:
        return _Scan(mask, problem=str(error))
    except ValueError as error:
        return _Scan(mask, problem=f"{mask} {error}")
    height, width = values.shape[:2]
    (*shape, orientation) = height, width, 1
    with suppress(ImageError):  # the loader names images that cannot be read
        *shape, orientation = image_header(image)
    as_stored = shape[::-1] if orientation >= 5 else shape
    fits = {"upright"} if shape == [height, width] else set()
    fits |= {"stored"} if as_stored == [height, width] and not stored.turned else set()
    scan = _Scan(
        mask,
        bilevel=stored.bilevel and not rules.keys() & _OF_NUMBERS,
        lossy=stored.lossy,
        inverting=stored.inverting,
        orientation=orientation,
        fits=frozenset(fits),
    )
    if not fits:
        of_image = f"its photo {image.name} is {shape[1]} x {shape[0]}"
        problem = f"{mask} is {width} x {height} pixels but {of_image}: a mask needs the size of its photo"
        return replace(scan, problem=problem)
    if not rules.keys() & _OF_NUMBERS and (share := _hidden_share(stored)):
        problem = (
            f"{mask} hides {share:.0%} of its pixels by its alpha channel: if that is the mask, pass --masks alpha, "
            "else save it without transparency"
        )
        return replace(scan, problem=problem)
    if values.ndim == 3:
        some_pixels = values.reshape(-1, 3)
        if table is not None:
            unknown = values[_look_up(values, table) == _UNKNOWN]
            some_pixels = unknown if len(unknown) else some_pixels
        found = np.unique(some_pixels[: 1 << 16], axis=0)[:_KEPT]
        colours: tuple[Any, ...] = tuple(map(tuple, found.tolist()))
        return replace(scan, colours=colours, unknown=table is not None and len(unknown) > 0)
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        kept = np.flatnonzero(counts)
        numbers: dict[float, int] = dict(zip(kept.tolist(), counts[kept].tolist(), strict=True))
    else:
        kept, counts = np.unique(values, return_counts=True)
        numbers = dict(zip(kept.tolist()[: _KEPT - 1] + kept.tolist()[-1:], counts.tolist(), strict=False))
    if palette is None:
        return replace(scan, numbers=numbers)
    used: dict[int, Any] = {int(index): tuple(palette[int(index)].tolist()) for index in numbers}
    return replace(scan, numbers=numbers, palette=used)


def _values(stored: StoredMask, rules: Rules, *, white: int = 255) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """(H, W) numbers, and the palette whose indices they are, or (H, W, 3) colours; ValueError says what is amiss."""
    values, palette = stored.values, stored.palette
    if "alpha" in rules:
        if stored.alpha is None:
            raise ValueError("has no alpha channel: leave alpha out of --masks, or save it with one")
        values, palette = stored.alpha, None
    elif stored.bilevel:
        values = values * np.uint8(white)
    if (least := rules.get("threshold")) is not None:
        return (_grey(values if palette is None else palette[values]) >= least).astype(np.uint8), None
    if "foreground" in rules:
        if palette is not None and _BLACK in map(tuple, palette[np.unique(values)].tolist()):
            values = np.asarray(palette[values])
        elif palette is None and values.ndim == 2:
            return (values != 0).astype(np.uint8), None
        return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0, np.uint8), None
    if values.ndim == 3 and (values == values[:, :, :1]).all():
        values = np.ascontiguousarray(values[:, :, 0])
    if values.dtype == np.uint16 and values.max() == 65535 and not (values == 255).any():
        values = np.where(values == 65535, np.uint16(255), values)  # the largest number, as 255 of eight bits is
    if values.dtype.kind != "f" and values.dtype != np.uint8 and values.min() >= 0 and values.max() <= 255:
        values = values.astype(np.uint8)
    return values, palette


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 2:
        return values
    if (values.max(axis=2).astype(np.int16) - values.min(axis=2)).max() > _COLOURFUL:
        raise ValueError("is in colour, which has no threshold: name its classes in a --classes-file")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_RGB2GRAY))


def _hidden_share(stored: StoredMask) -> float:
    """The share of pixels that an alpha channel hides; 0 where the values alone say the same as it does."""
    if stored.alpha is None or stored.alpha.min() == stored.alpha.max():
        return 0.0
    hidden = stored.alpha < 128
    empty = stored.values == 0 if stored.values.ndim == 2 else ~stored.values.any(axis=2)
    return 0.0 if (hidden == empty).all() else max(float(hidden.mean()), 0.005)


def _orientations(scans: Sequence[_Scan], rules: Rules) -> tuple[dict[Path, int], list[str]]:
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
            "pass --masks upright if they are drawn on the photos as they are seen, --masks stored if on the pixels as "
            "they are stored",
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


def _refuse_lossy(scans: Sequence[_Scan], rules: Rules) -> None:
    """A lossy file holds other values than were saved, unless it is of black and white alone."""
    if rules.keys() & {"threshold", "alpha"}:
        return
    lossy = [scan for scan in scans if scan.lossy and (scan.colours or not scan.numbers.keys() <= {0, 255})]
    if lossy:
        high = max((number for scan in lossy for number in scan.numbers), default=0)
        advice = "pass --masks threshold:128, or save masks as PNG" if high >= 128 else "save masks as PNG"
        values = f" (it has values {_list(lossy[0].numbers)})" if lossy[0].numbers and "foreground" not in rules else ""
        reason = f"{lossy[0].mask} is a lossy file, which cannot hold class ids{values}"
        raise DataError(reason, advice, path=lossy[0].mask)


def _by_number(scan: _Scan, white: int, by_palette: bool) -> _Scan:
    """The same with the numbers that its bits, or a palette of black and white, stand for."""
    if by_palette and scan.palette is not None:
        numbers: dict[float, int] = defaultdict(int)
        for index, pixels in scan.numbers.items():
            numbers[scan.palette[int(index)][0]] += pixels
        return replace(scan, numbers=numbers)
    if scan.bilevel:
        return replace(scan, numbers={white * bool(number): pixels for number, pixels in scan.numbers.items()})
    return scan


def _indexed(scans: Iterable[_Scan]) -> list[_Scan]:
    return [scan for scan in scans if scan.palette is not None]


def _colours_that_mean(scans: Sequence[_Scan], classes: Classes | None, coloured: Classes | None) -> Classes | None:
    """The classes whose colours say what masks hold; None where their numbers do.

    Args:
        coloured: the same as ``classes`` where their colours are named.

    Raises:
        DataError: where colours mean something and nobody says what, or none of the classes has them.
    """
    indexed, rgb = _indexed(scans), [scan for scan in scans if scan.colours]
    if coloured is not None:
        strange = {scan.mask: colours for scan in scans if (colours := _unknown_colours(scan, coloured.ids))}
        if not strange:
            return coloured
        numbers_do = not rgb and all(scan.palette is None or _is_ramp(scan.palette) for scan in scans)
        if numbers_do and any(len(scan.numbers) for scan in scans):
            return None
        mask = next((scan.mask for scan in (*rgb, *indexed) if scan.mask in strange), next(iter(strange)))
        reason = f"{mask} has colours that no class of the --classes-file has: {some([*map(list, strange[mask])])}"
        blended = len(strange[mask]) > 8
        remedy = "save masks as PNG without smooth edges" if blended else "add them, or correct the mask"
        if scans[0].palette is not None and not blended:
            remedy += "; where indices are ids whatever their colours, name the classes without colours"
        raise DataError(reason, remedy, path=mask)
    if rgb:
        if len(rgb) < len(scans):
            other = next(scan.mask for scan in scans if not scan.colours)
            reason = f"{rgb[0].mask} is an RGB mask but {other} holds class ids"
            raise DataError(reason, "save all masks in one way", path=rgb[0].mask)
        remedy = "give the colours of the classes in a --classes-file, such as `road: [128, 64, 128]`"
        found = some([*map(list, rgb[0].colours)])
        raise DataError(f"{rgb[0].mask} is an RGB mask ({found})", remedy, path=rgb[0].mask)
    if not indexed:
        return None
    used = {colour for scan in indexed for colour in (scan.palette or {}).values()}
    plain = [scan for scan in scans if scan.palette is None]
    two = classes is None or len(classes.names) == 2
    if two and used <= {_BLACK, _WHITE} and all(scan.numbers.keys() <= {0, 255} for scan in plain):
        return _BLACK_AND_WHITE
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
    if used <= {_BLACK, _WHITE} and first.get(0, (_BLACK,))[0] == _WHITE:
        raise _differing(indexed[0].mask, "index 0 is white in it, and other masks hold ids")
    return None


def _differing(mask: Path, how: str) -> DataError:
    remedy = "give the colours of the classes in a --classes-file, such as `road: [128, 64, 128]`"
    return DataError(f"{mask} has a palette that differs from others' ({how})", remedy, path=mask)


def _unknown_colours(scan: _Scan, ids: Mapping[Colour, int]) -> tuple[Colour, ...]:
    """Colours of a mask that no class has; a grey level counts as the colour that it shows."""
    if scan.colours:
        return scan.colours if scan.unknown else ()
    shown: Iterable[Any] = ((number,) * 3 for number in scan.numbers)
    return tuple(
        colour for colour in (scan.palette.values() if scan.palette is not None else shown) if colour not in ids
    )


def _is_ramp(palette: Mapping[int, Colour]) -> bool:
    return all(colour == (index,) * 3 for index, colour in palette.items())


def _meaning_of_numbers(
    scans: Sequence[_Scan], classes: Classes | None, rules: Rules
) -> tuple[tuple[str, ...], NDArray[np.uint8], str]:
    """Names of the classes, the ids of the numbers 0 to 255, and a line, of masks with one number a pixel."""
    union = frozenset[float]().union(*(scan.numbers for scan in scans))
    table = np.full(256, _UNKNOWN, np.uint8)
    if len(union) == 1 and (classes is None or rules.keys() & _BINARIZING):
        raise DataError(f"{scans[0].mask.parent}: the masks hold {_list(union)} only: there is nothing to learn")
    said = classes is not None and classes.ignored is not None
    if union <= {0, 255} and 255 in union and not said:
        if classes is not None and len(classes.names) != 2:
            why = f"but there are {len(classes.names)} classes, and nothing says that 255 is ignored"
            raise _misfit(
                rules, scans, scans[0].mask, union, why, "name `ignore` in the --classes-file, or correct the masks"
            )
        names = classes.names if classes else BINARY
        table[[0, 255]] = 0, 1
        return names, table, f"masks: 0 is {names[0]}, 255 is {names[1]}"
    doubt = _check_ignored(scans, rules) if IGNORE in union and not said else ""
    names = classes.names if classes else _unnamed(scans, union - {IGNORE}, rules)
    for scan in scans:
        if beyond := [number for number in scan.numbers if number not in range(len(names)) and number != IGNORE]:
            why = f"but there are {len(names)} classes, ids 0 to {len(names) - 1}"
            raise _misfit(rules, scans, scan.mask, beyond, why, "add the others, or correct the mask (255 is ignored)")
    table[: len(names)] = range(len(names))
    table[IGNORE] = IGNORE
    if rules.keys() & _BINARIZING:
        least = rules.get("threshold")
        what = "everything but 0" if least is None else f"{least:g} and more"
        return names, table, f"masks: {what} is {names[1]}"
    ignored = ", 255 is ignored" if IGNORE in union else ""
    return names, table, f"masks: class ids 0 to {len(names) - 1} ({some(names)}){ignored}{doubt}"


def _check_ignored(scans: Sequence[_Scan], rules: Rules) -> str:
    """Make sure that 255 is no foreground: beside two or more ids it is ignored, and beside 0 alone it may be either.

    Returns:
        What is worth a word, where it is ignored.
    """
    with_it = [scan for scan in scans if IGNORE in scan.numbers]
    sure = [scan for scan in with_it if len(scan.numbers) > 2]
    doubtful = [scan for scan in with_it if len(scan.numbers) <= 2]
    others = [scan for scan in scans if not scan.numbers.keys() <= {0, IGNORE}]
    if doubtful and len(doubtful) >= len(sure):
        many = len(doubtful) > len(others)
        odd, count = (others[0], len(doubtful)) if many else (doubtful[0], len(scans) - len(doubtful))
        why = f"where {count:,} of {len(scans):,} masks hold {'0 and 255 only' if many else 'ids, and no 255 alone'}"
        advice = "save all in one way, or pass --masks foreground if everything but 0 is the object"
        raise _misfit(rules, scans, odd.mask, odd.numbers, why, advice)
    return f"; in {len(doubtful):,} masks it stands beside one id ({doubtful[0].mask.name})" if doubtful else ""


def _unnamed(scans: Sequence[_Scan], ids: frozenset[float], rules: Rules) -> tuple[str, ...]:
    """Names of classes that nobody has named; refuses numbers that cannot be their ids."""
    highest = max(scans, key=lambda scan: max(scan.numbers.keys() - {IGNORE}, default=0))
    if any(number != int(number) or number < 0 for number in ids):
        raise _misfit(rules, scans, highest.mask, highest.numbers, "which are no class ids", "save it as an 8-bit PNG")
    gaps = sorted(set(range(min(int(max(ids)), _KEPT))) - ids)
    if gaps or len(ids) > _MOST_UNNAMED:
        why = f"but {_list(gaps)} occur in no mask" if gaps else f"but the masks have {len(ids)} values"
        advice = "class ids count from 0, or name all classes in a --classes-file; make soft masks 0/255"
        raise _misfit(rules, scans, highest.mask, highest.numbers, why, advice)
    return numbered_classes(len(ids)).names


def _misfit(
    rules: Rules, scans: Sequence[_Scan], mask: Path, values: Iterable[float], why: str, advice: str
) -> DataError:
    """The error for a mask of values that fit nothing, with the rule that may read it."""
    values = list(values)
    levels = {number for scan in scans for number in scan.numbers}
    top = next((top for top in (1, 255, 65535) if max(levels) <= top), 0)
    if _are_objects(scans):
        advice = f"pass --masks {rules_text({**rules, 'foreground': None})} if the numbers count objects"
    elif top and min(levels) < 0.1 * top and max(levels) > 0.75 * top and len(levels) > 8:
        half = 0.5 if top == 1 else (top + 1) // 2
        advice = f"make soft masks 0/255, or pass --masks {rules_text({**rules, 'threshold': half})}"
    elif 0 in levels and len(levels) == 2:
        advice += f"; or pass --masks {rules_text({**rules, 'foreground': None})} if everything but 0 is the object"
    return DataError(f"{mask} has values {_list(values)} {why}", advice, path=mask)


def _are_objects(scans: Sequence[_Scan]) -> bool:
    """Tell whether numbers rather count objects than name classes: most are one connected piece in their file."""
    pieces = []
    for scan in [scan for scan in scans if scan.numbers][:: -(-len(scans) // _EXAMINED)]:
        with suppress(ImageError, ValueError):
            values, _ = _values(read_stored_mask(scan.mask), {})
            for number in [number for number in scan.numbers if number not in (0, IGNORE)][:50]:
                where = (values == number).astype(np.uint8)
                pieces.append(cv2.connectedComponents(where)[0] == 2 and np.count_nonzero(where) >= _OBJECT)
    return len({number for scan in scans for number in scan.numbers} - {0, IGNORE}) > 2 and bool(np.mean(pieces) > 0.8)


def _suggestions(
    scans: Sequence[_Scan], names: Sequence[str], table: NDArray[np.uint8], rules: Rules, *, named: bool
) -> list[str]:
    """Lines on what looks like another meaning than masks were given, and the rule that gives it."""
    if len(names) == 2:
        counts = np.zeros(256, np.int64)
        for scan in scans:
            for number, pixels in scan.numbers.items():
                counts[table[int(number)]] += pixels
        share = counts[0 if "inverted" in rules else 1] / max(1, counts[:2].sum())
        if share > _MOSTLY:
            turn_it = "leave inverted out of" if "inverted" in rules else "pass"
            what = "" if "inverted" in rules else " inverted"
            return [f"{names[1]} is {share:.0%} of the masks: if that is the background, {turn_it} --masks{what}"]
    elif not named and _are_objects(scans):
        return [
            "most ids are one connected piece in their mask: if they count objects rather than name classes, pass "
            "--masks foreground"
        ]
    return []


def _list(values: Iterable[float]) -> str:
    return some([f"{value:g}" if isinstance(value, float) else value for value in values], shown=8)


def _look_up(values: Mask, table: NDArray[np.uint8]) -> Mask:
    """(H, W[, 3]) greys or colours -> (H, W) ids by a table of all colours: its cost does not grow with the classes."""
    if values.ndim == 2:
        return np.asarray(cv2.LUT(values, np.ascontiguousarray(table[::0x010101])), np.uint8)
    red, green, blue = (values[:, :, channel].astype(np.int32) for channel in range(3))
    ids: Mask = table[red << 16 | green << 8 | blue]
    return ids


def _colour_table(classes: Classes) -> NDArray[np.uint8]:
    table = np.full(2**24, _UNKNOWN, np.uint8)
    for (red, green, blue), index in classes.ids.items():
        table[red << 16 | green << 8 | blue] = index
    return table
