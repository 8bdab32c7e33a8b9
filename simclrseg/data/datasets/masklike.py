"""Pictures that are masks of photos, by their names and by what they hold, whatever their folders are called.

A name says it alone where it is one of those that people use, which ``layout`` knows. Elsewhere names have to pair,
nearly all of a folder or of a mark, and the pictures have to look like masks of the photos' sizes while the photos do
not. Where no word says that they are masks either, they are not mostly white, as line drawings are, and their colours
are few and recur, as those of classes do. Where the two cannot be told apart, they are photos.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from simclrseg.data.datasets.naming import (
    DOUBTFUL_WORDS,
    IMAGE_FOLDERS,
    IMAGE_STEMS,
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
from simclrseg.labels.paths import same_end
from simclrseg.system import distributed

_DRAWN = re.compile(
    r"(?:.*[_\-. ])?(?:colou?rs?|colou?red|colou?rmaps?|rgb|overlays?|vi[sz]|visuali[sz]ations?|superpixels?|edges?|"
    r"watershed|contours?|boundar(?:y|ies)|instances?|instanceids|panoptic|masks_human|gtcoarse)"
    r"(?:[_\-. ]?\d+|[_\-. ]masks?)?|segmentation(?:object|classvisualization).*|label_viz",
    re.IGNORECASE,
)
Look = Callable[[tuple[Path, ...]], Likeness]
_NEARLY_ALL = 0.9
_TOO_MANY = 8  # folders in which a name stands, as numbers do in folders of classes
_OF_SOMETHING_ELSE = re.compile(
    r".*(?:depth|thermal|infrared|\bn?ir\b|predict|preds?\b|output|overlay|\bvis|augment|\baug\b|flipped|resized|thumb).*",
    re.IGNORECASE,
)
"""Folders of pictures that were made of photos, or beside them with another camera."""
_SOME_LETTERS = 3  # which train_masks has in common with train
_PHOTO_WORDS = (
    "",  # of photos around the folder of their masks
    *IMAGE_FOLDERS,
    *IMAGE_STEMS,
    "originals",
    "input",
    "inputs",
    "data",
)
_SEPARATOR = re.compile(r"[_\-. ]+")


@dataclass(frozen=True)
class MaskFolder:
    """A folder that holds the masks of the photos in another one beside it; paths are below the root.

    Attributes:
        pairs: how many of its files bear the name of a photo.
        coloured: it holds RGB colours rather than numbers.
        files: each with its path below the folder.
        rivals: other folders whose pictures they fit as well, such as ``thermal/`` beside ``rgb/``.
        unsure: no name says which of them holds the photos.
    """

    path: tuple[str, ...]
    photos: tuple[str, ...]
    pairs: int
    coloured: bool
    files: Files
    rivals: tuple[tuple[str, ...], ...] = ()
    unsure: bool = False

    @property
    def is_drawn(self) -> bool:
        """Its name says that it was drawn of masks, for viewers or for the objects in them."""
        return is_drawn(self.path[-1])

    @property
    def says_mask(self) -> bool:
        """Its name says that it holds masks."""
        return says_mask(self.path[-1], in_doubt=True)


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


def mask_folders(paths: Files, *, wanted: str = "") -> list[MaskFolder]:
    """Find the folders of masks beside folders of photos, or beside the photos themselves.

    Args:
        paths: of all pictures, below the root.
        wanted: a folder that holds masks, whatever is in it.
    """
    look = cache(likeness)
    found: list[MaskFolder] = []
    seen: set[Path] = set()
    for parent, folders in _side_by_side(paths):
        homes = _homes(folders)
        for child, members in folders.items():
            if child and seen.isdisjoint(members):
                of_child = list(_masks_in(parent, child, folders, homes, wanted, look))
                found += of_child
                seen.update(*(folder.files for folder in of_child))
    have_masks = {folder.photos for folder in found}
    rest = [tuple(place for place in folder.rivals if place not in have_masks) for folder in found]
    return [
        replace(folder, rivals=rivals, unsure=folder.unsure and bool(rivals))
        for folder, rivals in zip(found, rest, strict=True)
    ]


def _side_by_side(paths: Files) -> list[tuple[tuple[str, ...], dict[str, dict[Path, tuple[str, ...]]]]]:
    """Folders that hold several others, or photos too, the outer first: each with the files of those, "" for its own,
    and their paths below them."""
    children: dict[tuple[str, ...], dict[str, dict[Path, tuple[str, ...]]]] = defaultdict(lambda: defaultdict(dict))
    for file, parts in paths.items():
        for depth in range(len(parts)):
            child = parts[depth] if depth < len(parts) - 1 else ""
            children[parts[:depth]][child][file] = parts[depth + 1 :] if child else parts[depth:]
    several = [item for item in children.items() if len(item[1]) > 1]
    return sorted(several, key=lambda item: (len(item[0]), item[0]))


def _homes(folders: Mapping[str, Files]) -> dict[str, list[str]]:
    """The folders in which each name stands."""
    homes: dict[str, list[str]] = defaultdict(list)
    for child, members in folders.items():
        for below in members.values():
            for name in filter(None, {bare_name(below), without_image_mark(below)}):
                if len(homes[name]) <= _TOO_MANY and child not in homes[name]:
                    homes[name].append(child)
    return homes


def _masks_in(
    parent: tuple[str, ...],
    child: str,
    folders: Mapping[str, Files],
    homes: Mapping[str, Sequence[str]],
    wanted: str,
    look: Look,
) -> Iterator[MaskFolder]:
    """A folder as that of the masks of one beside it, or of several where it is called so; nothing if it is neither."""
    members, named = folders[child], _photos_of(child, folders[child], homes)
    chosen = child.casefold() == wanted.casefold()
    if not chosen and _is_class(members, named, folders, look):
        return
    called = chosen or says_mask(child, in_doubt=True)
    together = len({file for files in named.values() for file in files})
    taken: set[Path] = set()
    likely = sorted(named, key=lambda name: look(tuple(folders[name])).masks)  # other masks are the last

    def fits(photos: str) -> bool:
        looks_so = _differ(look(tuple(members)), look(tuple(folders[photos])), called=called)
        return looks_so and _have_sizes_of(members, folders[photos])

    whole = [name for name in likely if len(named[name]) >= _NEARLY_ALL * len(members)]
    alike = [name for name in whole if fits(name)] if len(whole) > 1 else []
    alike = [] if _is_called_after(child, alike) else alike
    called_so = sorted((name for name in alike if name.lower() in _PHOTO_WORDS), key=_place_of_word)
    best = called_so or [name for name in alike if not _OF_SOMETHING_ELSE.fullmatch(name)]
    sure = bool(called_so) or len(best) == 1
    likely.sort(key=lambda name: name not in best[:1])
    for photos, bearing in ((name, named[name]) for name in likely):
        every = photos in whole
        if not every and (not called or together < _NEARLY_ALL * len(members)):
            continue
        if not chosen and not fits(photos):
            continue
        path = (*parent, photos) if photos else parent
        files = {
            file: _named_as(below, homes, photos)
            for file, below in (members if every else bearing).items()
            if file not in taken
        }
        rivals = tuple((*parent, name) for name in alike if name and name != photos and photos in alike)
        unsure = bool(rivals) and not sure
        yield MaskFolder((*parent, child), path, len(bearing), look(tuple(members)).coloured, files, rivals, unsure)
        taken.update(files)
        if every:
            return


def _photos_of(
    child: str, members: Files, homes: Mapping[str, Sequence[str]]
) -> dict[str, dict[Path, tuple[str, ...]]]:
    """Folders of photos whose names a folder's files bear, the likeliest first, each with those files."""

    def named(below: tuple[str, ...]) -> set[str]:
        names = {home for way, _ in _ways(below) for home in homes.get(way, ())} - {child}
        return names if len(names) <= _TOO_MANY else set()

    if not any(map(named, sample(tuple(members.values())))):  # a few tell of most folders that they are none
        return {}
    found: dict[str, dict[Path, tuple[str, ...]]] = defaultdict(dict)
    for file, below in members.items():
        for name in named(below):
            found[name][file] = below
    likely = [name for name in found if not says_mask(name)]
    return {
        name: found[name] for name in sorted(likely, key=lambda name: (-len(found[name]), -_alike(name, child), name))
    }


