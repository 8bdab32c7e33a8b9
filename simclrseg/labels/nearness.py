"""Which folders of images are nearest to what a name says: an index of them, in which none is compared with all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from simclrseg.labels.paths import plain, same_end


class Nearness(NamedTuple):
    """How near a folder of images is to what a name says; of two the greater is nearer."""

    named: int = 0  # of its folders, from the last, those that the name has
    around: int = 0  # folders that it shares with the file that says the name
    alike: int = 0  # of its folders, from the last, those that the file lies in too, or that its name has


@dataclass(frozen=True)
class Way:
    """Where names of one kind may lead: those with the same folders, in files of one folder."""

    folders: tuple[str, ...]  # of the names
    source: Path  # the folder of the files
    words: frozenset[str]  # of the files' own names, which folders of images bear


class Stretch(NamedTuple):
    """What several folders may share: one that they lie in or are, and how their paths end below it."""

    around: Path
    end: tuple[str, ...] = ()


class FolderIndex:
    """Folders of images below a root, by the names of these and by each stretch of their paths.

    Names and ends of paths are ``plain``. Of thousands of folders with images of the same names those that are nearest
    to what one says are looked up, and not compared with the others.

    Args:
        names: those of the images in each folder.

    Attributes:
        words: the names of the folders, and of those around them up to the root.
    """

    def __init__(self, root: Path, names: Mapping[Path, Iterable[str]]) -> None:
        self._root = root.absolute()
        self._top = Path(self._root.anchor)
        self._holding: dict[str, set[Path]] = defaultdict(set)
        self._sharing: dict[Stretch, set[Path]] = defaultdict(set)
        for folder, held in names.items():
            path, below = folder.absolute(), self._below(folder)
            whole = tuple(map(plain, path.parts))
            for stretch in (*_around(path), *_ends(self._top, whole), *_ends(self._root, below)):
                self._sharing[stretch].add(folder)
            for name in held:
                self._holding[name].add(folder)
        self.words = {part for folder in names for part in self._below(folder)}

    def holding(self, name: str) -> Set[Path]:
        """The folders with an image of a name."""
        return self._holding.get(name, set())

    def nearest(self, way: Way, name: str) -> tuple[Nearness, Set[Path]]:
        """Those of the folders with an image of a name than which none is nearer, and how near they are."""
        folders, named = self._sharing_most(self.holding(name), _ends(self._top, way.folders))
        folders, around = self._sharing_most(folders, _around(way.source.absolute()))
        below = self._below(way.source)
        if not way.words:
            folders, alike = self._sharing_most(folders, _ends(self._root, below))
            return Nearness(named, around, alike), folders
        each = {one: same_end(its := self._below(one), below) + (not way.words.isdisjoint(its)) for one in folders}
        alike = max(each.values())
        return Nearness(named, around, alike), {one for one in folders if each[one] == alike}

    def named(self, way: Way, name: str) -> Iterator[tuple[int, Set[Path]]]:
        """Folders with an image of a name, by how many of the way's they end in; where some end in all, these alone."""
        for stretch in _ends(self._top, way.folders):
            if folders := self.holding(name) & self._sharing.get(stretch, set()):
                yield len(stretch.end), folders
                if stretch.end == way.folders:
                    return

    def _sharing_most(self, folders: Set[Path], stretches: Sequence[Stretch]) -> tuple[Set[Path], int]:
        """Those that share the longest stretch that any shares, and how many parts it has; all where none does.

        Args:
            stretches: the longest first, each a part longer than the next, to the last of one part.
        """
        for place, stretch in enumerate(stretches):
            if found := folders & self._sharing.get(stretch, set()):
                return found, len(stretches) - place
        return folders, 0

    def _below(self, folder: Path) -> tuple[str, ...]:
        """The names of a folder and those around it, up to the root."""
        folder = folder.absolute()
        return tuple(map(plain, folder.parts[len(self._root.parts) :])) if folder.is_relative_to(self._root) else ()


def _around(path: Path) -> list[Stretch]:
    """A folder and each around it, the innermost first."""
    return [Stretch(folder) for folder in (path, *path.parents)]


def _ends(around: Path, parts: tuple[str, ...]) -> list[Stretch]:
    """The ends of a path below a folder, the longest first."""
    return [Stretch(around, parts[start:]) for start in range(len(parts))]
