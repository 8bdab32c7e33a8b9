"""Which image gives which files: found, planned and refused before anything is written. Never imports torch."""

from __future__ import annotations

import glob
import logging
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from simclrseg.errors import DataError, UsageError, some
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
from simclrseg.inference.outputs import Output
from simclrseg.system.files import why_not_a_file
from simclrseg.text import printable

log = logging.getLogger(__name__)

STREAM = "-"
"""The word for stdin and for stdout."""
_LONGEST = 255  # bytes of a file's name
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


class _Real:
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


@dataclass(frozen=True)
class Job:
    """An image and the files to write for it."""

    image: InputImage
    targets: Mapping[str, Path | None]  # by output, without files that are there and stay; None stands for stdout


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
    real = _Real()
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


def plan_outputs(
    images: Sequence[InputImage],
    endings: Mapping[str, str],
    output: str | None = None,
    *,
    one: bool = True,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> list[Job]:
    """Pair every image with the files to write; the folders need not exist yet.

    One image, one output and ``-o mask.png`` give that file; ``-o -``, and an image from stdin without ``-o``, give
    stdout. Any other ``-o`` is a folder: one output goes to ``<folder>/<stem>.png``, several to
    ``<folder>/<stem>.<output>.png``, and the tree below a folder of images is mirrored in it. Without ``-o`` the files
    are ``<stem>.<output>.png`` beside the image. Labels for a tool are named as it looks for them: after the image
    alone, or one file for all images, which every job has as its target.

    Args:
        endings: of each output's file, such as ``{"mask": ".png"}``.
        one: whether a single image was named, not a folder of one.
        overwrite: files that exist may be replaced; inputs never are.
        skip_existing: leave files that exist as they are and write the others.

    Raises:
        UsageError: if the output has not the form the inputs need, a file exists, two images would share one, or a
            file would replace an image.
    """
    single = one and len(images) == 1
    in_one_file = single or all(OUTPUTS[kind].joint for kind in endings)
    if output == STREAM or (output is None and [image.source for image in images] == [None]):
        if not in_one_file or len(endings) > 1:
            raise UsageError("stdout takes one output of one photo", "name a folder with -o", option="output")
        return [Job(image, dict.fromkeys(endings)) for image in images]
    places = [_place(image, output) for image in images]
    stems = [os.path.splitext(place)[0] for place in places]
    times = Counter(stems)
    alike = [times[stem] > 1 for stem in stems]
    if any(alike):
        shared = [image for image, other in zip(images, alike, strict=True) if other]
        log.info(f"{len(shared)} photos share a name but for the suffix, which their results keep too: {some(shared)}")
    if output is not None and names_a_file(output):
        jobs = _to_one_file(images, endings, output, joins=in_one_file)
    else:
        if output is None and any(image.source is None for image in images):
            raise UsageError("- among other inputs", "name a folder with -o", option="inputs")
        folder, several = common_folder(images, output), output is None or len(endings) > 1
        kinds = {kind: (OUTPUTS[kind], ending) for kind, ending in endings.items()}
        jobs = [
            Job(image, _names(place, kinds, folder, several=several, whole=whole))
            for image, place, whole in zip(images, places, alike, strict=True)
        ]
    for image, _, target in _targets(jobs):
        if (length := len(os.fsencode(target.name))) > _LONGEST:
            reason = f"{image}: the name of its result would have {length} bytes, and {_LONGEST} are possible"
            raise UsageError(reason, "rename it, or pass -o and one --as", option="output", path=image.source)
    _refuse_clashes(jobs)
    return _leave_existing(jobs, overwrite=overwrite, skip=skip_existing)


def _to_one_file(images: Sequence[InputImage], endings: Mapping[str, str], output: str, *, joins: bool) -> list[Job]:
    """The jobs where ``-o`` names a file; ``joins`` where one can hold what is made of all images."""
    suffix = Path(output).suffix.lower()
    endings = dict(_meant(kind, ending, suffix) for kind, ending in endings.items())
    if not joins or len(endings) > 1:
        what = "several outputs" if joins else "several inputs or a folder"
        raise UsageError(f"-o {output} is one file, but there are {what}", "name a folder", option="output")
    ((kind, ending),) = endings.items()
    if suffix != ending:
        others = [f", or pass --as {name}" for name in OUTPUTS if suffix in OUTPUTS[name].suffixes and name != kind]
        remedy = f"name it {Path(output).with_suffix(ending)}{''.join(others[:1])}"
        raise UsageError(f"-o {output}: {kind} is written as {ending[1:].upper()}", remedy, option="output")
    return [Job(image, {kind: Path(output)}) for image in images]


def _meant(kind: str, ending: str, suffix: str) -> tuple[str, str]:
    """The output that a file's suffix asks for, which may be another form of the one that is named, and its suffix."""
    forms = [name for name in OUTPUTS if kind in (name, OUTPUTS[name].stands_for) and OUTPUTS[name].stands_for]
    return next(((name, suffix) for name in forms if suffix in OUTPUTS[name].suffixes), (kind, ending))


def names_one_image(inputs: Sequence[str]) -> bool:
    """Tell whether the user named a single file, so that the output may be one too."""
    return len(inputs) == 1 and (inputs[0] == STREAM or (os.path.lexists(inputs[0]) and not Path(inputs[0]).is_dir()))


def _place(image: InputImage, output: str | None) -> Path:
    """Where results of an image lie, by its own name."""
    return image.source or image.relative if output is None else Path(output) / image.relative


def common_folder(images: Sequence[InputImage], output: str | None) -> Path:
    """Where a file for all images lies: in the folder of the results, or in the one that holds all images."""
    if output is not None:
        return Path(output)
    folders = {image.source.parent for image in images if image.source is not None}
    if len(folders) == 1:
        return folders.pop()
    try:
        return Path(os.path.commonpath([folder.absolute() for folder in folders]))
    except ValueError:  # Windows
        raise UsageError("the photos lie on several drives", "name a folder with -o", option="output") from None


def _names(
    path: Path, kinds: Mapping[str, tuple[type[Output], str]], folder: Path, *, several: bool, whole: bool
) -> dict[str, Path | None]:
    """The results' files by their kind; ``whole`` keeps the image's suffix in their names."""
    names: dict[str, Path | None] = {}
    for kind, (output, ending) in kinds.items():
        stem = path.name if whole and not output.named_as_image else path.stem
        # a mark tells the outputs of one image apart
        mark = f".{kind}" if several and ending != f".{kind}" and not output.named_as_image else ""
        target = folder / output.joint if output.joint else path.with_name(f"{stem}{mark}{ending}")
        if target in names.values():
            first = next(other for other, name in names.items() if name == target)
            reason = f"--as {first} and --as {kind} would both be written to {target}"
            raise UsageError(reason, "write them by two commands, to two folders", option="as", path=target)
        names[kind] = target
    return names


def _images(given: str, output: Path | None, unread: dict[Path, str], real: _Real) -> Iterator[InputImage]:
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


def _without_earlier(where: Path, pictures: Collection[Path], output: Path | None, real: _Real) -> list[Path]:
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


def names_a_file(output: str) -> bool:
    """Tell whether ``-o`` means a file: a suffix of an output or a picture, and no folder of that name."""
    is_folder = output.endswith(("/", os.sep)) or os.path.isdir(output)
    suffixes = IMAGE_SUFFIXES.union(*(kind.suffixes for kind in OUTPUTS.values()))
    return not is_folder and Path(output).suffix.lower() in suffixes


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    real = _Real()
    inputs = {real(job.image.source) for job in jobs if job.image.source is not None}
    writer: dict[str, InputImage | str] = {}
    joint = {kind for kind in OUTPUTS if OUTPUTS[kind].joint}
    for image, kind, target in _targets(jobs):
        name = real(target)
        if name in inputs:
            raise UsageError(f"{target} is itself an input", "name another output", option="output", path=target)
        owner = kind if kind in joint else image
        if sys.platform in ("darwin", "win32"):  # which see no difference in case, or in how an é is put together
            name = unicodedata.normalize("NFC", name).casefold()
        other = writer.setdefault(name, owner)
        if other is not owner:
            reason = f"{other} and {image} would both be written to {target}"
            raise UsageError(reason, "rename one, or give them different outputs", option="output", path=target)
        if os.path.isdir(target):
            raise UsageError(f"{target} is a folder", "name another output", option="output", path=target)
    for folder in {os.path.dirname(target) for _, _, target in _targets(jobs)}:
        check_writable(Path(folder))


def _targets(jobs: Iterable[Job]) -> Iterator[tuple[InputImage, str, Path]]:
    return ((job.image, kind, path) for job in jobs for kind, path in job.targets.items() if path is not None)


def _leave_existing(jobs: Sequence[Job], *, overwrite: bool, skip: bool) -> list[Job]:
    targets = dict.fromkeys(target for _, _, target in _targets(jobs))
    existing = [] if overwrite else [target for target in targets if target.exists()]
    if not existing:
        return list(jobs)
    if not skip:
        which = f"{existing[0]} exists" if len(existing) == 1 else f"{existing[0]} and {len(existing) - 1} more exist"
        raise UsageError(
            f"{which}: nothing is replaced without --overwrite, and --skip-existing leaves it out", option="overwrite"
        )
    there = set(existing)
    for target in dict.fromkeys(path for _, kind, path in _targets(jobs) if OUTPUTS[kind].joint and path in there):
        log.warning(f"{target} exists and stays as it is, whichever photos it holds: --overwrite makes it anew of all")
    return [
        Job(job.image, {kind: target for kind, target in job.targets.items() if target not in there}) for job in jobs
    ]


def check_writable(folder: Path) -> None:
    """Raise UsageError unless files can be written in a folder, which may not exist yet."""
    ancestor = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not ancestor.is_dir():
        reason = f"{ancestor} is a file, so the folder {folder} cannot be made"
        raise UsageError(reason, "name another output", option="output", path=ancestor)
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise UsageError(f"{ancestor} is not writable", "name another output", option="output", path=ancestor)
