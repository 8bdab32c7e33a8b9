"""When parts of a fine-tuned network begin to learn, and how fast."""

from __future__ import annotations

import logging
import math

from torch import nn

from simclrseg.engine.freezing import Freezing, Part
from simclrseg.engine.optimizers import stage_scales
from simclrseg.models.backbones import stages
from simclrseg.training.knobs import FinetuneTraining

log = logging.getLogger(__name__)


def freezing_of(training: FinetuneTraining, model: nn.Module, backbone: nn.Module) -> Freezing | None:
    """The schedule of ``--unfreeze``, told in a line; None where every layer trains from the start.

    The flags are left as in the last epoch: what then learns is what an optimizer has to know and memory has to hold.
    """
    if training.unfreeze == "all":
        return None
    if training.unfreeze == "head":
        parts = [Part("the encoder", [backbone], math.inf)]
        log.info("the encoder stays frozen and computes as in evaluation; all else learns")
    else:
        last, everything = training.unfreeze_epochs
        parts = [
            Part("the encoder", [backbone], everything),
            Part("its last stage", stages(backbone)[-1], last),
        ]
        _tell_steps(training)
    freezing = Freezing(model, parts)
    freezing.apply(freezing.complete)
    return freezing


def _tell_steps(training: FinetuneTraining) -> None:
    """Say what joins when; a warning where there are too few epochs to go step by step."""
    last, everything = training.unfreeze_epochs
    joins = {0: "all but the encoder"}
    joins[last] = "the encoder's last stage" if last else "all but the encoder's first stages"
    joins[everything] = "everything"
    first, *later = (f"{part} from epoch {after + 1}" for after, part in joins.items())
    line = ", ".join([first.replace(" from", " learns from"), *later])
    at_last, at_everything = training.unfreeze_at
    steps = 1 + (at_last > 0) + (at_everything > at_last)
    if len(joins) < steps:
        log.warning(f"{line}: too few epochs for the {steps} steps of --unfreeze progressive")
    else:
        log.info(line)


def scales_of(training: FinetuneTraining, backbone: nn.Module) -> dict[nn.Parameter, float]:
    """Factors of the learning rate for parameters of the encoder; none where all learn at the same rate."""
    assert training.encoder_lr_factor is not None  # it is resolved
    if training.encoder_lr_factor == training.layer_lr_factor == 1:
        return {}
    return stage_scales(
        stages(backbone), encoder_factor=training.encoder_lr_factor, layer_factor=training.layer_lr_factor
    )
