"""The knobs of dense contrast."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from simclrseg.knobs.values import KeyOnly
from simclrseg.methods.knobs import Contrast, MethodKnobs, Projection, Temperature


class Knobs(Contrast, Projection, MethodKnobs):
    """Dense contrast"""

    METHOD = "simclrseg.methods.dense.method:DenseMethod"
    DEFAULTS = {
        "data": {"image_size": 128, "augmentation": "seed"},
        "model": {"stem": "imagenet"},
        "training": {"optimizer": "adamw", "weight_decay": 1e-4, "epochs": 200, "batch_size": 256},
    }
    ABOUT = "128 px in batches of 256, adamw with weight decay 0.0001, 200 epochs"
    STEMS = ("imagenet",)  # its decoder needs these strides

    dense_weight: Annotated[float, Ge(0), Le(1), KeyOnly()] = 0.5
    """Weight of the contrast of places in the loss; that of whole photos has the rest."""
    dense_temperature: Annotated[Temperature, KeyOnly()] = 0.2
    """Temperature of the contrast of places."""
    places: Annotated[int, Ge(1), Le(1024), KeyOnly()] = 32
    """Places of each photo that are looked up in both views."""
    negatives: Annotated[int, Ge(1), KeyOnly()] = 4096
    """Most places of other photos that each is contrasted with."""
    apart: Annotated[float, Gt(0), Le(1), KeyOnly()] = 0.1
    """Distance from which places of one photo are contrasted, as a fraction of its diagonal."""
    overlap: Annotated[float, Ge(0), Le(1), KeyOnly()] = 0.1
    """Least fraction of the smaller crop that both views show; others are drawn again, and left out if that fails."""