def _ways(below: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names of photos that a mask's may mean, whatever its mark is, each with the path that bears it."""
    yield from ((way, below) for way in meanings(below))
    for begin, _ in _cut(below):
        path = (*below[:-1], begin + ".png")
        yield bare_name(path), path


def _named_as(below: tuple[str, ...], homes: Mapping[str, Sequence[str]], photos: str) -> tuple[str, ...]:
    """A mask's path, without its mark where that is none that people use."""
    return next((path for way, path in _ways(below) if photos in homes.get(way, ())), below)


def _is_called_after(child: str, photos: Sequence[str]) -> bool:
    """Whether a folder of masks bears the name of one of some folders rather than of the others."""
    alike = sorted(((_alike(name, child), len(name)) for name in photos), reverse=True)
    return len(alike) > 1 and alike[0][0] > alike[1][0] and alike[0][0] >= min(_SOME_LETTERS, alike[0][1])


def _place_of_word(name: str) -> int:
    return _PHOTO_WORDS.index(name.lower())


def _alike(first: str, second: str) -> int:
    """How many letters two names have in common at their beginning and end."""
    return same_end(first[::-1], second[::-1]) + same_end(first, second)


def _is_class(members: Files, named: Mapping[str, Files], folders: Mapping[str, Files], look: Look) -> bool:
    """Whether a folder is a class among classes: its files bear running numbers, as those of others that look alike."""
    if not all(stem_of(below[-1]).isdecimal() for below in members.values()):
        return False
    others = [name for name, bearing in named.items() if name and len(bearing) >= _NEARLY_ALL * len(members)]
    looks = [look(tuple(folders[name])) for name in others]
    return max(Counter((one.coloured, one.lossy, one.masks) for one in looks).values(), default=0) > 1


def _differ(masks: Likeness, photos: Likeness, *, called: bool) -> bool:
    """Whether pictures look like masks, and those whose names they bear do not; those not called so are lossless,
    not white, and of colours that recur."""
    if called:
        return (masks.masks and not photos.masks) or (masks.areas and not photos.areas)
    return masks.masks and not photos.masks and not masks.lossy and not masks.white and masks.palette


def _have_sizes_of(masks: Files, photos: Files) -> bool:
    """Whether pictures have the sizes of those whose names they bear."""
    by_name = {name: file for file, below in photos.items() for name in (bare_name(below), without_image_mark(below))}
    meant = ((file, (by_name[way] for way, _ in _ways(masks[file]) if way in by_name)) for file in sample(tuple(masks)))
    return _of_one_size([(file, photo) for file, ways in meant if (photo := next(ways, None))])


def _of_one_size(pairs: Sequence[tuple[Path, Path]]) -> bool:
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
            and _differ(look, likeness([photo.file for _, photo in pairs]), called=False)
            and _of_one_size([(found.file, photo.file) for found, photo in sample(pairs)])
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
