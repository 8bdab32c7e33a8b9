"""Pictures by their names: what is one, and the files below a folder."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from simclrseg.errors import DataError, some
from simclrseg.runs.names import ENVIRONMENT
from simclrseg.runs.run import Run
from simclrseg.system.identify import why_not_a_file

log = logging.getLogger(__name__)

_SUFFIXES = "jpg jpeg jpe jfif png gif bmp tif tiff webp avif tga ppm pgm pbm pnm jp2 j2k"
_HEIC = frozenset({".heic", ".heif"})
READS_HEIC = find_spec("pillow_heif") is not None
NO_HEIC = "HEIC is not supported: `pip install 'simclrseg[heic]'`, or convert it to JPEG or PNG"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split()) | (_HEIC if READS_HEIC else frozenset())
_RAW = frozenset(f".{suffix}" for suffix in ["dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2", "pef", "srw"])
# Folders of thumbnails and of what was thrown away, in lower case.
_LITTER = frozenset(
    ["@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "lost+found"]
)


@dataclass(frozen=True)
class Listing:
    """The files below a folder that were asked for, and what is no file or cannot be opened."""

    files: list[Path]  # sorted by their path below the folder
    left_out: dict[Path, str]  # neither file nor folder, or out of reach -> why


def why_unread(name: str) -> str:
    """Why a photo is not read, by its suffix; empty for what is read, and for what is no photo."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _HEIC and not READS_HEIC:
        return NO_HEIC
    return "a camera's raw photo is not read: develop it to JPEG or TIFF" if suffix in _RAW else ""


def is_image(name: str) -> bool:
    """Tell whether a file's name has the suffix of a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_photo(name: str) -> bool:
    """Tell whether a file's name has the suffix of a picture, or of a photo that is not read."""
    return is_image(name) or why_unread(name) != ""


def unread_photos(files: Iterable[Path]) -> list[Path]:
    """The photos among files that are not read, but for those of which a picture of the same name lies beside them."""
    files = list(files)
    unread = [file for file in files if why_unread(file.name)]
    read = {file.with_suffix("") for file in files if is_image(file.name)} if unread else set()
    return [file for file in unread if file.with_suffix("") not in read]


def tell_unread(photos: Iterable[Path]) -> str:
    """Count photos that are not read by their suffix, and say why: ``3 .heic (HEIC is not supported: ...)``."""
    photos = sorted(photos)
    return f"{count_suffixes(photos)} ({'; '.join(dict.fromkeys(why_unread(photo.name) for photo in photos))})"


def count_suffixes(files: Iterable[Path]) -> str:
    """Files by their suffix: ``3 .heic, 1 .txt``."""
    counts = Counter(file.suffix.lower() or "without a suffix" for file in files)
    return some([f"{count:,} {suffix}" for suffix, count in counts.most_common()])


def list_images(folder: str | Path) -> list[Path]:
    """List the files of ``list_files`` that have the suffix of a picture."""
    return list_files(folder, is_image).files


def list_files(folder: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> Listing:
    """List the regular files below ``folder``, which may be missing, of the names that are ``wanted``.

    Links are followed, hidden files and folders skipped; what is left out is named and counted in one warning, and
    in one line what is put beside photos: thumbnails, what was thrown away, and runs of this tool.

    Raises:
        DataError: if the folder itself cannot be opened.
    """
    left_out: dict[Path, str] = {}
    litter: Counter[str] = Counter()
    found: list[tuple[str, Path]] = []
    for parent, names in walk(folder, left_out, litter):
        below = "" if parent == Path(folder) else f"{parent.relative_to(folder).as_posix()}/"
        found += [(below + name, parent / name) for name in names if wanted(name)]
    if reason := left_out.get(Path(folder)):
        raise DataError(f"{folder} cannot be opened: {reason}", path=folder)
    warn_left_out(folder, left_out)
    if litter:
        log.info(f"{folder}: left out: {', '.join(f'{count:,} {what}' for what, count in litter.most_common())}")
    return Listing([path for _, path in sorted(found)], left_out)


def walk(
    folder: str | Path, left_out: dict[Path, str], litter: Counter[str] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Visit ``folder`` and each folder below it once, wherever links lead, with the names of its files.

    Runs of this tool are passed over, but for ``folder`` itself: what they hold are plots.

    Args:
        left_out: gets what cannot be read, and why, as in a ``Listing``.
        litter: gets the pictures that are no photos of the user's, counted by where they are.
    """
    litter = Counter() if litter is None else litter
    seen = set()
    folders = [Path(folder)]
    while folders:
        parent = folders.pop()
        try:
            status = os.stat(parent)
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(parent) as entries:
                every = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:  # never there, or gone meanwhile
            continue
        except OSError as error:
            left_out[parent] = str(error.strerror)
            continue
        files, inner = [], []
        litter.update("._ files" for entry in every if entry.name.startswith("._") and is_image(entry.name))
        for entry in every:
            if entry.name.startswith("."):
                continue
            kind = _kind(entry)
            if kind == "file":
                files.append(entry.name)
            elif kind != "folder":
                left_out[parent / entry.name] = kind
            elif entry.name.lower() in _LITTER:
                _count_pictures(parent / entry.name, litter, f"in {entry.name}")
            elif not entry.name.startswith("__MACOSX"):
                inner.append(parent / entry.name)
        if parent != Path(folder) and ENVIRONMENT in files and "kind" in Run(parent).environment:
            _count_pictures(parent, litter, "in runs of this tool")  # as where a folder of photos is the current one
            continue
        folders.extend(reversed(inner))
        yield parent, files


def _count_pictures(folder: Path, litter: Counter[str], where: str) -> None:
    count = sum(is_image(name) for _, _, names in os.walk(folder) for name in names)
    if count:
        litter[f"picture{'s' if count > 1 else ''} {where}"] += count


def _kind(entry: os.DirEntry[str]) -> str:
    """``file``, ``folder``, or why it is neither; of most the system has told already."""
    with suppress(OSError):  # links in a circle
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
    return why_not_a_file(entry.path)


def warn_left_out(where: str | Path, left_out: Mapping[Path, str]) -> None:
    """Name the first and count all of what is left out, if anything is."""
    if left_out:
        first = min(left_out)
        log.warning(
            f"{where}: unreadable and left out: {len(left_out):,}; the first is {shown_path(first)}: {left_out[first]}"
        )


def shown_path(path: str | Path) -> str:
    """A path in one line, without bytes that a terminal cannot print."""
    name = os.fspath(path)
    return name if name.isprintable() else ascii(name)
