"""Which labelled images weights are fine-tuned on where the user names none, and the command that does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simclrseg.data.datasets import ENTRIES
from simclrseg.data.datasets.entries import Companion
from simclrseg.errors import UsageError
from simclrseg.hub.table import PUBLISHED
from simclrseg.runs.lookup import find_pretraining
from simclrseg.runs.names import RESERVED

FOLDER = "labelled"
LABELLED = {
    "segment": "a folder with images/ and masks/, or a set such as oxford_pets",
    "classify": "a folder with one folder a class, or a set such as cifar10",
}
"""Words for the values of ``--dataset``, by task."""


@dataclass(frozen=True)
class Following:
    """How weights are fine-tuned.

    Attributes:
        first: what to make before; empty where there is nothing to make.
        command: what to type then.
    """

    first: str
    command: str

    def __str__(self) -> str:
        return f"{self.first}, then: {self.command}" if self.first else self.command

    def markdown(self) -> str:
        """The same as a paragraph."""
        first = f"{self.first[:1].upper()}{self.first[1:]}, then:\n\n" if self.first else ""
        return f"{first}    {self.command}"


def companion_of(pretrained_on: str) -> Companion | None:
    """The labelled set that belongs to what weights were pretrained on; None where that is not of named sets only.

    Args:
        pretrained_on: the datasets with + between them, as metadata have it; the first one decides.
    """
    names = pretrained_on.split("+")
    return ENTRIES[names[0]].companion if set(names) <= ENTRIES.keys() else None


def following(pretrained: str, pretrained_on: str, *, options: str = "", decoder: bool = False) -> Following:
    """How to fine-tune weights.

    Args:
        pretrained: how ``--pretrained`` calls them, as a shell takes it.
        pretrained_on: as ``companion_of`` takes it.
        options: further ones, each with a space before it.
        decoder: whether a decoder was pretrained too, which segmentation can begin with.
    """
    command, first, more = "simclrseg finetune", "", " --init-decoder" if decoder else ""
    if (companion := companion_of(pretrained_on)) is None:
        command += f" --dataset {FOLDER}"
        first = f"put labelled images into {FOLDER}/images and {FOLDER}/masks"
    elif companion.task != Companion.task:
        command, more = f"{command} --task {companion.task}", ""
    return Following(first, f"{command} --pretrained {pretrained}{more}{options}")


def check_before_fetching(name: str, task: str, *, root: Path) -> None:
    """Refuse what ``labelled_set`` will refuse, as far as that is known of weights that are still to be fetched.

    Args:
        name, task: as ``labelled_set`` takes them.
        root: the folder of all runs.
    """
    if name == "none":
        labelled_set(name, "", task)
    elif name in PUBLISHED and (name in RESERVED or not find_pretraining(root, name, allow_unfinished=True)):
        labelled_set(name, PUBLISHED[name].dataset, task)


def labelled_set(name: str, pretrained_on: str, task: str) -> str:
    """The dataset to fine-tune weights on, where the user names none.

    Args:
        name: of the weights, as ``--pretrained`` has it.
        pretrained_on: as ``companion_of`` takes it; empty for random weights.
        task: what is to be learned, as ``--task`` has it.
    """
    companion = companion_of(pretrained_on)
    if companion is None:
        raise UsageError(
            f"--pretrained {name} does not say what to fine-tune on",
            f"name it with --dataset, {LABELLED[task]}",
            option="pretrained",
            value=name,
        )
    if companion.task != task:
        raise UsageError(
            f"--pretrained {name} is fine-tuned on {companion.dataset}, with --task {companion.task}",
            f"pass that, or name other images with --dataset, {LABELLED[task]}",
            option="pretrained",
            value=name,
        )
    return companion.dataset
