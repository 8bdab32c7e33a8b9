"""The knobs of distillation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from simclrseg.knobs.values import BackboneName, KeyOnly, StartName
from simclrseg.methods.knobs import MethodKnobs


class Knobs(MethodKnobs):
    """Distillation"""

    METHOD = "simclrseg.methods.distillation.method:DistillationMethod"
    DEFAULTS = {
        "data": {"crop_scale": 0.14},
        "training": {"optimizer": "adamw", "learning_rate": 1e-3, "epochs": 100, "batch_size": 128, "clip": 1.0},
    }
    ABOUT = "crops from 0.14 on, adamw at 0.001, clip 1, batches of 128, 100 epochs"

    teacher: StartName | None = None
    """Network whose sight of the photos is learned, needed for distillation: imagenet, dinov2, dinov3, the name of a
    pretraining run or of a published backbone, a file, a run folder, or hf:owner/repo[/file][@revision]."""
    teacher_backbone: Annotated[BackboneName | None, KeyOnly()] = None
    """Encoder of the teacher; by default that of its weights, or the usual one of their name."""
    queue: Annotated[int, Ge(2), Le(65_536), KeyOnly()] = 1024
    """Past photos, as the teacher saw them, that a photo is compared with, at most half of those there are; of many
    photos up to 8,192 help."""
    similarity_temperature: Annotated[float, Ge(0.01), Le(10), KeyOnly()] = 0.07
    """Temperature of the similarities that are learned, of photos and of places."""
    place_weight: Annotated[float, Ge(0), KeyOnly()] = 1.0
    """Weight of the loss over the places of a photo, beside 1 of that over photos."""
    finer: Annotated[float, Ge(0), KeyOnly()] = 0.5
    """Weight, in the loss over places, of the student's map before the last, which a U-Net takes too."""

    def check_chosen(self) -> None:
        if self.teacher in (None, "none"):
            raise ValueError(
                "teacher is not given, and distillation has none of its own: name one, as dinov2 or imagenet"
            )
