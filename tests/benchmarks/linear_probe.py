"""What SimCLR has learned: a linear layer on the frozen features of a pretrained ResNet-18, and on random ones.

Both probes are `finetune --task classify --unfreeze head` with the same options, on the same split; the random encoder
has the stem of the pretrained one. Sets with a published test list keep it out of pretraining; of other folders,
pretraining also sees the photos, not the labels, of the random test part.

    SIMCLRSEG_DATA=<data> python -m tests.benchmarks.linear_probe [EPOCHS=200] [PROBE_EPOCHS=100] [DATASET ...]

A dataset is a name or a folder with one folder a class; by default cifar10 and eurosat, at 32 and 64 px.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks._common import machine, print_table

SIDES = {"cifar10": 32}  # others 64
PRETRAIN = shlex.split(
    "--backbone resnet18 --augmentation cifar --crop-scale 0.2 --batch-size 256 --temperature 0.2 --knn-every 0 "
    "--optimizer adamw --learning-rate 1e-3 --weight-decay 1e-4"
)
PROBE = shlex.split(
    "--task classify --unfreeze head --augmentation flip --batch-size 64 --optimizer adam --learning-rate 3e-3 "
    "--schedule cosine --weight-decay 0 --ema none"
)


def simclrseg(command: str, *options: str) -> None:
    subprocess.run([sys.executable, "-m", "simclrseg", command, *options], check=True)


def probe(dataset: str, folder: Path, name: str, epochs: int, *weights: str) -> dict[str, float]:
    """Test scores of a linear layer."""
    side = str(SIDES.get(Path(dataset).name, 64))
    options = ["--dataset", dataset, "--image-size", side, "--epochs", str(epochs), "--name", name, *weights]
    simclrseg("finetune", *PROBE, *options, "--runs", str(folder))
    scores: dict[str, float] = json.loads((folder / "finetune" / name / "test.json").read_text())["metrics"]
    return scores


def compare(dataset: str, folder: Path, epochs: int, probe_epochs: int) -> list[str]:
    """A row of the table."""
    start = time.perf_counter()
    side = str(SIDES.get(Path(dataset).name, 64))
    options = ["--dataset", dataset, "--image-size", side, "--epochs", str(epochs), "--name", "pretrained"]
    simclrseg("pretrain", *PRETRAIN, *options, "--runs", str(folder))
    seconds = time.perf_counter() - start
    random = probe(dataset, folder, "random", probe_epochs, "--pretrained", "none", "--backbone", "resnet18")
    learned = probe(dataset, folder, "learned", probe_epochs, "--pretrained", "pretrained")
    gain = 100 * (learned["accuracy"] - random["accuracy"])
    figures = [f"{100 * scores['accuracy']:.1f} % (F1 {scores['macro_f1']:.3f})" for scores in (random, learned)]
    return [Path(dataset).name, side, *figures, f"{gain:+.1f}", f"{seconds / 60:.0f}"]


def main(epochs: int = 200, probe_epochs: int = 100, *datasets: str) -> None:
    rows = []
    for dataset in datasets or ("cifar10", "eurosat"):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(dataset, Path(folder), epochs, probe_epochs))
    print(f"\n{machine()}; ResNet-18, {epochs} epochs of SimCLR, {probe_epochs} of a linear layer, seed 0")
    print_table(("dataset", "px", "random", "SimCLR", "points", "min to pretrain"), rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
