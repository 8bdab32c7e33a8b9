"""Which images a command means by files, folders, patterns and ``-``. Never imports torch."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from simclrseg.errors import DataError, UsageError
from simclrseg.images.listing import (
    IMAGE_SUFFIXES,
    Listing,
    count_suffixes,
    is_image,
    list_files,
    tell_unread,
    walk,
    warn_left_out,
    why_unread,
)
from simclrseg.inference import OUTPUTS
from simclrseg.system.identify import why_not_a_file
from simclrseg.text import printable

log = logging.getLogger(__name__)

STREAM = "-"
"""The word for stdin and for stdout."""
# names of files that lie beside their images, or that several outputs give
_EARLIER = re.compile(rf".+\.({'|'.join(OUTPUTS)})\.(png|tif)")


@dataclass(frozen=True)
class InputImage:
    """An image to predict."""

    source: Path | None  # None for stdin and for what is sent
    relative: Path  # below the folder that was given: the outputs repeat it
    sent: bool = False  # by another program, whose user has no say in the options

    def __str__(self) -> str:
        if self.source is None:
            return printable(self.relative.name) if self.sent else STREAM
        return str(self.source)


class RealPaths:
    """Paths without links in them, of many files in few folders; those that lead in circles stay as they are."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, path: Path) -> str:
        text = str(path)
        name = os.path.basename(text)
        if name in ("", os.curdir, os.pardir) or os.path.islink(text):
            return os.path.realpath(text)
        return self.place(path)

    def place(self, path: Path) -> str:
        """Where a file lies: of a link, the link itself."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder or os.curdir)
        return os.path.join(self._folders[folder], name)


def find_images(
    inputs: Sequence[str], output: str | None = None, *, unread: dict[Path, str] | None = None
) -> list[InputImage]:
    """Find each image once: files, folders and what is below, patterns such as ``photos/**/*.jpg``, ``-`` for stdin.

    A file and links to it are one image where they have one name below their folders, else each has results of its own.

    Args:
        output: where results will go; images are not looked for there.
        unread: gets the photos of folders and patterns, and the folders, that cannot be read, and why.

    Raises:
        DataError: if an input is missing, or a folder or pattern gives no image.
        UsageError: if the output is the folder of the images.
    """
    if not inputs:
        raise UsageError("no photo to predict", "name a file or a folder", option="inputs")
    images: dict[str | None, InputImage] = {}
    named: set[tuple[str, Path]] = set()
    unread = {} if unread is None else unread
    real = RealPaths()
    for given in inputs:
        for image in _images(given, None if output in (None, STREAM) else Path(str(output)), unread, real):
            if image.source is None:
                images.setdefault(None, image)
            elif (place := real.place(image.source)) not in images:
                name = real(image.source), image.relative
                if name not in named:
                    named.add(name)
                    images[place] = image
    return list(images.values())


def names_one_image(inputs: Sequence[str]) -> bool:
    """Tell whether the user named a single file, so that the output may be one too."""
    return len(inputs) == 1 and (inputs[0] == STREAM or (os.path.lexists(inputs[0]) and not Path(inputs[0]).is_dir()))


def _images(given: str, output: Path | None, unread: dict[Path, str], real: RealPaths) -> Iterator[InputImage]:
    path = base = Path(given)
    if given == STREAM:
        yield InputImage(None, Path("stdin"))
        return
    if path.is_dir():
        if output is not None and real(output) == real(path):
            reason = f"-o {output} is the folder of the photos itself"
            raise UsageError(reason, "name another folder for the results", option="output")
        listing = list_files(path)
    elif path.exists() or path.is_symlink():  # of a link to nothing it is told as of any bad file
        yield InputImage(path, Path(path.name))
        return
    elif glob.has_magic(given):
        base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
        listing = _matching(base, path)
    else:
        raise DataError(f"{given}: no such file or folder")
    found = _without_earlier(base, [file for file in listing.files if is_image(file.name)], output, real)
    others = _tell_unread(given, listing, unread)
    if not found and base != path:
        raise DataError(f"{given}: no photo has such a name")
    if not found:
        raise DataError(f"{given} holds no photo ({others or ', '.join(sorted(IMAGE_SUFFIXES))})")
    yield from (InputImage(image, image.relative_to(base)) for image in found)


def _tell_unread(given: str, listing: Listing, unread: dict[Path, str]) -> str:
    """Note the photos that cannot be read, and tell in a line of them and in another of other files, which it gives."""
    raw = {file: reason for file in listing.files if (reason := why_unread(file.name))}
    unread |= raw | {path: why for path, why in listing.left_out.items() if is_image(path.name) or path.is_dir()}
    if raw:
        log.warning(f"{given}: photos that cannot be read: {tell_unread(raw)}")
    other = [file for file in listing.files if file not in raw and not is_image(file.name)]
    if other:
        log.info(f"{given}: no photos, and left out: {count_suffixes(other)}")
    return count_suffixes([*raw, *other])


def _matching(base: Path, pattern: Path) -> Listing:
    """The files that fit a pattern below ``base``; of pictures that fit and cannot be read, a warning tells."""
    unread: dict[Path, str] = {}
    matches = sorted(set(_expand(base, pattern.relative_to(base).parts, unread)))
    reasons = {path: why_not_a_file(path) for path in matches if not path.is_dir()}
    left_out = {path: reason for path, reason in unread.items() if path.is_dir()}
    left_out |= {path: reason for path, reason in reasons.items() if reason and is_image(path.name)}
    warn_left_out(pattern, left_out)
    return Listing([path for path, reason in reasons.items() if not reason], left_out)


def _expand(folder: Path, parts: Sequence[str], unread: dict[Path, str]) -> Iterator[Path]:
    """Paths that fit a pattern; ``**`` is any folders, each once, for ``glob`` would follow links in circles."""
    if "**" not in parts:
        yield from (folder / match for match in glob.iglob(os.path.join(*parts), root_dir=folder))
        return
    place = parts.index("**")
    for start in _expand(folder, parts[:place], unread) if place else [folder]:
        for below, _ in walk(start, unread) if start.is_dir() else ():
            yield from _expand(below, parts[place + 1 :] or ["*"], unread)


def _without_earlier(where: Path, pictures: Collection[Path], output: Path | None, real: RealPaths) -> list[Path]:
    """The images among pictures, without what an earlier call wrote."""
    results = None if output is None else os.path.join(real(output), "")
    images = [
        picture
        for picture in pictures
        if not _EARLIER.fullmatch(picture.name) and (results is None or not real(picture).startswith(results))
    ]
    if len(images) < len(pictures):
        log.info("%s: %d results of an earlier call are not taken for photos", where, len(pictures) - len(images))
    return images
