"""Folders that hold the masks of photos in folders beside them, whatever they are called (``masklike``)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from simclrseg.data.datasets.masklike import differ, is_drawn, names_meant, of_one_size, says_mask
from simclrseg.data.datasets.naming import (
    IMAGE_FOLDERS,
    IMAGE_STEMS,
    Files,
    bare_name,
    stem_of,
    without_image_mark,
)
from simclrseg.labels.likeness import Likeness, likeness
from simclrseg.labels.looking import sample
from simclrseg.labels.paths import same_end

Look = Callable[[tuple[Path, ...]], Likeness]
_NEARLY_ALL = 0.9
_TOO_MANY = 8  # folders in which a name stands, as numbers do in folders of classes
_OF_SOMETHING_ELSE = re.compile(
    r".*(?:depth|thermal|infrared|predict|output|overlay|visuali|augment|flipped|resized|thumb).*|"
    r"(?:.*[_\-. ])?(?:n?ir|vis|aug|preds?)(?:[_\-. ].*)?",
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
        looks_so = differ(look(tuple(members)), look(tuple(folders[photos])), called=called)
        return looks_so and _have_sizes_of(members, folders[photos])

    whole = [name for name in likely if len(named[name]) >= _NEARLY_ALL * len(members)]
    alike = [name for name in whole if fits(name)] if len(whole) > 1 else []
    alike = [] if _is_called_after(child, alike) else alike
    called_so = [name for word in _PHOTO_WORDS for name in alike if name.lower() == word]
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
        names = {home for way, _ in names_meant(below) for home in homes.get(way, ())} - {child}
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


def _named_as(below: tuple[str, ...], homes: Mapping[str, Sequence[str]], photos: str) -> tuple[str, ...]:
    """A mask's path, without its mark where that is none that people use."""
    return next((path for way, path in names_meant(below) if photos in homes.get(way, ())), below)


def _is_called_after(child: str, photos: Sequence[str]) -> bool:
    """Whether a folder of masks bears the name of one of some folders rather than of the others."""
    alike = sorted(((_alike(name, child), len(name)) for name in photos), reverse=True)
    return len(alike) > 1 and alike[0][0] > alike[1][0] and alike[0][0] >= min(_SOME_LETTERS, alike[0][1])


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


def _have_sizes_of(masks: Files, photos: Files) -> bool:
    """Whether pictures have the sizes of those whose names they bear."""
    by_name = {name: file for file, below in photos.items() for name in (bare_name(below), without_image_mark(below))}
    meant = (
        (file, (by_name[way] for way, _ in names_meant(masks[file]) if way in by_name)) for file in sample(tuple(masks))
    )
    return of_one_size([(file, photo) for file, ways in meant if (photo := next(ways, None))])
