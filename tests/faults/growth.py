"""What does not grow: memory, open files and threads of many predictions and epochs; and 100,000 files.

    python -m tests.faults.growth [predictions] [epochs] [files]

takes minutes, and prints a table: of 1,000 predictions with a model opened once and each time, of 200 epochs of each
kind of training, and for a folder of 100,000 files how long a command takes until its first result, and its memory.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from simclrseg.engine.history import EpochRecord
from tests.observers import Watcher

PREDICTIONS, EPOCHS, FILES = 1000, 200, 100_000
ALLOWED = 1.02


@dataclass(frozen=True)
class Use:
    """What this process holds: bytes in memory, open files, threads."""

    memory: int
    files: int
    threads: int


def in_use() -> Use:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return Use(pages * os.sysconf("SC_PAGE_SIZE"), files, threading.active_count())


def repeated(work: Callable[[], object], *, warm: int, count: int) -> tuple[Use, Use]:
    """What is held after a warm-up, and after so many times in all."""
    for _ in range(warm):
        work()
    first = in_use()
    for _ in range(count - warm):
        work()
    return first, in_use()


class Epochs(Watcher):
    """Looks at what is held when some epochs end."""

    def __init__(self, *epochs: int) -> None:
        super().__init__()
        self.looked_at, self.uses = epochs, list[Use]()

    def on_step(self, record: Any) -> None:
        """Remembers none."""

    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch in self.looked_at:
            self.uses.append(in_use())


def of_epochs(train: Callable[..., object], config: object, *, warm: int, last: int) -> tuple[Use, Use]:
    """What is held after one epoch, and after another."""
    epochs = Epochs(warm, last)
    train(config, observers=[epochs])
    first, second = epochs.uses
    return first, second


def trainings(runs: Path, epochs: int) -> dict[str, tuple[Callable[..., object], object]]:
    """A tiny training of each kind: its command, and what it takes."""
    from simclrseg.commands.finetune import finetune
    from simclrseg.commands.pretrain import pretrain
    from simclrseg.config.finetune import FinetuneConfig
    from simclrseg.config.pretrain import PretrainConfig
    from simclrseg.knobs.parsing import parse_config
    from tests.small import HARDWARE, SMALL_PRETRAIN, changed, in_runs

    data = {"dataset": ["shapes"], "image_size": 32, "max_images": 48}
    simclr = changed(changed(SMALL_PRETRAIN, "training", epochs=epochs, batch_size=16), "data", **data)
    painting = changed(simclr, "model", method="reconstruction", backbone="resnet18")
    labelled = {
        "data": {"dataset": "shapes", "image_size": 32, "max_images": 60},
        "model": {"pretrained": "none", "backbone": "resnet18"},
        "training": {"epochs": epochs, "batch_size": 8},
        "hardware": HARDWARE,
    }
    classes = changed(labelled, "model", task="classify", backbone="cnn")
    return {
        "simclr": (pretrain, parse_config(PretrainConfig, in_runs(simclr, runs))),
        "reconstruction": (pretrain, parse_config(PretrainConfig, in_runs(painting, runs))),
        "segment": (finetune, parse_config(FinetuneConfig, in_runs(labelled, runs))),
        "classify": (finetune, parse_config(FinetuneConfig, in_runs(classes, runs))),
    }


def write_many(folder: Path, count: int, *, masks: bool = False) -> None:
    """Write a folder of one small image under many names, linked, as the disk has no room for its copies."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    for name, pixels in {"images": image, **({"masks": mask} if masks else {})}.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            target = folder / name / f"{number:06d}.png"
            if number % 30_000 == 0:  # file systems count links in two bytes
                source = target
                Image.fromarray(pixels).save(target)
            else:
                os.link(source, target)


def watched(*words: str, folder: Path, done: Callable[[], bool]) -> tuple[float, float, int]:
    """Seconds until something is done, seconds until the command ends, which is then soon, and its bytes at most."""
    began = time.monotonic()
    command = [sys.executable, "-m", "simclrseg", *words]
    first, most = 0.0, 0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.05)
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                break
            most = max(most, pages * os.sysconf("SC_PAGE_SIZE"))
            if not first and done():
                first = time.monotonic() - began
                process.terminate()
    return first, time.monotonic() - began, most


def tell(name: str, first: Use, last: Use) -> None:
    growth = last.memory / first.memory
    files, threads = last.files - first.files, last.threads - first.threads
    print(
        f"{name:34} {first.memory >> 20:6} MB  {growth - 1:+7.2%}  files {files:+}  threads {threads:+}"
        f"  {'flat' if growth <= ALLOWED and files <= 0 and threads <= 0 else 'GROWS'}",
        flush=True,
    )


def of_predictions(folder: Path) -> None:
    import simclrseg
    from tests.inference.models import write_segmenter

    model = write_segmenter(folder / "model.onnx")
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(image).save(folder / "image.jpg")
    opened = simclrseg.load_model(model, device="cpu")
    ways: dict[str, Callable[[], object]] = {
        "opened once": lambda: opened.predict(folder / "image.jpg"),
        "opened each time": lambda: simclrseg.load_model(model, device="cpu").predict(folder / "image.jpg"),
    }
    for name, work in ways.items():
        tell(f"{PREDICTIONS:,} predictions, {name}", *repeated(work, warm=100, count=PREDICTIONS))


def of_trainings(folder: Path) -> None:
    for name, (train, config) in trainings(folder / "runs", EPOCHS).items():
        tell(f"{EPOCHS} epochs, {name}", *of_epochs(train, config, warm=20, last=EPOCHS))


def of_files(folder: Path) -> None:
    from tests.inference.models import write_segmenter

    write_segmenter(folder / "many.onnx")
    write_many(folder / "many", FILES, masks=True)
    out = folder / "out"
    small = ("--dry-run", "--image-size", "32")
    predict = ("predict", "many/images", "-o", "out", "--model", "many.onnx")
    pretrain = ("pretrain", "many/images", "--backbone", "cnn", *small)
    finetune = ("finetune", "many", "--pretrained", "none", "--backbone", "resnet18", *small)
    for command in (predict, pretrain, finetune):
        words = (*command, "--device", "cpu")
        before = os.times()
        first, whole, most = watched(*words, folder=folder, done=lambda: any(out.glob("[0-9]*.png")))
        shutil.rmtree(out, ignore_errors=True)
        after = os.times()
        busy = after.children_user + after.children_system - before.children_user - before.children_system
        print(
            f"{FILES:,} files, {words[0]:10} {first or whole:6.1f} s, {busy:6.1f} s of a core  {most >> 20:6} MB",
            flush=True,
        )


def main(*parts: str) -> None:
    every = {"predictions": of_predictions, "epochs": of_trainings, "files": of_files}
    for part in parts or every:
        with TemporaryDirectory() as folder:
            every[part](Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
