"""Entries of the table of losses: facts that are needed before a loss is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Entry:
    """A loss of segmentation.

    Attributes:
        compute: the function, as a ``Registry`` spells it.
        logits: what it takes of a pixel: ``one``, of the foreground; ``each``, one a class; or ``any`` of both.
        parameter: the argument of the function that a number behind the name sets, as in ``focal:3``.
    """

    compute: str
    logits: Literal["one", "each", "any"] = "any"
    parameter: str | None = None
