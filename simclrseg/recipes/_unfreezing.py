"""When parts of a fine-tuned network begin to learn, and how fast."""

from __future__ import annotations

import logging
import math

from torch import nn

from simclrseg.config.finetune import FinetuneTraining
from simclrseg.engine.freezing import Freezing, Part
from simclrseg.engine.optimizers import stage_scales
from simclrseg.models.backbones import stages

log = logging.getLogger(__name__)


def freezing_of(training: FinetuneTraining, model: nn.Module, backbone: nn.Module) -> Freezing | None:
    """What ``--unfreeze`` asks for, said in a line; None where everything learns from the start.

    The flags are left as in the last epoch: what then learns is what an optimizer has to know and memory has to hold.
    """
    if training.unfreeze == "all":
        return None
    if training.unfreeze == "head":
        parts = [Part("the encoder", [backbone], math.inf)]
        log.info("the head alone learns; the encoder computes as in evaluation")
    else:
        last, everything = training.unfreeze_epochs
        parts = [
            Part("the encoder", [backbone], everything),
            Part("its last stage", stages(backbone)[-1], last),
        ]
        log.info(
            f"the head learns from epoch 1, the encoder's last stage from epoch {last + 1}, "
            f"everything from epoch {everything + 1}"
        )
    freezing = Freezing(model, parts)
    freezing.apply(training.epochs - 1)
    return freezing


def scales_of(training: FinetuneTraining, backbone: nn.Module) -> dict[nn.Parameter, float]:
    """Factors of the learning rate for parameters of the encoder; none where all learn at the same rate."""
    if training.encoder_lr_factor == training.layer_lr_factor == 1:
        return {}
    return stage_scales(
        stages(backbone), encoder_factor=training.encoder_lr_factor, layer_factor=training.layer_lr_factor
    )
