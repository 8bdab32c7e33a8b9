"""What files of labels say: images, the objects in each, and the names of their classes."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from simclrseg.errors import DataError, some
from simclrseg.images.listing import is_image, is_photo, list_files, unread_photos, why_unread
from simclrseg.labels.classes import IGNORE_NAME, MAX_CLASSES
from simclrseg.labels.polygons import Object, Ring
from simclrseg.metadata import IGNORE
from simclrseg.system.content import BadContent, read_json, read_yaml
from simclrseg.system.files import why_not_fetched
from simclrseg.text import decoded

BACKGROUND = "background"
YAML = (".yaml", ".yml")
_GROUND = frozenset({BACKGROUND, "_background_", "__background__"})
_IGNORED = frozenset({IGNORE_NAME, "__ignore__", "_ignore_"})
GUESSED = "photos found by the last part of their name, in another folder"
"""The note of what an ``Images`` has guessed."""
_SIDE = re.compile(r"\s*\d{1,9}(\.0*)?\s*")
_LARGEST_SIDE = 1 << 31  # pixels
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of files


@dataclass
class LabelledImage:
    """An image and what is drawn in it; None where nobody has looked for objects."""

    image: Path
    source: Path  # the file that says so
    objects: tuple[Object, ...] | None
    size: tuple[int, int] | None = None  # (height, width), as the source has it
    turned_by: int = 1  # the image's EXIF orientation, if objects are drawn on its pixels as they are stored


@dataclass
class Labelled:
    """All that files of labels of one form say.

    Attributes:
        classes: their names, background first.
        relative: points are in widths and heights of the image instead of pixels.
        splits: the images of published lists, by the names of ``Dataset.official``; None where files do not tell.
        unread: photos that have labels, or may have, and are not read.
        notes: lines about what was found and left out.
    """

    form: str
    images: list[LabelledImage]
    classes: tuple[str, ...]
    relative: bool = False
    splits: Mapping[str, Sequence[Path]] | None = None
    unread: Sequence[Path] = ()
    notes: list[str] = field(default_factory=list)


def class_ids(names: Iterable[str], source: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes, background first, and the id of each name; ``background`` and ``ignore`` are what they say."""
    named = [name for name in dict.fromkeys(names) if name.lower() not in _GROUND | _IGNORED]
    if not named:
        raise DataError(f"{source} names no class but the background: there is nothing to learn", path=source)
    if len(named) >= MAX_CLASSES:
        raise DataError(f"{source} has {len(named):,} classes: {MAX_CLASSES - 1} are possible", path=source)
    ids = {name: number for number, name in enumerate(named, 1)}
    rest = {name: 0 if name.lower() in _GROUND else IGNORE for name in names if name not in ids}
    return (BACKGROUND, *named), ids | rest


def ring(values: Sequence[Any], what: str) -> Ring:
    """A polygon from x and y in turn.

    Args:
        what: names it in messages.

    Raises:
        DataError: if it has fewer than three points, or numbers that are none.
    """
    try:
        numbers = np.asarray(values, np.float64)
    except (OverflowError, TypeError, ValueError):
        numbers = np.array([np.nan])
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise DataError(f"{what}: its points are not all numbers")
    if len(numbers) % 2:
        raise DataError(f"{what}: {len(numbers)} numbers are no pairs of x and y")
    if len(numbers) < 6:
        raise DataError(f"{what}: a polygon of {len(numbers) // 2} points encloses nothing")
    return numbers.reshape(-1, 2)


