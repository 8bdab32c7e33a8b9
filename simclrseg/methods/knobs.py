"""What the knobs of a method of pretraining are made of."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le
from pydantic import BeforeValidator

from simclrseg.knobs.sections import Section


class MethodKnobs(Section):
    """The knobs of a method, which are a section of its name in YAML and flat on the command line.

    The docstring of a subclass is how texts and the help call the method. A knob that several methods have is written
    once, in a class that they inherit from, and may have a default in each.
    """

    METHOD: ClassVar[str]
    """``package.module:Class`` of the ``Method`` that takes these knobs."""
    DEFAULTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What the method has in place of the defaults of ``pretrain``, by section and key."""
    ABOUT: ClassVar[str] = ""
    """What there is to say of it in the help of ``--method``."""
    STEMS: ClassVar[tuple[str, ...]] = ("auto", "imagenet", "cifar")
    """The stems that its network can have."""

    @classmethod
    def title(cls) -> str:
        """How texts call the method."""
        return (inspect.getdoc(cls) or cls.__name__).splitlines()[0]

    def check_chosen(self) -> None:
        """Refuse by ValueError knobs with which the method, now that it is chosen, cannot be run."""


def _widths(value: Any) -> Any:
    """Take a number as a list of one, and 0 as an empty one."""
    widths = value if isinstance(value, list | tuple) else [value]
    return [] if list(map(str, widths)) == ["0"] else widths


Widths = Annotated[list[Annotated[int, Ge(1)]], BeforeValidator(_widths)]


class Projection(Section):
    """Knobs of a projection head."""

    projection_hidden: Widths = [512]
    """Width of a hidden layer of the projection head; repeat it for several, 0 for none."""
    projection_dim: Annotated[int, Ge(2)] = 128
    """Size of the embedding that the views are compared in."""


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


Temperature = Annotated[float, Ge(0.01), Le(10), BeforeValidator(_warm_enough)]


class Contrast(Section):
    """Knobs of a contrastive loss."""

    temperature: Temperature = 0.1
    """Temperature of the contrastive loss."""
