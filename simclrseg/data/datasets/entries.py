"""Entries of the table of datasets: facts that are needed before one is opened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Companion:
    """The labelled set, and the ``--task``, that weights are fine-tuned on where nothing else is named."""

    dataset: str
    task: str = "segment"


@dataclass(frozen=True)
class Entry:
    """A dataset: the function that opens it, as a ``Registry`` spells it, and the companion of weights made on it."""

    open: str
    companion: Companion
