"""Formats of exported files: facts that are needed before one is written or read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A kind of file that a trained model leaves PyTorch in.

    Attributes:
        exporter: the function that writes it, as a ``Registry`` spells it.
        reader: the function that says what is in such a file, path -> facts; it never imports torch.
        suffix: how its files' names end.
        next: the command that goes on with ``{file}``; ``{predict}`` is that of the model's task, and ``{finetune}``
            fine-tunes the file itself.
        backbones: whether the encoder of a pretraining run can be written too.
    """

    exporter: str
    reader: str
    suffix: str
    next: str
    backbones: bool = False
