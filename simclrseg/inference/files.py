"""Which mask goes where: planned, and refused, before anything is written. Never imports torch."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from simclrseg.errors import DataError, UsageError
from simclrseg.images import IMAGE_SUFFIXES, list_images

log = logging.getLogger(__name__)

BESIDE = ".mask.png"  # ending of a mask that lies beside its photo


def plan_outputs(
    inputs: Sequence[str | Path], output: str | Path | None = None, *, overwrite: bool = False
) -> list[tuple[Path, Path]]:
    """Pair every photo with the mask to write; the folders need not exist yet.

    One photo and ``-o mask.png`` give that file. Any other output is a folder: photos go to ``<folder>/<stem>.png``,
    and the tree below a folder of photos is mirrored in it. Without an output the mask of ``a.jpg`` is ``a.mask.png``
    beside it.

    Args:
        inputs: photos and folders of photos; folders are searched recursively.
        output: a ``.png`` file or a folder; None for masks beside their photos.
        overwrite: masks that exist may be replaced; inputs never are.

    Raises:
        DataError: if an input is missing or a folder holds no photo.
        UsageError: if the output has not the form the inputs need, a mask exists, two photos would share one mask, or
            a mask would replace a photo.
    """
    if not inputs:
        raise UsageError("no photo to predict: name a file or a folder")
    target = None if output is None else Path(output)
    photos = list(_photos([Path(given) for given in inputs], target))
    one_file = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if target is None:
        plan = [(photo, photo.with_name(photo.stem + BESIDE)) for photo, _ in photos]
    elif _names_a_file(str(output)):
        if not one_file:
            raise UsageError(f"-o {output} is one file, but there are several inputs or a folder: name a folder")
        if target.suffix.lower() != ".png":
            raise UsageError(f"-o {output}: masks are written as PNG; name it {target.with_suffix('.png')}")
        plan = [(photos[0][0], target)]
    else:
        plan = [(photo, target / relative.with_suffix(".png")) for photo, relative in photos]
    _refuse_clashes(plan, overwrite=overwrite)
    return plan


def _photos(inputs: Sequence[Path], output: Path | None) -> Iterator[tuple[Path, Path]]:
    """Each photo once, with its path below the folder that was given."""
    seen: set[Path] = set()
    for given in inputs:
        if given.is_dir():
            if output is not None and output.resolve() == given.resolve():
                raise UsageError(f"-o {output} is the folder of the photos itself: name another folder for the masks")
            found = [(photo, photo.relative_to(given)) for photo in _photos_below(given, output)]
            if not found:
                raise DataError(f"{given} holds no photo ({', '.join(sorted(IMAGE_SUFFIXES))})")
        elif given.exists():
            found = [(given, Path(given.name))]
        else:
            raise DataError(f"{given}: no such file or folder")
        for photo, relative in found:
            if photo.resolve() not in seen:
                seen.add(photo.resolve())
                yield photo, relative


def _photos_below(folder: Path, output: Path | None) -> list[Path]:
    """The photos of a folder without the masks of an earlier call."""
    pictures = list_images(folder)
    photos = [
        picture
        for picture in pictures
        if not picture.name.endswith(BESIDE)
        and (output is None or not picture.resolve().is_relative_to(output.resolve()))
    ]
    if len(photos) < len(pictures):
        log.info("%s: %d masks of an earlier call are not taken for photos", folder, len(pictures) - len(photos))
    return photos


def _names_a_file(output: str) -> bool:
    """Whether ``-o`` means a file: an image's suffix, and no folder of that name."""
    return (
        not output.endswith(("/", os.sep))
        and Path(output).suffix.lower() in IMAGE_SUFFIXES
        and not Path(output).is_dir()
    )


def _refuse_clashes(plan: Sequence[tuple[Path, Path]], *, overwrite: bool) -> None:
    inputs = {photo.resolve() for photo, _ in plan}
    writer: dict[str, Path] = {}
    existing = []
    for photo, mask in plan:
        if mask.resolve() in inputs:
            raise UsageError(f"{mask} is itself an input: name another output")
        name = str(mask.resolve())
        # the file systems of macOS and Windows see no difference between upper and lower case
        other = writer.setdefault(name.casefold() if sys.platform in ("darwin", "win32") else name, photo)
        if other is not photo:
            raise UsageError(f"{other} and {photo} would both be written to {mask}: give them different outputs")
        if mask.is_dir():
            raise UsageError(f"{mask} is a folder: name another output")
        if mask.exists():
            existing.append(mask)
    if existing and not overwrite:
        which = f"{existing[0]} exists" if len(existing) == 1 else f"{existing[0]} and {len(existing) - 1} more exist"
        raise UsageError(f"{which}: nothing is replaced without --overwrite")
    for folder in {mask.parent for _, mask in plan}:
        _check_writable(folder)


def _check_writable(folder: Path) -> None:
    ancestor = folder
    while not ancestor.exists() and ancestor != ancestor.parent:
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise UsageError(f"{ancestor} is a file, so the folder {folder} cannot be made: name another output")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise UsageError(f"{ancestor} is not writable: name another output")
