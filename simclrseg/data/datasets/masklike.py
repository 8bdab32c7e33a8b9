"""Pictures that are masks of photos, by their names and by what they hold, whatever their folders are called.

A name says it alone where it is one of those that people use, which ``layout`` knows. Elsewhere names have to pair,
nearly all of a folder or of a mark, and the pictures have to look like masks of the photos' sizes while the photos do
not. Where no word says that they are masks either, they are not mostly white, as line drawings are, and their colours
are few and recur, as those of classes do. Where the two cannot be told apart, they are photos.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from simclrseg.data.datasets.naming import (
    DOUBTFUL_WORDS,
    MASK_WORDS,
    Files,
    Found,
    Names,
    bare_name,
    meanings,
    stem_of,
    strip,
    without_image_mark,
)
from simclrseg.errors import ImageError
from simclrseg.images.decode import image_header
from simclrseg.labels.likeness import Likeness, likeness
from simclrseg.labels.looking import sample
from simclrseg.system import distributed

_DRAWN = re.compile(
    r"(?:.*[_\-. ])?(?:colou?rs?|colou?red|colou?rmaps?|rgb|overlays?|vi[sz]|visuali[sz]ations?|superpixels?|edges?|"
    r"watershed|contours?|boundar(?:y|ies)|instances?|instanceids|panoptic|masks_human|gtcoarse)"
    r"(?:[_\-. ]?\d+|[_\-. ]masks?)?|segmentation(?:object|classvisualization).*|label_viz",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"[_\-. ]+")


def is_drawn(name: str) -> bool:
    """Tell whether the name of a folder, or of a file without its suffix, says that it was drawn of masks."""
    return bool(_DRAWN.fullmatch(name))


def says_mask(name: str, *, in_doubt: bool = False) -> bool:
    """Tell whether a word in the name of a folder says that it holds masks: SegmentationClassPNG, gtFine.

    Args:
        in_doubt: take words that are those of other things too.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    known = MASK_WORDS | DOUBTFUL_WORDS if in_doubt else MASK_WORDS
    return not known.isdisjoint([*words, name.lower()]) or "groundtruth" in "".join(words)


def names_meant(below: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names of photos that a mask's may mean, whatever its mark is, each with the path that bears it."""
    yield from ((way, below) for way in meanings(below))
    for begin, _ in _cut(below):
        path = (*below[:-1], begin + ".png")
        yield bare_name(path), path


def differ(masks: Likeness, photos: Likeness, *, called: bool) -> bool:
    """Whether pictures look like masks, and those whose names they bear do not; those not called so are lossless,
    not white, and of colours that recur."""
    if called:
        return (masks.masks and not photos.masks) or (masks.areas and not photos.areas)
    return masks.masks and not photos.masks and not masks.lossy and not masks.white and masks.palette


def of_one_size(pairs: Sequence[tuple[Path, Path]]) -> bool:
    """Whether both of each pair are of one size, be one turned; those that cannot be read say nothing."""

    def differ(first: Path, second: Path) -> bool:
        with suppress(ImageError):
            return sorted(image_header(first)[:2]) != sorted(image_header(second)[:2])
        return False

    return distributed.from_main(lambda: not any(differ(*pair) for pair in pairs))


def drawn_beside(files: Sequence[Found]) -> dict[Path, Found]:
    """Masks among photos that bear a photo's name with a mark, whatever it is: ``x_superpixels.png`` beside ``x.jpg``.

    Returns:
        For each the same with the name that it bears, as if it had no mark.
    """
    by_name = {name: found for found in files if (name := without_image_mark(found.parts))}  # x of x_rgb
    by_name |= {bare_name(found.parts): found for found in files}
    names: Names | None = None
    marks: dict[tuple[str, bool], list[tuple[Found, Found]]] = defaultdict(list)
    for found in files:
        stem, photo, mark = stem_of(found.parts[-1]), None, ""
        if own := strip(stem):
            names = names or Names(files)
            mark = stem.replace(own, "", 1)
            photo = next((files[index] for index in names.meant(found.parts)), None)
        known = photo is not None
        if photo is None:
            ways = ((bare_name((*found.parts[:-1], begin + ".png")), mark) for begin, mark in _cut(found.parts))
            others = ((mark, by_name[name]) for name, mark in ways if by_name.get(name, found) is not found)
            mark, photo = next(others, ("", None))
        if photo is not None:
            marks[re.sub(r"\d+", "", mark).casefold(), known].append((found, photo))
    drawn: dict[Path, Found] = {}
    for (_, marked), pairs in marks.items():
        look = likeness([found.file for found, _ in pairs])
        known = (marked and look.areas) or (
            len(pairs) > 1
            and differ(look, likeness([photo.file for _, photo in pairs]), called=False)
            and of_one_size([(found.file, photo.file) for found, photo in sample(pairs)])
        )
        if known:
            for found, photo in pairs:
                drawn[found.file] = replace(found, above=photo.above, below=photo.below)
    return drawn


def _cut(parts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The names that a picture's begins with, the longest first, each with the words behind it."""
    stem = stem_of(parts[-1])
    for match in reversed(list(_SEPARATOR.finditer(stem))):
        if match.start() and re.search("[a-z]", mark := stem[match.end() :], re.IGNORECASE):
            yield stem[: match.start()], mark


def strays(paths: Files, *, lossy: bool) -> set[Path]:
    """Pictures in folders whose names say that they hold masks, which they look like, though no photo is theirs.

    Those in folders beside them count too whose names say that they were drawn of masks, such as ``panoptic``.

    White ones are none, as drawings on paper are, nor are those in colours of their own, nor those beside others that
    look like masks, as icons do.

    Args:
        lossy: those in lossy files count too.
    """
    folders: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for file, parts in paths.items():
        if place := next((place for place, part in enumerate(parts[:-1], 1) if says_mask(part)), 0):
            folders[parts[:place]].append(file)
    found = set[Path]()
    for files in folders.values():
        look = likeness(files)
        if look.masks and look.palette and not look.white and (lossy or not look.lossy):
            found.update(files)
    around = {parts[:-2] for file, parts in paths.items() if file in found}
    beside = [
        file
        for file, parts in paths.items()
        if file not in found and len(parts) > 1 and parts[:-2] in around and is_drawn(parts[-2])
    ]
    if likeness(beside).masks:
        found.update(beside)
    others = [file for file in paths if file not in found]
    return set() if found and likeness(others).masks else found
