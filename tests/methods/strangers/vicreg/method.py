"""VICReg (Bardes et al. 2022): views agree, features vary, and do not vary together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simclrseg.engine.task import CoupledTask, Logs
from simclrseg.methods.base import JointEmbedding, JointEmbeddingTask
from simclrseg.models.backbones import feature_size
from simclrseg.models.heads import ProjectedEncoder, ProjectionHead
from simclrseg.models.normalize import Normalize
from simclrseg.system import distributed
from vicreg.knobs import Knobs


class VICReg(JointEmbeddingTask, CoupledTask):
    """Eq. 6 of the paper, with the means over features and views of its published code."""

    def __init__(self, backbone: nn.Module, normalize: Normalize, knobs: Knobs) -> None:
        hidden, out = knobs.projection_hidden, knobs.projection_dim
        expander = ProjectionHead(feature_size(backbone), hidden, out, last_norm=False)
        self.model = self.projected = ProjectedEncoder(backbone, expander)
        self.normalize = normalize
        self.knobs = knobs

    def batch_loss(self, embeddings: Tensor, step: int) -> tuple[Tensor, Logs]:
        first, second = distributed.gather(embeddings).unbind(1)  # (N, D) of all processes
        invariance = (first - second).square().mean()
        variance = (spread(first) + spread(second)) / 2
        covariance = redundancy(first) + redundancy(second)
        knobs = self.knobs
        loss = knobs.invariance * invariance + knobs.variance * variance + knobs.covariance * covariance
        return loss, {"invariance": invariance.detach(), "variance": variance.detach()}


def spread(z: Tensor) -> Tensor:
    """Hinge on the standard deviation of each feature (eq. 1)."""
    return torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def redundancy(z: Tensor) -> Tensor:
    """Squared covariances off the diagonal (eq. 4)."""
    centred = z - z.mean(0)
    matrix = centred.T @ centred / (len(z) - 1)  # (D, D)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]


class VICRegMethod(JointEmbedding[Knobs]):
    """VICReg (Bardes et al. 2022)."""

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> VICReg:
        return VICReg(backbone, normalize, self.knobs)
