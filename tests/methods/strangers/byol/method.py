"""BYOL (Grill et al. 2020): a student predicts what its own average, the teacher, sees in the other view."""

from __future__ import annotations

import copy
import math

import torch.nn.functional as F
from torch import Tensor, nn

from byol.knobs import Knobs
from simclrseg.engine.task import Batch, Logs, SeparableTask
from simclrseg.methods.base import JointEmbedding, JointEmbeddingTask
from simclrseg.models.backbones import feature_size
from simclrseg.models.heads import ProjectedEncoder, ProjectionHead
from simclrseg.models.normalize import Normalize


class Pair(nn.Module):
    """The student with its predictor, and the teacher: (N, C, H, W) -> what one predicts and the other sees, (N, D)."""

    def __init__(self, student: ProjectedEncoder, predictor: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.predictor = predictor
        self.teacher = copy.deepcopy(student).requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.predictor(self.student(images)), self.teacher(images)


class BYOL(JointEmbeddingTask, SeparableTask):
    """Eq. 2 of the paper in both directions; the teacher's batch norm has the student's running statistics."""

    def __init__(self, backbone: nn.Module, normalize: Normalize, knobs: Knobs) -> None:
        hidden, out = knobs.projection_hidden, knobs.projection_dim
        head = ProjectionHead(feature_size(backbone), hidden, out, last_norm=False)
        student = ProjectedEncoder(backbone, head)
        self.model = Pair(student, ProjectionHead(out, hidden, out, last_norm=False))
        self.projected, self.teacher = student, self.model.teacher
        self.normalize = normalize
        self.decay = knobs.teacher_decay

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        images = self.normalize(batch["image"].flatten(0, 1))  # (2n, C, H, W)
        predicted, target = (z.float().unflatten(0, (-1, 2)) for z in self.model(images))  # (n, 2, D)
        agreement = F.cosine_similarity(predicted, target.flip(1), dim=2)  # (n, 2)
        return (2 - 2 * agreement).sum(1).mean(), {"agreement": agreement.mean().detach()}

    def after_step(self, step: int, steps: int) -> None:
        decay = 1 - (1 - self.decay) * (math.cos(math.pi * step / steps) + 1) / 2
        for theirs, ours in zip(self.model.teacher.parameters(), self.model.student.parameters(), strict=True):
            theirs.lerp_(ours, 1 - decay)
        for theirs, ours in zip(self.model.teacher.buffers(), self.model.student.buffers(), strict=True):
            theirs.copy_(ours)


class BYOLMethod(JointEmbedding[Knobs]):
    """BYOL (Grill et al. 2020)."""

    ENCODER = "student.backbone."
    COLLAPSE = "a higher --teacher-decay or a lower --learning-rate"

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> BYOL:
        return BYOL(backbone, normalize, self.knobs)
