"""Entries of the table of datasets: facts that are needed before one is opened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Companion:
    """The labelled set that weights are fine-tuned on where nothing else is named.

    Attributes:
        dataset: its name.
        task: what is learned from it, as ``--task`` has it; by default what that is by default.
    """

    dataset: str
    task: str = "segment"


@dataclass(frozen=True)
class Entry:
    """A dataset.

    Attributes:
        open: the function that opens it, as a ``Registry`` spells it.
        companion: of weights that were pretrained on it.
    """

    open: str
    companion: Companion
