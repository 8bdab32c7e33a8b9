"""The knobs of classification."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt

from simclrseg.targets.knobs import TargetKnobs


class Knobs(TargetKnobs):
    """Classification"""

    TARGET = "simclrseg.targets.classify.target:ClassificationTarget"
    OPENING = ("label_column",)

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Label smoothing: fraction of each label that is spread over all classes."""
