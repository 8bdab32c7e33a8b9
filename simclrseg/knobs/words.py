"""The one grammar of values that name parts of a table: ``bce+dice``, ``focal:3``."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from simclrseg.errors import suggestion
from simclrseg.registry import canonical


@dataclass(frozen=True)
class Word:
    """A name with the number or the name behind its colon, where there is one."""

    name: str
    number: float | None = None
    text: str = ""

    def arguments(self, parameters: Mapping[str, str | None]) -> dict[str, Any]:
        """The argument that the number sets, by what the numbers of names set; none where there is no number."""
        parameter = parameters[self.name]
        return {} if self.number is None or parameter is None else {parameter: self.number}


def canonical_words(text: str, names: Collection[str]) -> str:
    """The same text with its names spelled as they are known."""
    parts = (part.partition(":") for part in text.split("+"))
    return "+".join(canonical(name, names) + colon + rest for name, colon, rest in parts)


def parse_words(
    text: str, kind: str, parameters: Mapping[str, str | None], *, naming: Collection[str] = ()
) -> tuple[Word, ...]:
    """Read names with + between them, each with a number behind a colon where it takes one.

    Args:
        kind: what the names are of, as "loss".
        parameters: the names there are, each with what its number sets; None where it takes none.
        naming: those behind which a name stands in place of a number.

    Raises:
        ValueError: if a name is not known or stands twice, or a number is not one or has no use.
    """
    words = []
    for part in text.split("+"):
        name, colon, number = part.partition(":")
        name = canonical(name, parameters)
        if name not in parameters:
            raise ValueError(f"{name!r} is not a {kind}: {suggestion(name, parameters)}")
        if colon and parameters[name] is None:
            raise ValueError(f"{part!r}: {name} takes no number, leave it out")
        if name in naming:
            words.append(Word(name, text=number))
        else:
            words.append(Word(name, _number(part, number) if colon else None))
    if len({word.name for word in words}) < len(words):
        raise ValueError(f"{text!r} names a {kind} twice")
    return tuple(words)


def _number(part: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{part!r}: behind the colon stands a number, 0 or more")
    return number
