"""The knobs of segmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import AfterValidator

from simclrseg.knobs.values import Common, Completes, Tells
from simclrseg.knobs.words import canonical_words, parse_words
from simclrseg.losses import ENTRIES
from simclrseg.models import SEGMENTERS
from simclrseg.runs.names import RESERVED
from simclrseg.targets.knobs import TargetKnobs

PARAMETERS = {name: entry.parameter for name, entry in ENTRIES.items()}
"""The argument of each loss that the number behind its name sets."""


def _known_losses(text: str) -> str:
    made_for = {ENTRIES[word.name].logits: word.name for word in parse_words(text, "loss", PARAMETERS)}
    if {"one", "each"} <= set(made_for):
        one, each = made_for["one"], made_for["each"]
        raise ValueError(f"{text!r}: {one} is for one logit a pixel and {each} for one a class, take one of them")
    return canonical_words(text, PARAMETERS)


def _losses() -> str:
    numbered = ", ".join(f"{name}:{parameter}" for name, parameter in PARAMETERS.items() if parameter)
    return f"Names: {', '.join(PARAMETERS)}; with a number: {numbered}."


LossName = Annotated[str, AfterValidator(_known_losses), Completes("losses"), Tells(_losses)]


def _class_weights(text: str) -> str:
    if text == "auto":
        return text
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r} is neither auto nor numbers such as 0.5,2,1") from None
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"{text!r}: weights are 0 or more, and not all 0")
    return text


class Knobs(TargetKnobs):
    """Segmentation"""

    TARGET = "simclrseg.targets.segment.target:SegmentationTarget"
    OPENING = ("classes", "classes_file", "masks", "border", "mask_column", "unlabelled", "resize")

    loss: Annotated[LossName | None, Common()] = None
    """Loss, or a sum such as bce+dice; by default bce for two classes, ce for more."""
    class_weights: Annotated[str, AfterValidator(_class_weights)] | None = None
    """Weights of the classes in the loss: auto, which weighs rare classes more, or a number for each class, such as
    0.5,2,1."""
    decoder: Annotated[str, SEGMENTERS] | None = None
    """Decoder; by default unet, or dpt for a vision transformer."""
    init_decoder: bool = False
    """Start from the pretrained decoder too, which runs of reconstruction and dense have."""
    examples_every: Annotated[int, Ge(0)] = 5
    """Draw predictions on validation photos into examples.png every N epochs, and on test photos at the end; 0 for
    never."""

    def of_another_encoder(self) -> Mapping[str, Any]:
        return {"decoder": None} if self.decoder == "dpt" else {}

    def check_start(self, pretrained: str) -> None:
        if self.init_decoder and pretrained in RESERVED:
            raise ValueError(
                f"init_decoder: pretrained {pretrained} has no decoder; leave it out, or name a run of "
                "`simclrseg pretrain --method reconstruction` or dense"
            )
