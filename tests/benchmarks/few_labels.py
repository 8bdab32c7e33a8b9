"""Scores from few labels: the defaults, and what unlabelled photos and other starts add to them.

Goes through a list of trainings, one after the other, skips what is done, and writes each result to RESULTS at once:
stop it and start it again as you like, and give several processes rows of their own. U-Nets on Oxford Pets have their
IoU on the official test list at the training's resolution, border counted as pet; a baseline has the steps of the
automatic length and, as ``long``, those of its rival; differences have intervals over the test photos and, of several
seeds, over both, and are taken where FOLDER has both runs. In small: classes of EuroSAT, by their accuracy, and how
well CIFAR-10 is told from it; Pascal VOC, by its mean IoU.

    SIMCLRSEG_DATA=<data> python -m tests.benchmarks.few_labels FOLDER [RESULTS=tests/benchmarks/few_labels.json] \
        [ROW ...]

FOLDER keeps the runs. A ROW is a name of the list. few_labels_table.py writes the rows of the documents.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simclrseg.scores.intervals import student_t
from tests.benchmarks._common import machine, print_table

DATA = Path(os.environ.get("SIMCLRSEG_DATA", "."))
SEEDS = range(3)
SIZE, LARGE = 96, 128
SCRATCH = "finetune oxford_pets --backbone resnet18 --image-size"
SMALL = f"{SCRATCH} {SIZE}"
LITE0 = "tu-tf_efficientnet_lite0"
LITE = f"finetune oxford_pets --backbone {LITE0} --image-size {SIZE} --pretrained {{weights}}"
OTHERS = "--unlabelled oxford_pets --unlabelled {more} --unlabelled cats_vs_dogs"
PRETRAIN = (
    "pretrain --dataset oxford_pets --dataset {more} --dataset cats_vs_dogs "
    f"--image-size {SIZE} --epochs 60 --optimizer adamw --batch-size 128 --knn-every 0 --backbone"
)
PRETRAIN_SMALL = f"{PRETRAIN} resnet18 --stem imagenet"
EUROSAT = "finetune eurosat --task classify --backbone resnet18 --image-size 64 --data-ratio 0.1 --epochs 200"
VOC = f"finetune voc --backbone resnet18 --image-size {SIZE}"
STARTED = f"finetune oxford_pets --image-size {SIZE} --pretrained"
UNBALANCED = "--set consistency.balance=false"
RESNET50 = "finetune oxford_pets --backbone resnet50 --image-size 256 --data-ratio 0.2 --epochs 107"
"""Half of the automatic length."""
PLAIN = "--augmentation flip --ema none --learning-rate 2e-3 --weight-decay 0.01"
"""The recipe of the plain script."""
ALL = "all"
"""What takes all seeds of a comparison together."""
TWICE = "--epochs {twice}"
"""The number of epochs that --unlabelled has by itself."""
TRAININGS = {
    "scratch 20 %, 128 px": f"{SCRATCH} {LARGE} --data-ratio 0.2",
    "plain script 20 %, 128 px": "0.2",
    "scratch 5 %, 128 px": f"{SCRATCH} {LARGE} --data-ratio 0.05",
    "plain script 5 %, 128 px": "0.05",
    "scratch 100 %, 128 px": f"{SCRATCH} {LARGE}",
    "plain script 100 %, 128 px": "1",
    "resnet50 20 %, 256 px": RESNET50,
    "resnet50 plain recipe 20 %, 256 px": f"{RESNET50} {PLAIN}",
    "scratch 5 %": f"{SMALL} --data-ratio 0.05",
    "scratch 20 %": f"{SMALL} --data-ratio 0.2",
    "lite0 5 %": f"{LITE} --data-ratio 0.05",
    "lite0 unlabelled 5 %": f"{LITE} --data-ratio 0.05 {OTHERS}",
    "scratch unlabelled 20 %": f"{SMALL} --data-ratio 0.2 {OTHERS}",
    "scratch long 20 %": f"{SMALL} --data-ratio 0.2 {TWICE}",
    "scratch unlabelled 5 %": f"{SMALL} --data-ratio 0.05 {OTHERS}",
    "scratch unlabelled 5 %, no balance": f"{SMALL} --data-ratio 0.05 {OTHERS} {UNBALANCED}",
    "lite0 unlabelled 5 %, no balance": f"{LITE} --data-ratio 0.05 {OTHERS} {UNBALANCED}",
    "lite0 unlabelled 20 %, no balance": f"{LITE} --data-ratio 0.2 {OTHERS} {UNBALANCED}",
    "scratch long 5 %": f"{SMALL} --data-ratio 0.05 {TWICE}",
    "lite0 long 5 %": f"{LITE} --data-ratio 0.05 {TWICE}",
    "lite0 20 %": f"{LITE} --data-ratio 0.2",
    "lite0 unlabelled 20 %": f"{LITE} --data-ratio 0.2 {OTHERS}",
    "lite0 long 20 %": f"{LITE} --data-ratio 0.2 {TWICE}",
    "pretraining": PRETRAIN_SMALL,
    "simclr 5 %": f"{STARTED} pretraining-s{{seed}} --data-ratio 0.05",
    "simclr 20 %": f"{STARTED} pretraining-s{{seed}} --data-ratio 0.2",
    "simclr unlabelled 5 %": f"{STARTED} pretraining-s{{seed}} --data-ratio 0.05 {OTHERS}",
    "simclr unlabelled 20 %": f"{STARTED} pretraining-s{{seed}} --data-ratio 0.2 {OTHERS}",
    "distillation": (
        f"{PRETRAIN_SMALL} --method distillation --teacher {{weights}} --set distillation.teacher_backbone={LITE0}"
    ),
    "distilled 5 %": f"{STARTED} distillation-s{{seed}} --data-ratio 0.05",
    "distilled 20 %": f"{STARTED} distillation-s{{seed}} --data-ratio 0.2",
    "distilled unlabelled 5 %": f"{STARTED} distillation-s{{seed}} --data-ratio 0.05 {OTHERS}",
    "distilled unlabelled 20 %": f"{STARTED} distillation-s{{seed}} --data-ratio 0.2 {OTHERS}",
    "dense": f"{PRETRAIN_SMALL} --method dense",
    "dense 5 %": f"{STARTED} dense-s{{seed}} --init-decoder --data-ratio 0.05",
    "dense 20 %": f"{STARTED} dense-s{{seed}} --init-decoder --data-ratio 0.2",
    "continued": f"{PRETRAIN} {LITE0} --init {{weights}}",
    "continued 5 %": f"{STARTED} continued-s{{seed}} --data-ratio 0.05",
    "continued 20 %": f"{STARTED} continued-s{{seed}} --data-ratio 0.2",
    "scratch 100 %": SMALL,
    "lite0 100 %": LITE,
    "eurosat pretraining": (
        "pretrain --dataset eurosat --backbone resnet18 --stem imagenet --image-size 64 --epochs 200 --optimizer adamw "
        "--batch-size 128 --knn-every 0"
    ),
    "eurosat none": EUROSAT,
    "eurosat simclr": f"{EUROSAT} --pretrained eurosat-pretraining-s{{seed}}",
    "eurosat simclr progressive": f"{EUROSAT} --pretrained eurosat-pretraining-s{{seed}} --unfreeze progressive",
    "voc pretraining": (
        f"pretrain --dataset voc --method reconstruction --backbone resnet18 --image-size {SIZE} --epochs 200"
    ),
    "voc none": VOC,
    "voc reconstruction": f"{VOC} --pretrained voc-pretraining-s{{seed}} --init-decoder",
}
"""Command of each training by its name; of the plain script, the fraction of the development photos."""
COMPARISONS = {
    "resnet50 20 %, 256 px": ("resnet50 plain recipe 20 %, 256 px",),
    "scratch unlabelled 5 %": ("scratch 5 %", "scratch long 5 %"),
    "scratch unlabelled 20 %": ("scratch 20 %", "scratch long 20 %"),
    "lite0 unlabelled 5 %": ("lite0 5 %", "lite0 long 5 %"),
    "lite0 unlabelled 20 %": ("lite0 20 %", "lite0 long 20 %"),
    "scratch unlabelled 5 %, no balance": ("scratch 5 %", "scratch unlabelled 5 %"),
    "lite0 unlabelled 5 %, no balance": ("lite0 5 %", "lite0 unlabelled 5 %"),
    "lite0 unlabelled 20 %, no balance": ("lite0 20 %", "lite0 unlabelled 20 %"),
    "simclr 5 %": ("scratch 5 %",),
    "simclr 20 %": ("scratch 20 %",),
    "simclr unlabelled 5 %": ("simclr 5 %", "scratch 5 %", "scratch long 5 %"),
    "simclr unlabelled 20 %": ("simclr 20 %", "scratch 20 %", "scratch long 20 %"),
    "distilled 5 %": ("scratch 5 %",),
    "distilled 20 %": ("scratch 20 %",),
    "distilled unlabelled 5 %": ("distilled 5 %", "scratch 5 %", "scratch long 5 %"),
    "distilled unlabelled 20 %": ("distilled 20 %", "scratch 20 %", "scratch long 20 %"),
    "dense 5 %": ("simclr 5 %", "scratch 5 %"),
    "dense 20 %": ("simclr 20 %", "scratch 20 %"),
    "continued 5 %": ("lite0 5 %",),
    "continued 20 %": ("lite0 20 %",),
    "eurosat simclr": ("eurosat none",),
    "eurosat simclr progressive": ("eurosat simclr", "eurosat none"),
    "voc reconstruction": ("voc none",),
}


def simclrseg(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "simclrseg", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def run_name(training: str, seed: int) -> str:
    return f"{training.replace(' %', '').replace(',', '').replace(' ', '-')}-s{seed}"


def read(file: Path) -> dict[str, Any]:
    """What has been found so far, by whichever process."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"machine": machine()}
    return found


