"""Paths as files of labels write them, which may be in another case, or in other forms of letters, than on the disk."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path


def same_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two names have in common at their end."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


class Folders:
    """Finds paths whose names are in another case, or other forms of letters, by looking into each folder once."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, base: Path, parts: Iterable[str]) -> Path | None:
        """The file or folder at a path below ``base``; the exact one, if there is one, or None."""
        for part in parts:
            if part == "..":
                base = base.parent
            elif os.path.lexists(base / part):
                base = base / part
            elif name := self._in(base).get(plain(part)):
                base = base / name
            else:
                return None
        return base

    def _in(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            try:
                self._names[folder] = {plain(name): name for name in sorted(os.listdir(folder))}
            except OSError:  # no folder, or a closed one
                self._names[folder] = {}
        return self._names[folder]


def plain(name: str) -> str:
    """A name in any case and either form of its letters, to be compared."""
    return unicodedata.normalize("NFC", name).casefold()
