"""Learners, which ``fit`` trains and evaluation asks for predictions."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from simclrseg.engine.task import SeparableTask
from simclrseg.inference.masks import Predict
from simclrseg.training.machine import Machine


class Learner(SeparableTask):
    """A network with its loss, which can be asked."""

    @abstractmethod
    def probabilities(self, images: Tensor) -> Tensor:
        """(N, S, S, bands) as stored -> float32 probabilities, in the shape of the target."""


def predictor(learner: Learner, machine: Machine, *, batch_size: int) -> Predict:
    """The network as a function of images as stored, for scoring: in float32, as the exported model computes.

    Args:
        batch_size: images per forward pass, however many are asked about.
    """

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        learner.model.to(machine.device).eval()  # each time: training leaves the model in its own mode
        return learner.probabilities(torch.from_numpy(images).to(machine.device)).cpu().numpy()

    return in_parts(predict, batch_size)


def in_parts(predict: Predict, batch_size: int) -> Predict:
    """The same, of so many images at once however many are asked about."""

    def in_turn(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), batch_size)
        return np.concatenate([predict(images[start : start + batch_size]) for start in starts])

    return in_turn
