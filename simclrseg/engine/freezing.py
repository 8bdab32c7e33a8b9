"""Parts of a network, and the epochs in which they learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Part:
    """Modules that begin to learn together.

    Attributes:
        name: what users call it, as "the encoder".
        modules: of the network; one inside another part's counts to the part that comes later.
        start: the first epoch, from 0, in which they learn; infinity for never.
    """

    name: str
    modules: Sequence[nn.Module]
    start: float


class Freezing:
    """Parts of a network that are frozen until their epoch; what is in no part learns all the time.

    A frozen part computes as in evaluation, with dropout off and the running statistics of batch norm, which stay as
    they are; its gradient is not computed, nor what would be kept for it, and an optimizer skips it. It has no
    optimizer state before its first epoch, so that momentum and bias correction begin there. Which parts learn follows
    from the epoch alone: there is nothing to save, and resuming is exact.

    Args:
        parts: outer ones before those inside them.
    """

    def __init__(self, model: nn.Module, parts: Sequence[Part]) -> None:
        self.model = model
        self.parts = tuple(parts)
        # by name, since batch norm is replaced by a twin where several processes train
        names = {id(module): name for name, module in model.named_modules()}
        self._names = [[names.get(id(module)) for module in part.modules] for part in parts]

    @property
    def complete(self) -> int:
        """The first epoch, from 0, in which all learns that ever does."""
        return int(max((part.start for part in self.parts if part.start < math.inf), default=0))

    def apply(self, epoch: int) -> None:
        """Freeze and unfreeze parts for an epoch, from 0, of a model in training mode."""
        for part, names in zip(self.parts, self._names, strict=True):
            learns = epoch >= part.start
            for name, module in zip(names, part.modules, strict=True):
                # a list of parameters that belongs to no module, as a transformer's tokens, has no name
                module = module if name is None else self.model.get_submodule(name)
                module.requires_grad_(learns).train(learns)
