"""A training step of SimCLR on the CPU: ours against lightly's example loop, and what the engine itself costs.

Run it on a quiet machine: ``python -m tests.benchmarks.train_step``. It needs the ``bench`` extra. lightly's loop gets
float images for nothing; ours starts from uint8 batches and normalises them. The last table trains whole epochs
through ``fit``, records and observers included, against a bare loop of forward, backward and step.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator

import torch
import torchvision
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import nn

from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import LARS, parameter_groups, sgd
from simclrseg.engine.runtime import autocast, choose_precision
from simclrseg.engine.task import Batch, Loader
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD
from simclrseg.models.backbones import build_backbone
from simclrseg.tasks.simclr import SimCLR
from tests.benchmarks._common import interleave, machine, print_table

BATCH, RATE = 32, 1e-3
CPU = torch.device("cpu")
LIGHTLY = "lightly's example loop, fp32"


@dataclasses.dataclass
class Ready:
    """A loader whose batches lie in memory."""

    batch: Batch
    steps: int
    batch_size: int

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for _ in range(start_step, self.steps):
            yield self.batch


def simclr(backbone: str) -> SimCLR:
    torch.manual_seed(0)
    task = SimCLR(build_backbone(backbone), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    task.model.to(memory_format=torch.channels_last)
    return task


def views(size: int, batch: int = BATCH) -> Batch:
    return {"image": torch.randint(0, 256, (batch, 2, size, size, 3), dtype=torch.uint8)}


def engine_step(
    backbone: str, batch: Batch, *, precision: str, micro_batch: int | None = None, plain: bool = False
) -> Callable[[], None]:
    """The engine's step; ``plain`` micro-batches each have a loss of their own."""
    task = simclr(backbone)
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=RATE)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    passes = Passes(CPU, precision, 0)
    trained = Plain(task) if plain else task

    def run() -> None:
        accumulate_gradient(trained, batch, step=0, micro_batch=micro_batch, passes=passes, scaler=scaler)
        optimizer.step()
        optimizer.zero_grad()

    return run


class Plain:
    """A task that hides that its loss couples samples."""

    def __init__(self, task: SimCLR) -> None:
        self.model, self.training_loss = task.model, task.training_loss


def lightly_step(backbone: str, size: int) -> Callable[[], None]:
    """As in lightly's examples/pytorch/simclr.py: two forward passes, NTXentLoss, SGD."""
    torch.manual_seed(0)
    resnet = getattr(torchvision.models, backbone)()
    width = resnet.fc.in_features
    resnet.fc = nn.Identity()
    head = SimCLRProjectionHead(width, 512, 128)
    criterion = NTXentLoss()
    parameters = [*resnet.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=RATE, momentum=0.9)
    x0, x1 = torch.randn(BATCH, 3, size, size), torch.randn(BATCH, 3, size, size)

    def run() -> None:
        z0, z1 = head(resnet(x0)), head(resnet(x1))
        loss = criterion(z0, z1)
        loss.detach()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def bare_epoch(backbone: str, data: Loader, *, precision: str) -> Callable[[], None]:
    """Forward, backward and step, and nothing else."""
    task = simclr(backbone)
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=RATE)

    def run() -> None:
        task.model.train()
        for batch in data.epoch(0):
            with autocast(CPU, precision):
                loss, _ = task.training_loss(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def engine_epoch(backbone: str, data: Loader, *, precision: str) -> Callable[[], None]:
    task = simclr(backbone)
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=RATE)

    def run() -> None:
        fit(task, data, optimizer=optimizer, schedule=lambda step: RATE, epochs=1, device=CPU, precision=precision)

    return run


def optimizer_steps() -> dict[str, Callable[[], object]]:
    from lightly.utils.lars import LARS as LightlyLARS

    def prepared() -> nn.Module:
        model = simclr("resnet50").model
        for parameter in model.parameters():
            parameter.grad = 1e-3 * torch.randn_like(parameter)
        return model

    theirs, ours, floor = prepared(), prepared(), prepared()
    return {
        "lightly LARS": LightlyLARS(theirs.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-6).step,
        "simclrseg LARS": LARS(parameter_groups(ours, 1e-6), learning_rate=0.3).step,
        "torch SGD, fused": sgd(parameter_groups(floor, 1e-6), learning_rate=0.3).step,
    }


def compare(title: str, variants: dict[str, Callable[[], object]], *, rounds: int, threads: int) -> None:
    timings = interleave(variants, rounds=rounds, threads=threads)
    base = next(iter(variants))
    rows = [[name, f"{1e3 * timings.median(name):.1f}", f"{timings.ratio(name, base):.2f}x"] for name in variants]
    print(f"\n{title}, {threads} threads, medians of {rounds} rounds in turns")
    print_table(["variant", "ms", f"to {base}"], rows)
    print(timings.note())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--size", type=int, default=96, help="side of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    times = {"rounds": arguments.rounds, "threads": arguments.threads}
    precision = choose_precision("auto", CPU)
    print(f"{machine()}; the default on this CPU is {precision}")
    for backbone in arguments.backbones:
        batch = views(arguments.size)
        variants = {
            LIGHTLY: lightly_step(backbone, arguments.size),
            "simclrseg, fp32": engine_step(backbone, batch, precision="fp32"),
            "simclrseg, bf16": engine_step(backbone, batch, precision="bf16"),
        }
        compare(f"{backbone}, {arguments.size} px, batch {BATCH} x 2 views", variants, **times)
    batch = views(arguments.size, 128)
    variants = {
        "plain micro-batches": engine_step("resnet18", batch, precision=precision, micro_batch=16, plain=True),
        "gradient caching": engine_step("resnet18", batch, precision=precision, micro_batch=16),
        "the whole batch": engine_step("resnet18", batch, precision=precision),
    }
    compare(f"resnet18, {arguments.size} px, batch 128, micro-batch 16", variants, **times)
    data = Ready(views(arguments.size), 5, BATCH)
    variants = {
        "bare loop": bare_epoch("resnet18", data, precision=precision),
        "fit": engine_epoch("resnet18", data, precision=precision),
    }
    compare(f"resnet18, {arguments.size} px, 5 steps of batch {BATCH} x 2 views", variants, **times)
    compare("step of the optimizer, ResNet-50 and head", optimizer_steps(), **times)


if __name__ == "__main__":
    main()
