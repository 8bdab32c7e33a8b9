"""Find the images that names in files of labels mean."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from simclrseg.errors import DataError
from simclrseg.images.listing import is_image, is_photo, list_files, unread_photos, why_unread
from simclrseg.labels.nearness import FolderIndex, Nearness, Way
from simclrseg.labels.paths import plain
from simclrseg.text import decoded

GUESSED = "photos found by the last part of their name, in another folder"
"""The note of what an ``Images`` has guessed."""
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of files


@dataclass
class Fitting:
    """The images that a name may mean: none, one, or several of which none fits better.

    Attributes:
        name, source: as it stands in a file.
        way, last: its kind, and the part of it that finds images.
        key: that part as the images have it, ``plain``; they may lack the suffix of a photo that is not read.
        whole: that is all of the last part.
        nearness: how near the folders of the images are.
        guessed: its folders are not those of the images.
    """

    name: str
    source: Path
    way: Way
    last: str
    key: str
    images: list[Path] = field(default_factory=list)
    whole: bool = True
    nearness: Nearness = field(default_factory=Nearness)
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

    @property
    def rank(self) -> tuple[bool, Nearness]:
        """How well it fits its images: first those whose folders it has all."""
        return self.nearness.named == len(self.way.folders), self.nearness


class Images:
    """The images below a folder, ``without`` some, found by what files of labels call them."""

    def __init__(self, root: Path, *, without: Collection[Path] = ()) -> None:
        self.root = root
        self.guessed: list[str] = []  # names of which only the last part was found
        photos = list_files(root, is_photo).files
        self.files = [photo for photo in photos if is_image(photo.name) and photo not in without]
        self.unread = unread_photos(photos)
        self._unread = {plain(name) for photo in self.unread for name in (photo.name, photo.stem)}
        self._numbers: dict[Path, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))  # by folder and name
        for number, file in enumerate(self.files):
            for name in (plain(file.name), plain(file.stem)):
                self._numbers[file.parent][name].append(number)
        self._index = FolderIndex(root, self._numbers)

    def is_unread(self, name: str) -> bool:
        """Tell whether a name means a photo that is there, and not read."""
        return plain(PurePosixPath(name.replace("\\", "/")).name) in self._unread

    def of_other_suffix(self, name: str) -> Path | None:
        """An image that has a name but for its suffix; None where there is none."""
        stem = plain(PurePosixPath(name.replace("\\", "/")).stem)
        return next(iter(self._images(self._index.holding(stem), stem)), None)

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
        found = [one for one in every if one.images]
        nearest: dict[Way, Nearness] = {}
        named: dict[int, set[Path]] = defaultdict(set)  # folders, by how much of them names have
        for one in found:
            nearest[one.way] = max(one.nearness, nearest.get(one.way, one.nearness))
            for parts, folders in self._index.named(one.way, one.key):
                named[parts] |= folders
        best: dict[Path, tuple[bool, Nearness]] = {}
        for one in found:
            if one.nearness < nearest[one.way]:
                one.images = []
            elif not one.rank[0]:
                others = [folders for parts, folders in named.items() if parts > one.nearness.named]
                one.images = [image for image in one.images if not any(image.parent in folders for folders in others)]
            if len(one.images) > 1:
                exact = [
                    (one.is_at(image), plain(image.name) == plain(one.last), image.name == one.last)
                    for image in one.images
                ]
                one.images = [image for image, how in zip(one.images, exact, strict=True) if how == max(exact)]
            for image in one.images:
                best[image] = max(one.rank, best.get(image, one.rank))
        for one in found:
            one.images = [image for image in one.images if best[image] == one.rank]
            one.guessed = bool(one.images) and not one.rank[0]
        return every

    def _seek(self, name: str, source: Path) -> Fitting:
        words = frozenset(self._index.words.intersection(re.split(r"[\W_]+", plain(source.stem))))
        texts = [name, decoded(name), unquote(name), unquote(name).rpartition("?d=")[2]]
        for parts in filter(None, (PurePosixPath(text.replace("\\", "/")).parts for text in texts)):
            folders = tuple(plain(part) for part in parts[:-1] if part not in ("..", "/"))
            way = Way(folders, source.parent, words)
            for last in (parts[-1], _UPLOADED.sub("", parts[-1], count=1)):
                keys = map(plain, [last, PurePosixPath(last).stem] if why_unread(last) else [last])
                if key := next(filter(self._index.holding, keys), None):
                    nearness, nearest = self._index.nearest(way, key)
                    images = self._images(nearest, key)
                    return Fitting(name, source, way, last, key, images, last == parts[-1], nearness)
        return Fitting(name, source, Way((), source.parent, words), name, "")

    def _images(self, folders: Iterable[Path], key: str) -> list[Path]:
        """The images of a name in some folders, in the order of all."""
        numbers = sorted(number for folder in folders for number in self._numbers[folder][key])
        return [self.files[number] for number in numbers]
