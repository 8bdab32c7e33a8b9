"""Learners, which ``fit`` trains and evaluation asks for predictions."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.engine.task import SeparableTask
from simclrseg.inference.tiling import Predict
from simclrseg.metadata import ModelMetadata
from simclrseg.models.normalize import Normalize
from simclrseg.system import distributed
from simclrseg.training.machine import Machine


class Learner(SeparableTask):
    """A network with its loss, which can be asked.

    Args:
        model: (N, bands, H, W) -> logits (N, classes, ...).
        metadata: of the network: its classes, and how pixels are normalised.
    """

    def __init__(self, model: nn.Module, metadata: ModelMetadata) -> None:
        self.model = model
        self.classes = metadata.classes
        self.normalize = Normalize(metadata.mean, metadata.std, metadata.full_scale)

    def logits(self, images: Tensor) -> Tensor:
        """(N, H, W, bands) as stored -> what the network gives."""
        logits: Tensor = self.model(self.normalize(images))
        return logits

    @abstractmethod
    def probabilities(self, images: Tensor) -> Tensor:
        """(N, S, S, bands) as stored -> float32 probabilities, in the shape of the target."""


def over_processes(matrix: np.ndarray, first: float, second: float) -> tuple[np.ndarray, float, float]:
    """A confusion matrix and two sums over all processes, from those of each."""
    matrix = distributed.total(torch.from_numpy(matrix)).numpy()
    first, second = distributed.total(torch.tensor([first, second], dtype=torch.float64)).tolist()
    return matrix, first, second


def predictor(learner: Learner, machine: Machine, *, batch_size: int) -> Predict:
    """The network as a function of images as stored, ``batch_size`` a forward pass, in float32 like an exported one."""

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        learner.model.to(machine.device).eval()  # each time: training leaves the model in its own mode
        return learner.probabilities(torch.from_numpy(images).to(machine.device)).cpu().numpy()

    return in_parts(predict, batch_size)


def in_parts(predict: Predict, batch_size: int) -> Predict:
    """The same, of so many images at once however many are asked about."""

    def in_turn(images: np.ndarray) -> np.ndarray:
        parts = np.split(images, range(batch_size, len(images), batch_size))
        return np.concatenate([predict(part) for part in parts])

    return in_turn
