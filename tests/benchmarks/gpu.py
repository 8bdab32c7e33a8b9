"""What a GPU is asked for: SimCLR and U-Net steps from JPEGs against bare steps on the device, inference, peak memory.

``.ci/gpu`` runs it part by part: ``python -m tests.benchmarks.gpu PART [--cpu] [--json FILE]``. JPEGs of 500x375 are
generated. ``--cpu`` goes the same ways at sizes that take seconds, and its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.files import find_preset
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.augment import PAIR_STRENGTHS, STRENGTHS
from simclrseg.data.cache import Where, cached
from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import MaskPairs, TwoViews
from simclrseg.engine.history import EpochRecord, Plan, StepRecord
from simclrseg.engine.loop import fit
from simclrseg.engine.optimizers import LARS, adam, parameter_groups
from simclrseg.engine.runtime import autocast, choose_device, choose_precision, compiled, describe
from simclrseg.engine.task import Batch, Task
from simclrseg.engine.task import Loader as Batches
from simclrseg.exporters.onnx import export_onnx
from simclrseg.inference.session import open_model
from simclrseg.knobs.parsing import read_config_file
from simclrseg.losses.segmentation import bce, total
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, ModelMetadata
from simclrseg.methods.simclr.method import SimCLR
from simclrseg.models.backbones import build_backbone
from simclrseg.models.normalize import Normalize
from simclrseg.models.segmenters import build_unet
from simclrseg.targets.segment.learner import Segmentation
from tests.benchmarks._common import machine, make_jpegs, print_table

RATE = 1e-3
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Scale:
    """Sizes of everything: for a GPU, or for a rehearsal.

    Attributes:
        photos: JPEGs on the disk; an epoch reads each several times.
        steps: of an epoch.
    """

    backbone: str
    side: int
    batch: int
    unet_side: int
    unet_batch: int
    photos: int
    steps: int


FULL = Scale("resnet50", 224, 256, 256, 32, photos=256, steps=30)
REHEARSAL = Scale("cnn", 32, 16, 32, 8, photos=24, steps=2)


@dataclass(frozen=True)
class Row:
    """A figure, with its unit, and what it is hoped to be."""

    name: str
    value: float
    unit: str = "images/s"
    aim: str = ""


class Clock:
    """Seconds of the last epoch, and the share of them in which the loop waited for a batch."""

    def on_start(self, plan: Plan) -> None:
        self.waited = 0.0

    def on_step(self, record: StepRecord) -> None:
        if record.epoch == EPOCHS:
            self.waited += record.data_seconds

    def on_epoch(self, record: EpochRecord) -> None:
        self.seconds = record.seconds

    def on_end(self) -> None: ...


EPOCHS = 3  # of which the last one is timed: files are read, kernels chosen, memory taken


class Ready:
    """A loader whose batch lies in memory."""

    def __init__(self, batch: Batch, steps: int) -> None:
        self.batch, self.steps, self.batch_size = batch, steps, len(batch["image"])

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for _ in range(start_step, self.steps):
            yield self.batch


class Bench:
    """The device, and the ways to train on it that are compared."""

    def __init__(self, scale: Scale, device: torch.device, folder: Path) -> None:
        self.scale, self.device, self.folder = scale, device, folder
        self.precision = choose_precision("auto", device)

    def trained(self, task: Task, batches: Batches, *, compile: bool = False) -> tuple[float, float]:
        """Images a second through the engine, and the share of the time that waits for data."""
        groups = parameter_groups(task.model, 0.0)
        make = LARS if isinstance(task, SimCLR) else adam
        clock = Clock()
        with compiled(task.model, enabled=compile):
            fit(
                task,
                batches,
                optimizer=make(groups, learning_rate=RATE),
                schedule=lambda step: RATE,
                epochs=EPOCHS,
                device=self.device,
                precision=self.precision,
                observers=[clock],
            )
        return len(batches) * batches.batch_size / clock.seconds, clock.waited / clock.seconds

    def bare(self, task: Task, loss_of: Callable[[], Tensor], images: int) -> float:
        """Images a second of forward and backward passes on tensors that lie on the device."""
        task.model.to(self.device).to(memory_format=torch.channels_last).train()

        def steps() -> float:
            began = time.perf_counter()
            for _ in range(self.scale.steps):
                with autocast(self.device, self.precision):
                    loss = loss_of()
                loss.backward()
                task.model.zero_grad()
            self.wait()
            return time.perf_counter() - began

        steps()
        return images * self.scale.steps / steps()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device).to(memory_format=torch.channels_last)

    def files(self, *, masks: bool) -> FileDataset:
        """JPEGs, each as often as an epoch needs; with a mask of where they are bright."""
        images = self.folder / "images"
        if not images.exists():
            images.mkdir()
            (self.folder / "masks").mkdir()
            for photo in make_jpegs(images, self.scale.photos):
                mask = (cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)
                cv2.imwrite(str(self.folder / "masks" / f"{photo.stem}.png"), mask)
        batch = self.scale.unet_batch if masks else self.scale.batch
        names = sorted(images.iterdir())
        photos = [names[place % len(names)] for place in range(batch * self.scale.steps)]
        pairs = [self.folder / "masks" / f"{photo.stem}.png" for photo in photos] if masks else []
        return FileDataset("jpegs", self.folder, photos, masks=pairs, classes=("background", "foreground") * masks)

    def views(self, where: Where) -> Loader:
        dataset = self.files(masks=False)
        dataset = cached(dataset, range(len(dataset)), where=where)
        samples = TwoViews(dataset, range(len(dataset)), image_size=self.scale.side, strengths=STRENGTHS["paper"])
        return Loader(samples, batch_size=self.scale.batch, shuffle=True, drop_last=True, threads=CORES)

    def simclr(self) -> SimCLR:
        torch.manual_seed(0)
        return SimCLR(build_backbone(self.scale.backbone), Normalize(IMAGENET_MEAN, IMAGENET_STD))

    def unet(self) -> tuple[Segmentation, ModelMetadata]:
        torch.manual_seed(0)
        scale = self.scale
        model = build_unet(build_backbone(scale.backbone), scale.backbone, 1)
        classes = ("background", "foreground")
        facts: dict[str, Any] = {"task": "segmentation", "decoder": "unet", "threshold": 0.5, "classes": classes}
        metadata = ModelMetadata(encoder=scale.backbone, image_size=scale.unet_side, **facts)
        metadata = metadata.model_copy(update={"mean": IMAGENET_MEAN, "std": IMAGENET_STD})
        return Segmentation(model, metadata, total([bce])), metadata


def simclr(bench: Bench) -> Iterator[Row]:
    """The aim of all: a GPU that computes the network and waits for nothing."""
    scale = bench.scale
    task = bench.simclr()
    images = bench.random(2 * scale.batch, 3, scale.side, scale.side)

    def loss() -> Tensor:
        return task.batch_loss(task.projected(images).view(scale.batch, 2, -1).float(), 0)[0]

    bare = bench.bare(task, loss, scale.batch)
    yield Row("forward and backward, random tensors", bare)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        yield Row("forward and backward, cuDNN's algorithms timed", bench.bare(task, loss, scale.batch))
    shape = (scale.batch, 2, scale.side, scale.side, 3)
    ready = Ready({"image": torch.randint(0, 256, shape, dtype=torch.uint8)}, scale.steps)
    through, _ = bench.trained(bench.simclr(), ready)
    yield Row("the engine, batches in RAM", through)
    for where in ("none", "ram"):
        loader = bench.views(where)
        for epoch in range(2):  # the first one reads the files
            began = time.perf_counter()
            for _ in loader.epoch(epoch):
                pass
            seconds = time.perf_counter() - began
        yield Row(f"loader alone, {CORES} threads, --cache {where}", len(loader) * scale.batch / seconds, aim=">= 3000")
        speed, waited = bench.trained(bench.simclr(), loader)
        yield Row(f"from JPEGs, --cache {where}", speed, aim=">= 3000")
        yield Row(f"from JPEGs, --cache {where}, to random tensors", speed / bare, "", ">= 0.9")
        yield Row(f"from JPEGs, --cache {where}, waits for data", waited, "of the time")


def compile(bench: Bench) -> Iterator[Row]:
    scale = bench.scale
    shape = (scale.batch, 2, scale.side, scale.side, 3)
    ready = Ready({"image": torch.randint(0, 256, shape, dtype=torch.uint8)}, scale.steps)
    began = time.perf_counter()
    speed, _ = bench.trained(bench.simclr(), ready, compile=True)
    yield Row("the engine, batches in RAM, --compile", speed)
    yield Row("compiling, and three epochs", time.perf_counter() - began, "s")


def unet(bench: Bench) -> Iterator[Row]:
    scale = bench.scale
    task, _ = bench.unet()
    images = bench.random(scale.unet_batch, 3, scale.unet_side, scale.unet_side)
    mask = torch.ones(scale.unet_batch, scale.unet_side, scale.unet_side, dtype=torch.uint8, device=bench.device)
    bare = bench.bare(task, lambda: total([bce])(task.model(images).float(), mask), scale.unet_batch)
    yield Row("U-Net step, forward and backward, random tensors", bare)
    dataset = bench.files(masks=True)
    pairs = cached(dataset, range(len(dataset)), where="ram", masks=True)
    strengths = PAIR_STRENGTHS["standard"]
    samples = MaskPairs(pairs, range(len(pairs)), image_size=scale.unet_side, strengths=strengths)
    loader = Loader(samples, batch_size=scale.unet_batch, shuffle=True, drop_last=True, threads=CORES)
    speed, waited = bench.trained(bench.unet()[0], loader)
    yield Row("U-Net step, from JPEGs and masks, --cache ram", speed)
    yield Row("U-Net step, to random tensors", speed / bare, "", ">= 0.9")
    yield Row("U-Net step, waits for data", waited, "of the time")


def inference(bench: Bench) -> Iterator[Row]:
    """By PyTorch, as in validation, and by ONNX Runtime, as in prediction."""
    side = bench.scale.unet_side
    task, metadata = bench.unet()
    task.model.to(bench.device).to(memory_format=torch.channels_last).eval()

    def speed(run: Callable[[], object], images: int) -> float:
        for _ in range(3):
            run()
        bench.wait()
        began = time.perf_counter()
        for _ in range(bench.scale.steps):
            run()
        bench.wait()
        return bench.scale.steps * images / (time.perf_counter() - began)

    for count in (8, 64):
        images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, device=bench.device)
        for precision in dict.fromkeys(["fp32", bench.precision]):
            with torch.inference_mode(), autocast(bench.device, precision):
                found = speed(partial(task.logits, images), count)
            yield Row(f"U-Net, PyTorch, {precision}, batches of {count}", found)
    path = bench.folder / "model.onnx"
    export_onnx(task.model, path, metadata)
    model = open_model(path, "auto" if bench.device.type == "cuda" else "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (8, side, side, 3)).astype(np.uint8)
    yield Row(f"U-Net, ONNX Runtime on {model.device}, batches of 8", speed(lambda: model.run(pictures), 8))


def memory(bench: Bench) -> Iterator[Row]:
    """Peak memory of the two presets, as a dry run finds it; where little is free they take smaller micro-batches."""
    bench.files(masks=True)
    for preset, command, kind, run in (
        ("simclr_pets", "pretrain", PretrainConfig, pretrain),
        ("pets_segmentation", "finetune", FinetuneConfig, finetune),
    ):
        tree = read_config_file(find_preset(preset), command)
        tree["data"]["dataset"] = [str(bench.folder / "images")] if command == "pretrain" else str(bench.folder)
        if command == "finetune":
            tree["model"]["pretrained"] = "none"
        if bench.device.type == "cpu":
            tree["data"]["image_size"], tree["model"]["backbone"] = bench.scale.side, bench.scale.backbone
            tree["training"]["batch_size"] = bench.scale.unet_batch
        tree["run"] = {"dry_run": True}
        tree["hardware"] = {"device": bench.device.type}
        tree["console"] = {"runs": str(bench.folder / "runs")}
        found = run(kind.model_validate(tree))
        yield Row(f"{preset}, micro-batch {found.micro_batch}: peak memory", float(found.memory.split()[0]), "GB")
        yield Row(f"{preset}, micro-batch {found.micro_batch}", found.images_per_second)


PARTS = {part.__name__: part for part in (simclr, compile, unet, inference, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--cpu", action="store_true", help="rehearse at small sizes")
    parser.add_argument("--batch", type=int, help="images of a step of SimCLR; 256 take 35 GB")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    arguments = parser.parse_args()
    scale = REHEARSAL if arguments.cpu else FULL
    scale = replace(scale, batch=arguments.batch or scale.batch)
    device = choose_device("cpu" if arguments.cpu else "cuda")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(scale, device, Path(folder))
        print(f"{machine()}\n{describe(device, bench.precision)}", flush=True)
        for row in PARTS[arguments.part](bench):
            rows.append(row)
            print(row, flush=True)
            if arguments.json:  # after each row: the next may take too long
                arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print_table(["row", "value", "unit", "aim"], [[row.name, f"{row.value:.4g}", row.unit, row.aim] for row in rows])


if __name__ == "__main__":
    main()
