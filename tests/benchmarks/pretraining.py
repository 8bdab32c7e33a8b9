"""Pretraining as whole commands: ours against lightly-train's, both SimCLR of a ResNet-18 on the same photos.

    python -m tests.benchmarks.pretraining FOLDER... --peer ENVIRONMENT/bin/lightly-train

Run it on a quiet machine. lightly-train needs an environment of its own: ``pip install "lightly-train==0.18.*"``. Both
take turns with the same photos, batch, two views of 96 px, float32, epochs and number of threads or workers. A first
command of one step, on one batch of photos, is what it takes to start. Processor time is that of a command and all its
workers; both may write what they like.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks._common import machine, print_table

OURS, PEER = "simclrseg", "lightly-train"


def command(name: str, photos: Path, out: Path, arguments: argparse.Namespace, *, epochs: int) -> list[str]:
    size, batch, workers = arguments.size, arguments.batch, len(os.sched_getaffinity(0))
    if name == OURS:
        words = f"-m simclrseg pretrain --backbone resnet18 --image-size {size} --augmentation paper --epochs {epochs}"
        words += f" --batch-size {batch} --workers {workers} --device cpu --precision fp32 --knn-every 0"
        return [sys.executable, *words.split(), "--dataset", str(photos), "--runs", str(out)]
    return [
        *[str(arguments.peer), "pretrain", f"out={out}", f"data={photos}", "model=torchvision/resnet18"],
        *["method=simclr", f"epochs={epochs}", f"batch_size={batch}", f"num_workers={workers}"],
        *["accelerator=cpu", "precision=32-true", "seed=0", f"transform_args.image_size=[{size},{size}]"],
    ]


def timed(words: list[str], log: Path) -> tuple[float, float]:
    """Seconds by the clock, and of processors."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "LIGHTLY_TRAIN_EVENTS_DISABLED": "1"}
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit(f"{' '.join(words)} failed:\n{log.read_text(errors='replace')[-3000:]}")
    return seconds, used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="of JPEGs, at any depth")
    parser.add_argument("--peer", type=Path, default=Path(PEER), help="lightly-train's command")
    parser.add_argument("--photos", type=int, default=3000, help="at most, spread over all there are")
    parser.add_argument("--size", type=int, default=96, help="side of the views, in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = sorted(photo for folder in arguments.folders for photo in folder.rglob("*.jpg"))
    count = min(arguments.photos, len(found))
    cases = {"start": (arguments.batch, 1), f"{arguments.epochs} epochs": (count, arguments.epochs)}
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for case, (number, _) in cases.items():
            (Path(scratch) / case).mkdir()
            for place in range(number):
                photo = found[place * len(found) // number]
                shutil.copy(photo, Path(scratch) / case / f"{place:05d}.jpg")
        for turn in range(arguments.rounds):
            for case, (_, epochs) in cases.items():
                for name in (OURS, PEER) if turn % 2 == 0 else (PEER, OURS):
                    out = Path(scratch) / f"{name}-{case}-{turn}"
                    words = command(name, Path(scratch) / case, out, arguments, epochs=epochs)
                    figures = timed(words, Path(scratch) / "log")
                    shutil.rmtree(out, ignore_errors=True)
                    times.setdefault((case, name), []).append(figures)
                    print(f"{case}, {name}: {figures[0]:.1f} s, {figures[1]:.1f} s of processors", flush=True)
    print(f"\n{machine()}")
    rows = []
    for case in cases:
        for name in (OURS, PEER):
            own = [statistics.median(figures) for figures in zip(*times[case, name], strict=True)]
            pairs = zip(times[case, PEER], times[case, name], strict=True)
            ratios = [
                statistics.median(ratio)
                for ratio in zip(*((theirs[0] / ours[0], theirs[1] / ours[1]) for theirs, ours in pairs), strict=True)
            ]
            shown = [f"{own[0]:.1f}", f"{ratios[0]:.2f}x", f"{own[1]:.1f}", f"{ratios[1]:.2f}x"]
            rows.append([f"{case}, {name}", *shown])
    title = f"{count} photos, ResNet-18, {arguments.size} px, batch {arguments.batch}"
    print_table([title, "wall, s", f"to {PEER}", "processors, s", f"to {PEER}"], rows)


if __name__ == "__main__":
    main()
