"""Which image gives which files: planned, and refused before anything is written. Never imports torch."""

from __future__ import annotations

import logging
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from simclrseg.errors import UsageError, some
from simclrseg.images.listing import IMAGE_SUFFIXES
from simclrseg.inference import OUTPUTS
from simclrseg.inference.inputs import STREAM, InputImage, RealPaths
from simclrseg.inference.outputs import Output

log = logging.getLogger(__name__)

_LONGEST = 255  # bytes of a file's name


@dataclass(frozen=True)
class Job:
    """An image and the files to write for it."""

    image: InputImage
    targets: Mapping[str, Path | None]  # by output, without files that are there and stay; None stands for stdout


def plan_outputs(
    images: Sequence[InputImage],
    endings: Mapping[str, str],
    output: str | None = None,
    *,
    others: Mapping[str, str] = MappingProxyType({}),
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
        others: of all outputs that there are, of which a message names one.
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
        jobs = _to_one_file(images, endings, output, others, joins=in_one_file)
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


def _to_one_file(
    images: Sequence[InputImage], endings: Mapping[str, str], output: str, others: Mapping[str, str], *, joins: bool
) -> list[Job]:
    """The jobs where ``-o`` names a file; ``joins`` where one can hold what is made of all images."""
    suffix = Path(output).suffix.lower()
    endings = dict(_meant(kind, ending, suffix) for kind, ending in endings.items())
    if not joins or len(endings) > 1:
        what = "several outputs" if joins else "several inputs or a folder"
        raise UsageError(f"-o {output} is one file, but there are {what}", "name a folder", option="output")
    ((kind, ending),) = endings.items()
    if suffix != ending:
        fitting = [f", or pass --as {name}" for name, other in others.items() if other == suffix and name != kind]
        remedy = f"name it {Path(output).with_suffix(ending)}{''.join(fitting[:1])}"
        raise UsageError(f"-o {output}: {kind} is written as {ending[1:].upper()}", remedy, option="output")
    return [Job(image, {kind: Path(output)}) for image in images]


def _meant(kind: str, ending: str, suffix: str) -> tuple[str, str]:
    """The output that a file's suffix asks for, which may be another form of the one that is named, and its suffix."""
    forms = [name for name in OUTPUTS if kind in (name, OUTPUTS[name].stands_for) and OUTPUTS[name].stands_for]
    return next(((name, suffix) for name in forms if suffix in OUTPUTS[name].suffixes), (kind, ending))


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


def names_a_file(output: str) -> bool:
    """Tell whether ``-o`` means a file: a suffix of an output or a picture, and no folder of that name."""
    is_folder = output.endswith(("/", os.sep)) or os.path.isdir(output)
    suffixes = IMAGE_SUFFIXES.union(*(kind.suffixes for kind in OUTPUTS.values()))
    return not is_folder and Path(output).suffix.lower() in suffixes


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    real = RealPaths()
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
