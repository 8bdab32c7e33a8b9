"""Every method, those of the strangers' packages beside this file too, on few small images."""

from __future__ import annotations

import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import simclrseg.methods
from simclrseg.data.augment import STRENGTHS
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.data.loader import Loader
from simclrseg.engine.task import Batch, Task
from simclrseg.methods.base import Method, Views, method_of
from simclrseg.methods.distillation.method import Teacher
from simclrseg.methods.knobs import MethodKnobs
from simclrseg.models.normalize import Normalize
from simclrseg.registry import FolderRegistry
from simclrseg.system import distributed

STRANGERS = Path(__file__).with_name("strangers")
"""What ``pip install`` would have put on the path: two packages, and the entry points by which they are found."""


def _found() -> dict[str, type[MethodKnobs]]:
    """The table as a process makes it that has the strangers on its path; the table of this process stays as it is."""
    sys.path.append(str(STRANGERS))
    try:
        table = FolderRegistry(
            "method", "simclrseg.methods", simclrseg.methods.__path__, "knobs:Knobs", group="simclrseg.methods"
        )
        for knobs in table.values():
            method_of(knobs())  # its modules are imported while they are on the path
        return dict(table)
    finally:
        sys.path.remove(str(STRANGERS))


METHODS = _found()


def make_method(name: str, **knobs: Any) -> Method[Any]:
    return method_of(METHODS[name](**knobs))


class Encoder(nn.Module):
    """An encoder in miniature, (N, 3, H, W) -> six feature maps, as segmentation networks take them."""

    out_channels = (3, 8, 8, 8, 8, 8)
    output_stride = 32

    def __init__(self) -> None:
        super().__init__()
        pairs = pairwise(self.out_channels)
        stages = (nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in pairs)
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


HALF = (0.5, 0.5, 0.5)
BEGUN = {"distilled_from": asdict(Teacher("cnn", "cnn", 3, "imagenet", HALF, HALF))}
"""What the environment of a run says that goes on: of a teacher that needs no file, as its weights are random."""


def make_task(name: str, **knobs: Any) -> Task:
    torch.manual_seed(0)
    method = make_method(name, **knobs)
    method.open(root=Path(), image_size=32, begun=BEGUN)
    return method.make_task(Encoder(), "miniature", Normalize(HALF, (0.25,) * 3))


def make_loader(name: str, *, images: int = 16, batch_size: int = 8) -> Loader:
    """This process's share of batches of generated images."""
    views = Views(Shapes(images), 32, STRENGTHS["seed"], seed=0, strict=True, threads=1)
    return Loader(
        make_method(name).make_samples(views, range(images)),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        threads=1,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def one_batch(name: str, size: int = 8) -> Batch:
    return next(make_loader(name, images=size, batch_size=size).epoch(0))
