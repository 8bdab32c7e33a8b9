"""What photos hold beyond 8 bits, three channels and a single page: looked at over a set, and said."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from simclrseg.errors import some
from simclrseg.images.decode import blank_of, holds_several, is_hidden, may_be_blank, read_image, vague_range
from simclrseg.images.depth import Range, fits, in_words, whole_range
from simclrseg.images.listing import is_image
from simclrseg.labels.looking import look_at, sample

_LOOKED_AT = 1000  # images, evenly: a set's range shows in fewer
_DECODED = 20  # of those that may be transparent
_TRANSPARENT = (".png", ".tga", ".tif", ".tiff", ".webp")
_PAGED = (".tif", ".tiff", ".gif", ".webp")


def deep_photos(images: Sequence[Path], summary: list[str], reach: Range | None = None) -> dict[str, Any]:
    """The dataset's arguments where photos have more than 8 bits in files that do not state their range.

    The summary says of what was found how it is read: ranges, and alpha channels that hide whole photos.

    Args:
        reach: that range, where it is known already.
    """
    _tell_hidden(images, summary)
    looked_at = _some_of(images, (".png", ".tif", ".tiff"))
    found = [one for one in look_at(looked_at, vague_range) if one is not None]
    details = {} if reach is None else {"reach": reach, "read": partial(read_image, reach=reach)}
    details |= blanks(images, summary, reach)
    if not found:
        return details
    low, high = min(spread[0] for spread, _ in found), max(spread[1] for spread, _ in found)
    likely = whole_range(low, high, floating=all(floating for _, floating in found))
    scale = reach or likely
    line = f"photos of more than 8 bits: {in_words(low, high, scale)}" + (", as in training" if reach else "")
    if unfit := sum(not fits(*spread, scale) for spread, _ in found):
        how = "beyond it or nearly black" if reach else "nearly black"
        line += f", in which {unfit:,} of {len(found):,} are {how}"
    summary.append(line)
    return {"reach": scale, "read": partial(read_image, reach=scale)} | details


def blanks(images: Sequence[Path], summary: list[str], reach: Range | None) -> dict[str, Any]:
    """The dataset's argument where pixels may hold nothing, as TIFFs say of a value, and of NaN; and a line of it."""
    looked_at = _some_of(images, (".tif", ".tiff"))
    if not any(look_at(looked_at, may_be_blank)):
        return {}
    summary.append("pixels that hold nothing (the TIFFs' nodata, NaN) are ignored, whatever their masks say")
    return {"blank": partial(blank_of, reach=reach)}


def _tell_hidden(images: Sequence[Path], summary: list[str]) -> None:
    looked_at = _some_of(images, _TRANSPARENT, at_most=_DECODED)
    hidden = zip(looked_at, look_at(looked_at, is_hidden), strict=True)
    if names := [image.name for image, whole in hidden if whole]:
        count = f"{len(names):,} of {len(looked_at):,} looked at ({some(names, shown=2)})"
        summary.append(f"photos that their alpha channel hides as a whole, whose colours are taken: {count}")


def tell_pages(files: Sequence[Path], what: str, summary: list[str]) -> None:
    """Say which files hold several pages, of which the first alone is used."""
    looked_at = _some_of(files, _PAGED)
    paged = zip(looked_at, look_at(looked_at, holds_several), strict=True)
    if several := [file.name for file, more in paged if more]:
        names = some(several, shown=2)
        summary.append(f"{what} of several pages or frames, of which the first is used: {len(several):,} ({names})")


def _some_of(files: Sequence[Path], suffixes: Sequence[str], *, at_most: int = _LOOKED_AT) -> Sequence[Path]:
    """Some of those with such a suffix, or with none that says what they are, as of the Hub's tables."""
    return sample([file for file in files if file.suffix.lower() in suffixes or not is_image(file.name)], at_most)