def train(training: str, seed: int, folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Run one training to its end and say what came of it."""
    command, name = TRAININGS[training], run_name(training, seed)
    begun = time.perf_counter()
    if training.startswith("plain script"):
        return {"iou": plain(float(command), results[training.replace("plain script", "scratch")][str(seed)], seed)}
    known = results.get(training.replace("long ", ""), {}).get(str(seed), {})
    values = {
        "seed": seed,
        "more": DATA / "oxford_pets_unlabelled",
        "weights": DATA / "weights" / "tf_efficientnet_lite0.safetensors",
        "twice": 2 * known.get("epochs", 1),
    }
    words = [word.format(**values) for word in shlex.split(command)]
    runs = ["--runs", str(folder)]
    started = (folder / words[0] / name / "checkpoints" / "last" / "state.pt").exists()
    again = [words[0], "--resume", name] if started else [*words, "--name", name, "--overwrite"]
    run = folder / words[0] / name
    found: dict[str, Any] = {}
    if not (run / "test.json").exists():  # else it was stopped after its training
        simclrseg(*again, *([] if started else ["--seed", str(seed)]), *runs, "-q")
        found["seconds"] = round(time.perf_counter() - begun)
    environment = json.loads((run / "environment.json").read_text())
    found["epochs"] = environment["epochs"]
    if (run / "test.json").exists():
        tested = json.loads((run / "test.json").read_text())
        found[score(training)] = tested.get("training", tested)["metrics"][score(training)]
        if training.startswith("eurosat"):
            found["auroc"] = against_others(name, folder)
        images = len(json.loads((run / "split.json").read_text())["train"])
        found["steps"] = found["epochs"] * math.ceil(images / environment["batch_size"])
    return found


def plain(ratio: float, scratch: dict[str, Any], seed: int) -> float:
    """Test IoU of what the examples of segmentation-models-pytorch amount to, with as many steps as the defaults."""
    from simclrseg.data.datasets.locate import open_dataset
    from simclrseg.data.splits import make_split
    from tests.benchmarks.pets_accuracy import plain_script

    dataset = open_dataset("oxford_pets")
    split = make_split(dataset.keys, official=dataset.official, data_ratio=ratio)
    return plain_script(dataset, split, scratch["epochs"], seed)[0]


def wanted(names: list[str]) -> Iterator[tuple[str, int]]:
    for seed in SEEDS:  # a first answer to everything comes before a second
        for training in TRAININGS:
            if not names or training in names:
                yield training, seed


def score(training: str) -> str:
    """The metric by which a training is measured."""
    return {"eurosat": "accuracy", "voc": "miou"}.get(training.split()[0], "iou")


def against_others(name: str, folder: Path) -> dict[str, Any]:
    """AUROC of the likeliest class's probability that tells CIFAR-10 from the run's own test photos."""
    found = json.loads(simclrseg("evaluate", name, "--ood", "cifar10", "--runs", str(folder), "--json", "-q"))
    area: dict[str, Any] = found["ood"]["cifar10"]["image"]["msp"]["auroc"]
    return area


def compare(one: str, other: str, seed: int, folder: Path) -> dict[str, Any]:
    """The difference of two trainings of one seed, with its paired interval over the test photos."""
    baseline, last = run_name(other, seed), run_name(one, seed)
    at = [] if score(one) == "accuracy" else ["--at", "training"]
    words = ["evaluate", baseline, last, "--baseline", baseline, *at, "--runs", str(folder), "--json", "-q"]
    difference: dict[str, Any] = json.loads(simclrseg(*words))["differences"][last][score(one)]
    return difference


def over_seeds(differences: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Their mean, with its interval over test photos and seeds, from what each seed has: the runs may be elsewhere.

    As of ``evaluate`` (`differences_over_seeds`), but that half the width over photos is the mean of the seeds' own,
    which is no less than that of their mean.
    """
    values = np.array([difference["value"] for difference in differences.values()])
    low, high = np.mean([difference["interval"] for difference in differences.values()], axis=0)
    value = float(values.mean())
    margin = student_t(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    interval = [value - math.hypot(value - low, margin), value + math.hypot(high - value, margin)]
    return {"seeds": list(differences), "value": value, "interval": interval}


def main(folder: Path, file: Path, names: list[str]) -> None:
    def keep(group: str, seed: str, found: dict[str, Any]) -> None:
        results = read(file)
        results.setdefault(group, {})[seed] = found
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(group, seed, found, flush=True)

    for training, seed in wanted(names):
        results = read(file)
        if str(seed) not in results.get(training, {}):
            keep(training, str(seed), train(training, seed, folder, results))
    for one, other in ((one, other) for one, others in COMPARISONS.items() for other in others):
        group, results = f"{one} - {other}", read(file)
        both = sorted(results.get(one, {}).keys() & results.get(other, {}).keys())
        for seed in both:
            here = all((folder / "finetune" / run_name(training, int(seed))).exists() for training in (one, other))
            if here and seed not in results.get(group, {}):
                keep(group, seed, compare(one, other, int(seed), folder))
        differences = {int(seed): found for seed, found in read(file).get(group, {}).items() if seed != ALL}
        if len(differences) > 1:
            keep(group, ALL, over_seeds(differences))
    results, rows = read(file), []
    for training in TRAININGS:
        measured = score(training)
        scores = [found[measured] for found in results.get(training, {}).values() if measured in found]
        if scores:
            mean = sum(scores) / len(scores)
            rows.append([training, f"{mean:.3f}", " ".join(f"{each:.4f}" for each in scores)])
    print(results["machine"])
    print_table(("training", "mean score", "each seed"), rows)


if __name__ == "__main__":
    where, *rest = sys.argv[1:]
    results = [word for word in rest if word.endswith(".json")]
    main(
        Path(where),
        Path(results[0]) if results else Path(__file__).with_suffix(".json"),
        [word for word in rest if not word.endswith(".json")],
    )
