"""Looking at the files of a set before anything is read for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from simclrseg.errors import ImageError
from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads

T = TypeVar("T")

_FEW = 5


def sample(many: Sequence[T], count: int = _FEW) -> Sequence[T]:
    """So many of them at most, evenly: neighbours in a folder look alike."""
    return many[:: -(-len(many) // count) or 1]


def look_at(files: Sequence[Path], read: Callable[[Path], T]) -> list[T | None]:
    """What ``read`` says of each file; None where it raises ImageError, for the loader names the picture.

    One process does it, in threads, and tells the others.
    """

    def look(file: Path) -> T | None:
        with suppress(ImageError):
            return read(file)
        return None

    return distributed.from_main(lambda: map_in_threads(look, files))
