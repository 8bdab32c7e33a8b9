"""Entries of the table of losses: facts that are needed before a loss is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Entry:
    """A loss of segmentation."""

    compute: str  # the function, as a ``Registry`` spells it
    logits: Literal["one", "each", "any"] = "any"  # of a pixel: of the foreground, one a class, or either
    weighs: bool = True  # whether it has a use for weights of classes where there is one logit a pixel
    parameter: str | None = None  # the argument that a number behind the name sets, as in ``focal:3``
