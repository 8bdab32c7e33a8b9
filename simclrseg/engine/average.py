"""A moving average of the weights over the steps of a run (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from simclrseg.engine.stored import require_fit


class WeightAverage:
    """Exponential average of a model's weights and of its floating-point buffers, such as batch norm's statistics.

    The decay of step t is at most (1 + t) / (10 + t), as in TensorFlow's ExponentialMovingAverage: at first the average
    follows closely, so that it never remembers the random weights of the beginning.

    Args:
        decay: d in average ← d · average + (1 - d) · weights, below 1.
        teacher: the part of the model that is an average of its own already, and is left out.
    """

    def __init__(self, model: nn.Module, decay: float, teacher: nn.Module | None = None) -> None:
        self._model = model
        self._decay = decay
        self._teacher = teacher
        self._average = {name: value.detach().clone() for name, value in self._floats().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the weights after this step, from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._average.values()), list(self._floats().values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the average for its weights inside the block, and its own again after it."""
        own = {name: value.clone() for name, value in self._floats().items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(own)

    def predict(self, images: Tensor) -> Tensor:
        """The model's answer with the average for its weights, in the mode that it is in."""
        answer: Tensor = functional_call(self._model, self._average, (images,))
        return answer

    def apply(self) -> None:
        """Give the model the average for good."""
        self._put(self._average)

    def state_dict(self) -> dict[str, Tensor]:
        return self._average

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the average of the same model."""
        require_fit(state, self._average, "average")
        for name, value in self._average.items():
            value.copy_(state[name])

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in self._floats().items():
            value.copy_(values[name])

    def _floats(self) -> dict[str, Tensor]:
        apart = tuple(f"{name}." for name, module in self._model.named_modules() if module is self._teacher)
        state = self._model.state_dict().items()
        return {name: value for name, value in state if value.is_floating_point() and not name.startswith(apart)}
