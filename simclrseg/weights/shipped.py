"""What comes with the package: a small model that cuts out cats and dogs, and a photo to try it on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Shipped:
    """A fine-tuned model in the package.

    Attributes:
        name: what users type for it.
        file: its ONNX file; the model card, of the same name in Markdown, lies beside it.
        does: what it does, as a sentence goes on after "it".
        licence: under which it may be used.
    """

    name: str
    file: Path
    encoder: str
    method: str
    dataset: str
    epochs: int
    does: str
    licence: str


PETS = Shipped(
    name="pets-small",
    file=_FOLDER / "pets-small.onnx",
    encoder="tu-tf_efficientnet_lite0",
    method="finetune --unlabelled",
    dataset="oxford_pets",
    epochs=20,
    does="cuts out cats and dogs",
    licence="CC BY-SA 4.0",
)
PHOTO = _FOLDER / "example.jpg"
"""The photo: "Chelsea" by Stéfan van der Walt, CC0."""
EXAMPLE = "example"
"""The word for it among inputs."""


def shipped_file(name: str | None, root: Path) -> Path | None:
    """The file of the model in the package, where a name means it: a fine-tuned run of that name goes before."""
    return PETS.file if name == PETS.name and not (root / "finetune" / PETS.name).exists() else None


def photo_or(text: str) -> str:
    """The path of the photo where the word for it is given and no file has that name, else the text itself."""
    return str(PHOTO) if text == EXAMPLE and not os.path.lexists(text) else text
