"""The knobs of VICReg."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from simclrseg.methods.knobs import MethodKnobs, Projection, Widths


class Knobs(Projection, MethodKnobs):
    """VICReg"""

    METHOD = "vicreg.method:VICRegMethod"
    DEFAULTS = {"training": {"optimizer": "adamw", "learning_rate": 1e-3}}

    projection_hidden: Widths = [64, 64]
    projection_dim: Annotated[int, Ge(2)] = 64
    invariance: Annotated[float, Gt(0)] = 25.0
    """Weight of the distance between two views."""
    variance: Annotated[float, Gt(0)] = 25.0
    """Weight of the variance of each feature."""
    covariance: Annotated[float, Gt(0)] = 1.0
    """Weight of the covariance between features."""
