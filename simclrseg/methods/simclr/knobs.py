"""The knobs of SimCLR."""

from __future__ import annotations

from simclrseg.methods.knobs import Contrast, MethodKnobs, Projection


class Knobs(Contrast, Projection, MethodKnobs):
    """SimCLR"""

    METHOD = "simclrseg.methods.simclr.method:SimCLRMethod"
