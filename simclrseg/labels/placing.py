"""Labels and the images that they are drawn on: of one size, turned alike, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simclrseg.errors import DataError
from simclrseg.images.decode import image_header
from simclrseg.labels.labelled import Labelled, LabelledImage, left_out
from simclrseg.labels.looking import look_at
from simclrseg.labels.polygons import Object, Region, Ring, Runs

_AS_SHOWN = "take the photos that were labelled, as they were shown then"
_SLACK = 1  # pixels by which labels may leave their image without a word of it
_WIDEST = 1e6  # pixels of an object, parts of which may lie outside of its image


def place_on_images(found: Labelled) -> None:
    """Give each image its size, and points in pixels of it; a DataError names labels that do not lie on their image."""
    headers = look_at([one.image for one in found.images], image_header)
    known = [
        (one, header)
        for one, header in zip(found.images, headers, strict=True)
        if header is not None and one.objects is not None
    ]
    problems: list[tuple[Path, str]] = []
    _orient(known, found, problems)
    farthest = 0.0
    for one, (*upright, orientation) in known:
        size = _frames(upright, orientation)["stored" if one.turned_by != 1 else "upright"]
        if one.size not in (None, size):
            problems.append((one.source, f"{one.image.name} has {_text(one.size)} pixels there, but is {_text(size)}"))
            continue
        one.size, (height, width) = size, size
        if found.relative:  # which only polygons are
            one.objects = tuple(
                Object(each.label, tuple(part * [width, height] for part in each.parts if isinstance(part, np.ndarray)))
                for each in one.objects or ()
            )
        for part in _parts(one):
            if isinstance(part, Runs):
                if tuple(part.size) != size:
                    problems.append(
                        (
                            one.source,
                            f"run lengths for {_text(part.size)} pixels, but {one.image.name} is {_text(size)}",
                        )
                    )
                continue
            low, high = _extent(part)
            farthest = max(farthest, high.max())
            middle = (low + high) / 2
            if (middle < 0).any() or (middle > [width, height]).any() or (high - low).max() > _WIDEST:
                box = f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"
                problems.append((one.source, f"an object at {box}, outside of {one.image.name}, {_text(size)} pixels"))
    if problems:
        file, reason = problems[0]
        more = f" (labels that do not fit: {len(problems):,})" if len(problems) > 1 else ""
        raise DataError(f"{file}: {reason}{more}", _AS_SHOWN, path=file)
    if 0 < farthest <= 1 and not found.relative:
        file = found.images[0].source
        raise DataError(f"{file}: all points lie between 0 and 1, and {found.form} counts pixels", path=file)


def _orient(
    known: Sequence[tuple[LabelledImage, tuple[int, int, int]]], found: Labelled, problems: list[tuple[Path, str]]
) -> None:
    """Find out of photos with an EXIF orientation whether labels are drawn on them as they are stored, or shown.

    Sizes say it, and points; of photos whose labels fit both ways, those that fit one way only. As shown otherwise.
    """
    carrying = [(one, _frames(upright, turn), turn) for one, (*upright, turn) in known if turn != 1]
    fits: list[list[str]] = []
    for one, frames, _ in carrying:
        sizes = [one.size, *(part.size for part in _parts(one) if isinstance(part, Runs))]
        by_size = [how for how, frame in frames.items() if all(size in (None, frame) for size in sizes)]
        ends = [_extent(part)[1] for part in _parts(one) if not isinstance(part, Runs | Region) and not found.relative]
        end = np.max(ends, axis=0) if ends else np.zeros(2)
        inside = [how for how, frame in frames.items() if (end <= np.add(frame[::-1], _SLACK)).all()]
        both = [how for how in by_size if how in inside]
        if by_size and inside and not both:
            text = f"{_text(frames[by_size[0]])} pixels there, but points that lie outside of these, and in the photo"
            problems.append((one.source, f"{one.image.name} has {text} as its EXIF orientation turns it"))
        fits.append(both or by_size or ["upright"])
    sure = {how for (how, *others) in fits if not others}
    for (one, _, turn), ways in zip(carrying, fits, strict=True):
        if one.objects and len(ways) > 1 and len(sure) > 1:
            reason = (
                f"{one.image.name} has an EXIF orientation, and its labels fit it as it is stored and as it is seen"
            )
            raise DataError(f"{one.source}: {reason}", _AS_SHOWN, path=one.source)
        how = ways[0] if len(ways) == 1 else next(iter(sure), "upright")
        one.turned_by = turn if how == "stored" else 1
    what = "photos with an EXIF orientation, whose labels are taken as drawn on the photo as it is"
    stored = [one.image.name for one, *_ in carrying if one.turned_by != 1]
    shown = [one.image.name for one, *_ in carrying if one.turned_by == 1]
    found.notes += left_out(shown, f"{what} shown")
    found.notes += left_out(stored, f"{what} stored, and turned with it")


def _frames(upright: Sequence[int], orientation: int) -> dict[str, tuple[int, int]]:
    """(height, width) of an image as it is shown and as it is stored."""
    height, width = upright
    return {"upright": (height, width), "stored": (width, height) if orientation >= 5 else (height, width)}


def _parts(one: LabelledImage) -> list[Ring | Runs | Region]:
    return [part for each in one.objects or () for part in each.parts]


def _extent(part: Ring | Region) -> tuple[Ring, Ring]:
    """The least and the greatest x and y."""
    if isinstance(part, Region):
        low = np.array([part.left, part.top], np.float64)
        return low, low + part.pixels.shape[::-1]
    return part.min(axis=0), part.max(axis=0)


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
