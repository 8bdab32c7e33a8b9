"""SimCLR as a task, around an encoder in miniature or a real one."""

from __future__ import annotations

import torch
from torch import nn

from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD
from simclrseg.methods.simclr.method import SimCLR
from simclrseg.models.backbones import build_backbone
from simclrseg.models.normalize import Normalize

HALF = (0.5, 0.5, 0.5)


class Backbone(nn.Module):
    """An encoder in miniature: its last stage is what counts."""

    out_channels = (3, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, self.stage(x)]


def small_simclr(**options: float) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(Backbone(), Normalize(HALF, HALF), projection_hidden=[16], projection_dim=8, **options)


def simclr(encoder: str = "resnet18") -> SimCLR:
    task = SimCLR(build_backbone(encoder), Normalize(IMAGENET_MEAN, IMAGENET_STD))
    task.model.to(memory_format=torch.channels_last)
    return task