def stated_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(height, width) as a file of labels states it, in numbers of any kind or in text; None where it does not."""
    sides = [float(side) if isinstance(side, str) and _SIDE.fullmatch(side) else side for side in (height, width)]
    if not all(isinstance(side, int | float) and 1 <= side < _LARGEST_SIDE for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def read_content(file: Path) -> Any:
    """The content of a file of JSON, or of YAML, by its suffix; a DataError names one that cannot be read."""
    by_hand = file.suffix.lower() in YAML
    try:
        content = read_yaml(file) if by_hand else read_json(file)
    except OSError as error:
        raise DataError(f"{file} cannot be opened: {error.strerror}", path=file) from error
    except BadContent as error:
        refuse_other_files(file)
        raise DataError(error.of(file), "" if by_hand else "export it again", path=file) from error
    if not isinstance(content, dict | list):
        refuse_other_files(file)
    return content


def refuse_other_files(file: Path) -> None:
    """Raise a DataError that names a file which was not fetched, such as a pointer of Git LFS."""
    if what := why_not_fetched(file):
        raise DataError(f"{file} {what}", path=file)


class _Closeness(NamedTuple):
    """How near a folder of images is to what a name says; of two the greater is nearer."""

    named: int  # of its folders, from the last, those that the name has
    around: int  # folders that it shares with the file that says the name
    alike: int  # of its folders, from the last, those that the file lies in too, or that its name has


@dataclass(frozen=True)
class _Way:
    """Where names of one kind may lead: those with the same folders, in files of one folder."""

    folders: tuple[str, ...]  # of the names
    source: Path  # the folder of the files
    words: frozenset[str]  # of the files' own names, which folders of images bear


@dataclass
class Fitting:
    """The images that a name may mean: none, one, or several of which none fits better.

    Attributes:
        name, source: as it stands in a file.
        way, last: its kind, and the part of it that finds images.
        whole: that is all of the last part.
        guessed: its folders are not those of the images.
    """

    name: str
    source: Path
    way: _Way
    last: str
    images: list[Path]
    whole: bool
    guessed: bool = False

    def is_at(self, image: Path) -> bool:
        """Tell whether an image lies where the name says, seen from its file."""
        return os.path.abspath(self.source.parent / self.name.replace("\\", "/")) == os.path.abspath(image)

    def only(self) -> Path | None:
        """The one image that it means, or None; a DataError names two."""
        if len(self.images) > 1:
            one, other = self.images[:2]
            reason = f"{self.source} names {self.name!r}, which fits {one} and {other}"
            raise DataError(reason, "rename one", path=self.source)
        return self.images[0] if self.images else None


class Images:
    """The images below a folder, ``without`` some, found by what files of labels call them."""

    def __init__(self, root: Path, *, without: Collection[Path] = ()) -> None:
        self.root = root
        self.guessed: list[str] = []  # names of which only the last part was found
        photos = list_files(root, is_photo).files
        self.files = [photo for photo in photos if is_image(photo.name) and photo not in without]
        self.unread = unread_photos(photos)
        self._unread = {plain(name) for photo in self.unread for name in (photo.name, photo.stem)}
        self._named: dict[str, list[Path]] = {}
        self._within: dict[Path, dict[str, list[Path]]] = {}  # the same by folder
        for file in self.files:
            within = self._within.setdefault(file.parent, {})
            for name in (plain(file.name), plain(file.stem)):
                self._named.setdefault(name, []).append(file)
                within.setdefault(name, []).append(file)
        self._ending: dict[tuple[str, ...], list[Path]] = {}  # folders by the names at their ends
        for folder in self._within:
            parts = tuple(map(plain, folder.absolute().parts))
            for start in range(len(parts)):
                self._ending.setdefault(parts[start:], []).append(folder)
        around = {above for folder in self._within for above in folder.absolute().parents}
        self._innermost = {path: folder for folder in self._within if (path := folder.absolute()) not in around}
        self._around = around | {folder.absolute() for folder in self._within}
        self._nearest: dict[Path, list[Path]] = {}
        self._folders = {part for folder in {file.parent for file in self.files} for part in self._below(folder)}

    def is_unread(self, name: str) -> bool:
        """Tell whether a name means a photo that is there, and not read."""
        return plain(PurePosixPath(name.replace("\\", "/")).name) in self._unread

    def of_other_suffix(self, name: str) -> Path | None:
        """An image that has a name but for its suffix; None where there is none."""
        stem = PurePosixPath(name.replace("\\", "/")).stem
        return next(iter(self._named.get(plain(stem), ())), None)

    def find(self, names: Sequence[tuple[str, Path]]) -> list[Path | None]:
        """The image that each name means, given with the file that says it; None where it is missing."""
        found = self.fitting(names)
        images = [one.only() for one in found]
        self.guessed += [one.name for one in found if one.guessed]
        return images

    def fitting(self, names: Sequence[tuple[str, Path]]) -> list[Fitting]:
        """The images that each name may mean.

        The last part of a name finds them: of several those in the folders that are named too, or that are nearest. A
        path of another machine, of Windows and of Label Studio does as well; the suffix may miss, or be that of a photo
        which is not read and was converted, and letters may be of another case. But a name does not mean what lies
        farther off than what others of its kind mean, nor what lies in a folder that others name, nor what another name
        fits better.
        """
        every = [self._seek(name, source) for name, source in names]
        whole = {one.way for one in every if one.images and one.whole}
        for one in every:
            if not one.whole and one.way in whole:
                one.images = []
        near: dict[_Way, dict[Path, _Closeness]] = {}
        for one in every:
            known = near.setdefault(one.way, {})
            for folder in {image.parent for image in one.images} - known.keys():
                known[folder] = self._closeness(one.way, folder)
        nearest = {way: max(known.values()) for way, known in near.items() if known}
        named: dict[Path, int] = {}
        for known in near.values():
            for folder, closeness in known.items():
                named[folder] = max(closeness.named, named.get(folder, 0))

        def rank(one: Fitting) -> tuple[bool, _Closeness]:
            return nearest[one.way].named == len(one.way.folders), nearest[one.way]

        best: dict[Path, tuple[bool, _Closeness]] = {}
        for one in every:
            images = [image for image in one.images if near[one.way][image.parent] == nearest[one.way]]
            if images and nearest[one.way].named < len(one.way.folders):
                images = [image for image in images if named[image.parent] == nearest[one.way].named]
            if len(images) > 1:
                exact = [
                    (one.is_at(image), plain(image.name) == plain(one.last), image.name == one.last) for image in images
                ]
                images = [image for image, how in zip(images, exact, strict=True) if how == max(exact)]
            one.images = images
            for image in one.images:
                best[image] = max(rank(one), best.get(image, rank(one)))
        for one in every:
            one.images = [image for image in one.images if best[image] == rank(one)]
            one.guessed = bool(one.images) and not rank(one)[0]
        return every

    def _seek(self, name: str, source: Path) -> Fitting:
        words = frozenset(self._folders.intersection(re.split(r"[\W_]+", plain(source.stem))))
        texts = [name, decoded(name), unquote(name), unquote(name).rpartition("?d=")[2]]
        for parts in filter(None, (PurePosixPath(text.replace("\\", "/")).parts for text in texts)):
            folders = tuple(plain(part) for part in parts[:-1] if part not in ("..", "/"))
            way = _Way(folders, source.parent, words)
            for last in (parts[-1], _UPLOADED.sub("", parts[-1], count=1)):
                if images := self._of(way, last):
                    return Fitting(name, source, way, last, images, last == parts[-1])
                if why_unread(last) and (images := self._of(way, PurePosixPath(last).stem)):
                    return Fitting(name, source, way, last, images, last == parts[-1])
        return Fitting(name, source, _Way((), source.parent, words), name, [], whole=True)

    def _of(self, way: _Way, name: str) -> list[Path]:
        """The images of a name; of many those in folders than which none is nearer, where that is plain.

        These are folders that the way names whole, and where it names none, that of the file that says the name.
        """
        name, sure = plain(name), self._ending.get(way.folders, [])
        if not way.folders and (own := self._innermost.get(way.source.absolute())):
            sure = [own]
        elif not way.folders and not way.words:
            sure = self._nearest_to(way.source)
        return [image for folder in sure for image in self._within[folder].get(name, ())] or self._named.get(name, [])

    def _nearest_to(self, source: Path) -> list[Path]:
        """The folders of images that ``_closeness`` puts first for names without folders, where their names tell."""
        if source not in self._nearest:
            place, below, root = source.absolute(), self._below(source), len(self.root.absolute().parts)
            around = next((above for above in (place, *place.parents) if above in self._around), place)

            def is_there(folder: Path, parts: int) -> bool:
                return folder.is_relative_to(around) and len(folder.parts) >= root + parts

            ends = (below[start:] for start in range(len(below)))
            found = ([one for one in self._ending.get(end, ()) if is_there(one.absolute(), len(end))] for end in ends)
            self._nearest[source] = next(filter(None, found), [])
        return self._nearest[source]

    def _closeness(self, way: _Way, folder: Path) -> _Closeness:
        below = self._below(folder)
        alike = same_end(below, self._below(way.source)) + (not way.words.isdisjoint(below))
        around = os.path.commonpath([folder.absolute(), way.source.absolute()])
        named = same_end([*map(plain, folder.absolute().parts)], way.folders)
        return _Closeness(named, len(Path(around).parts), alike)

    def _below(self, folder: Path) -> tuple[str, ...]:
        """The names of a folder and those around it, up to the root."""
        folder, root = folder.absolute(), self.root.absolute()
        return tuple(map(plain, folder.parts[len(root.parts) :])) if folder.is_relative_to(root) else ()


def same_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two names have in common at their end."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


class Folders:
    """Finds paths whose names are in another case, or other forms of letters, by looking into each folder once."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, base: Path, parts: Iterable[str]) -> Path | None:
        """The file or folder at a path below ``base``; the exact one, if there is one, or None."""
        for part in parts:
            if part == "..":
                base = base.parent
            elif os.path.lexists(base / part):
                base = base / part
            elif name := self._in(base).get(plain(part)):
                base = base / name
            else:
                return None
        return base

    def _in(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            try:
                self._names[folder] = {plain(name): name for name in sorted(os.listdir(folder))}
            except OSError:  # no folder, or a closed one
                self._names[folder] = {}
        return self._names[folder]


def plain(name: str) -> str:
    """A name in any case and either form of its letters, to be compared."""
    return unicodedata.normalize("NFC", name).casefold()


def left_out(missing: Sequence[str], what: str) -> list[str]:
    """A line that counts and names what is left out, if anything is."""
    return [f"{what}: {len(missing):,} ({some(missing, shown=3)})"] if missing else []


def raise_first(problems: Sequence[tuple[Path, DataError]], of: int) -> None:
    """Raise the first of the problems in files, with their number."""
    if problems:
        file, problem = problems[0]
        more = f" (objects that cannot be read: {len(problems):,} of {of:,})" if len(problems) > 1 else ""
        raise DataError(f"{problem}{more}", "" if problem.remedy else "correct or delete it", path=file)
