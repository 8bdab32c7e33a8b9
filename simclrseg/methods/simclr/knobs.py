"""The knobs of SimCLR."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import BeforeValidator

from simclrseg.methods.knobs import MethodKnobs, Projection


def _warm_enough(value: Any) -> Any:
    try:
        cold = float(value) < 0.01
    except (OverflowError, TypeError, ValueError):
        return value  # what it must be is said elsewhere
    if cold:
        raise ValueError(
            f"{value} is too low: cosines divided by less than 0.01 differ by hundreds, so that each image learns from "
            "its nearest neighbour alone; take 0.01 or more, as 0.1"
        )
    return value


class Knobs(Projection, MethodKnobs):
    """SimCLR"""

    METHOD = "simclrseg.methods.simclr.method:SimCLRMethod"

    temperature: Annotated[float, Ge(0.01), Le(10), BeforeValidator(_warm_enough)] = 0.1
    """Temperature of the contrastive loss."""
