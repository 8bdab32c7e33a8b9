"""A training step of SimCLR on the CPU: ours against lightly's example loop, and what the engine itself costs.

Run it on a quiet machine: ``python -m tests.benchmarks.train_step``. It needs the ``bench`` extra. lightly's loop gets
float images for nothing; ours starts from uint8 batches and normalises them. One table trains through ``fit`` and by a
bare loop of forward, backward and step, to which ``fit`` also adds that freed memory is kept; one line says how long
``fit`` waits for the loader where it reads JPEGs. Memory is measured on Linux only.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn

from simclrseg.data.augment import STRENGTHS
from simclrseg.data.cache import Where, cached
from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import TwoViews
from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.history import FileHistory
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import LARS, parameter_groups, sgd
from simclrseg.engine.runtime import autocast, choose_precision, freed_memory_kept
from simclrseg.engine.task import Batch, Logs, SeparableTask
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD
from simclrseg.methods.simclr.method import SimCLR
from simclrseg.models.backbones import build_backbone
from simclrseg.models.normalize import Normalize
from tests.benchmarks._common import compare, interleave, machine, make_jpegs, peak_memory, print_added_memory

BATCH, STEPS, EPOCHS, RATE = 32, 25, 2, 1e-3
CPU = torch.device("cpu")
LIGHTLY = "lightly's example loop, fp32"
PLAIN, CACHED = "plain micro-batches", "gradient caching"
BARE, KEPT = "bare loop", "bare loop, freed memory kept"


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
    task = SimCLR(build_backbone(backbone), Normalize(IMAGENET_MEAN, IMAGENET_STD))
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


class Plain(SeparableTask):
    """The loss as if it did not couple samples."""

    def __init__(self, task: SimCLR) -> None:
        self.model, self.task = task.model, task

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        return self.task.batch_loss(self.task.embed(batch), 0)


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


def epochs_of(size: int, batch: int, *, precision: str) -> dict[str, Callable[[], None]]:
    """Ways to train one ResNet-18 for some epochs: by hand, the same with freed memory kept, and through ``fit``.

    They share network and optimizer: where in memory weights lie costs more or less time too.
    """
    data = Ready(views(size, batch), STEPS, batch)
    task = simclr("resnet18")
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=RATE)

    def bare() -> None:
        """Forward, backward and step, and nothing else."""
        task.model.train()
        for epoch in range(EPOCHS):
            for inputs in data.epoch(epoch):
                with autocast(CPU, precision):
                    loss, _ = task.batch_loss(task.embed(inputs), 0)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

    def bare_with_memory_kept() -> None:
        with freed_memory_kept(CPU):
            bare()

    def through_fit() -> None:
        fit(task, data, optimizer=optimizer, schedule=lambda step: RATE, epochs=EPOCHS, device=CPU, precision=precision)

    return {BARE: bare, KEPT: bare_with_memory_kept, "fit": through_fit}


def overhead(size: int, *, precision: str, rounds: int, threads: int) -> None:
    """Print what ``fit`` adds to the bare loop, as a ratio, and in ms, which small steps show more exactly."""
    title = f"resnet18, {size} px, {EPOCHS} epochs of {STEPS} steps of batch {BATCH} x 2 views"
    step = compare(title, epochs_of(size, BATCH, precision=precision), rounds=rounds, threads=threads)
    small = interleave(epochs_of(32, 2, precision=precision), rounds=5 * rounds, threads=threads)
    steps = EPOCHS * STEPS
    added = [1e3 * (fit - bare) / steps for fit, bare in zip(small.seconds["fit"], small.seconds[KEPT], strict=True)]
    low, middle, high = statistics.quantiles(added, n=4)
    whole = 1e3 * step.median(KEPT) / steps
    print(
        f"fit adds {middle:.2f} ms to a step (quartiles {low:.2f} and {high:.2f}, in {len(added)} rounds of steps of "
        f"{1e3 * small.median(KEPT) / steps:.0f} ms): {middle / whole:.1%} of one of {whole:.0f} ms"
    )


def gradient_step(name: str, micro_batch: int, batch: int, *, size: int, precision: str) -> Callable[[], None]:
    return engine_step(
        "resnet18", views(size, batch), precision=precision, micro_batch=micro_batch, plain=name == PLAIN
    )


def waiting_for_data(folder: Path, *, where: Where, size: int, precision: str) -> float:
    """Share of the time of ResNet-18's epochs, with as many loader threads as cores."""
    files = make_jpegs(folder, 10 * BATCH)
    dataset = cached(FileDataset("jpegs", folder, files), range(len(files)), where=where)
    samples = TwoViews(dataset, range(len(files)), image_size=size, strengths=STRENGTHS["paper"], seed=0)
    loader = Loader(samples, batch_size=BATCH, shuffle=True, drop_last=True, threads=os.cpu_count() or 1)
    task = simclr("resnet18")
    optimizer = sgd(parameter_groups(task.model, 0.0), learning_rate=RATE)
    fit(
        task,
        loader,
        optimizer=optimizer,
        schedule=lambda step: RATE,
        epochs=3,
        device=CPU,
        precision=precision,
        observers=[FileHistory(folder)],
    )
    with open(folder / "timing.csv", newline="") as file:
        rows = list(csv.DictReader(file))[1:]  # the first epoch reads every photo for the first time
    return statistics.mean(float(row["data_seconds"]) / float(row["seconds"]) for row in rows)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--size", type=int, default=96, help="side of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        precision = choose_precision("auto", CPU)
        gradient_step(arguments.memory_of, 8, 16, size=arguments.size, precision=precision)()  # code paths and threads
        print_added_memory(gradient_step(arguments.memory_of, 64, 512, size=arguments.size, precision=precision))
        return
    times = {"rounds": arguments.rounds, "threads": arguments.threads}
    precision = choose_precision("auto", CPU)
    print(f"{machine()}; the default on this CPU is {precision}")
    overhead(arguments.size, precision=precision, **times)  # first: others leave blocks that glibc then keeps anyway
    for backbone in arguments.backbones:
        batch = views(arguments.size)
        variants = {
            LIGHTLY: lightly_step(backbone, arguments.size),
            "simclrseg, fp32": engine_step(backbone, batch, precision="fp32"),
            "simclrseg, bf16": engine_step(backbone, batch, precision="bf16"),
        }
        compare(f"{backbone}, {arguments.size} px, batch {BATCH} x 2 views", variants, **times)
    large = {"size": arguments.size, "precision": precision}
    variants = {name: gradient_step(name, 64, 512, **large) for name in (PLAIN, CACHED)}
    compare(f"resnet18, {arguments.size} px, batch 512, micro-batch 64", variants, **times)
    for name in variants:
        options = ["--size", str(arguments.size), "--threads", str(arguments.threads)]
        print(f"peak memory of {name}: {peak_memory('tests.benchmarks.train_step', name, *options)} MB")
    for where in ("none", "ram"):
        with tempfile.TemporaryDirectory() as folder:
            share = waiting_for_data(Path(folder), where=where, **large)
        print(f"resnet18, {arguments.size} px, 500x375 JPEGs, --cache {where}: {share:.1%} of the time waits for data")
    compare("step of the optimizer, ResNet-50 and head", optimizer_steps(), **times)


if __name__ == "__main__":
    main()
