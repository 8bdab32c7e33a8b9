"""SimCLR, as ``pretrain`` runs it."""

from __future__ import annotations

import math

from torch import nn

from simclrseg.methods.base import JointEmbedding
from simclrseg.methods.simclr.knobs import Knobs
from simclrseg.methods.simclr.task import SimCLR
from simclrseg.models.normalize import Normalize


class SimCLRMethod(JointEmbedding[Knobs]):
    """SimCLR (Chen et al. 2020)."""

    COLLAPSE = JointEmbedding.COLLAPSE.replace(" or", ",") + " or a higher --temperature"

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> SimCLR:
        return SimCLR(backbone, normalize, **self.knobs.model_dump())

    def outlook(self, batch_size: int) -> str:
        return f"chance level of the loss {math.log(2 * batch_size - 1):.2f}"

    def card_rows(self, batch_size: int) -> dict[str, str]:
        return {
            "batch": f"{batch_size} photos, each contrasted with all others",
            "temperature": str(self.knobs.temperature),
        }
