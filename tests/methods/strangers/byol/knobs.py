"""The knobs of BYOL."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt

from simclrseg.methods.knobs import MethodKnobs, Projection


class Knobs(Projection, MethodKnobs):
    """BYOL"""

    METHOD = "byol.method:BYOLMethod"
    DEFAULTS = {"training": {"optimizer": "adamw", "learning_rate": 1e-3}}

    projection_dim: Annotated[int, Ge(2)] = 32
    teacher_decay: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Decay of the teacher's average at the first step; it rises to 1."""
