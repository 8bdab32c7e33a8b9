"""Do chosen photos teach more than random ones? 28 masks of Oxford Pets by TypiClust against 28 at random.

Photos are chosen by the features of EfficientNet-Lite0 from ImageNet, without any label, among those of the published
training list; test photos are never chosen. Each choice is trained on with every seed, the random ones differ by seed
too. All are scored on the 515 test photos, border counted as pet, at both resolutions; the interval of the difference
is over photos and seeds. Trainings that are done are skipped: stop it and start it again as you like.

    OMP_NUM_THREADS=1 SIMCLRSEG_DATA=<data> python -m tests.benchmarks.label_next FOLDER \
        [RESULTS=tests/benchmarks/label_next.json]

FOLDER keeps the runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simclrseg.data.datasets.locate import open_dataset
from simclrseg.evaluation.features import Reader
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, ModelMetadata
from simclrseg.metrics.selection import typical
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone
from simclrseg.training.machine import Machine
from tests.benchmarks._common import machine, print_table

DATA = Path(os.environ.get("SIMCLRSEG_DATA", "."))
SEEDS = range(5)
MASKS = 28
ENCODER = "tu-tf_efficientnet_lite0"
WEIGHTS = DATA / "weights" / "tf_efficientnet_lite0.safetensors"
TRAINING = f"finetune oxford_pets --backbone {ENCODER} --pretrained {WEIGHTS} --image-size 96 --epochs 200 --quiet"
"""400 steps: 25 photos train, two batches an epoch, and 3 validate."""
FEATURES_AT = 224  # px, at which these weights were trained
RESOLUTIONS = ("training", "original")


def choose() -> dict[str, list[str]]:
    """Names of the chosen photos, by choice."""
    dataset = open_dataset("oxford_pets")
    pool = list(dataset.official["trainval"])
    metadata = ModelMetadata(
        task="backbone", encoder=ENCODER, image_size=FEATURES_AT, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    backbone = build_backbone(ENCODER)
    load_backbone(backbone, WEIGHTS)
    reader = Reader(metadata, Machine(torch.device("cpu"), "fp32", 1), 32)
    features, kept = reader.features(backbone, dataset, pool)
    chosen = {"typical": [kept[one.place] for one in typical(features, torch.zeros(len(kept)).bool(), MASKS)]}
    for seed in SEEDS:
        drawn = np.random.default_rng(seed).choice(len(pool), MASKS, replace=False)
        chosen[f"random-{seed}"] = [pool[place] for place in sorted(drawn.tolist())]
    return {name: [Path(dataset.keys[index]).stem for index in indices] for name, indices in chosen.items()}


def make_set(stems: list[str], root: Path) -> None:
    """Oxford Pets with these training photos alone, and all test photos; linked to the whole set."""
    own, whole = root / "oxford_pets" / "oxford-iiit-pet", DATA.resolve() / "oxford_pets" / "oxford-iiit-pet"
    (own / "annotations").mkdir(parents=True, exist_ok=True)
    for part in ("images", "annotations/trimaps", "annotations/test.txt"):
        if not (own / part).is_symlink():
            (own / part).symlink_to(whole / part)
    lines = (whole / "annotations" / "trainval.txt").read_text().splitlines(keepends=True)
    (own / "annotations" / "trainval.txt").write_text("".join(line for line in lines if line.split()[0] in stems))


def train(name: str, stems: list[str], seed: int, folder: Path) -> dict[str, Any]:
    """Train on the chosen photos, and say what came of it."""
    root, run = folder / "sets" / name, f"{name.partition('-')[0]}-s{seed}"
    make_set(stems, root)
    begun = time.perf_counter()
    words = [*TRAINING.split(), "--seed", str(seed), "--name", run, "--overwrite", "--runs", str(folder)]
    environment = {**os.environ, "SIMCLRSEG_DATA": str(root)}
    subprocess.run([sys.executable, "-m", "simclrseg", *words], check=True, env=environment, stdout=subprocess.DEVNULL)
    found = json.loads((folder / "finetune" / run / "test.json").read_text())
    ious = {resolution: found[resolution]["metrics"]["iou"] for resolution in RESOLUTIONS}
    return {"run": run, "seconds": round(time.perf_counter() - begun), **ious}


def compare(folder: Path) -> dict[str, Any]:
    """Differences of the typical photos' IoU from the random ones', with intervals over photos and seeds."""
    from dataclasses import replace

    from simclrseg.evaluation.opened import images_of, target_of
    from simclrseg.runs.names import MODEL_FILE
    from simclrseg.runs.run import Run
    from simclrseg.scores.estimates import differences_over_seeds, draws
    from simclrseg.targets.base import Scoring
    from simclrseg.targets.learner import predictor

    here = Machine(torch.device("cpu"), "fp32", 1)
    scores: dict[str, list[Any]] = {"typical": [], "random": []}
    for kind, found in scores.items():
        for seed in SEEDS:
            run = Run(folder / "finetune" / f"{kind}-s{seed}")
            learner, metadata = target_of(run).load(run.folder / MODEL_FILE)
            target = images_of(run, metadata)
            predict = predictor(learner, here, batch_size=32)
            found.append(target.score(predict, target.split.test, metadata, Scoring(1, 32)))
    differences = {}
    for resolution in RESOLUTIONS:
        random, chosen = (
            [replace(one, pixels={resolution: one.pixels[resolution]}) for one in scores[kind]]
            for kind in ("random", "typical")
        )
        both = differences_over_seeds(random, chosen, draws(random[0]), paired=True)
        differences[resolution] = both["iou"].facts()
    return differences


def main(folder: Path, file: Path) -> None:
    def keep(results: dict[str, Any]) -> None:
        file.write_text(json.dumps(results, indent=1) + "\n")

    results = json.loads(file.read_text()) if file.exists() else {"machine": machine()}
    if "photos" not in results:
        results["photos"] = choose()
        keep(results)
    for seed in SEEDS:
        for kind, name in (("typical", "typical"), ("random", f"random-{seed}")):
            done = results.setdefault(kind, {})
            if str(seed) not in done:
                done[str(seed)] = train(name, results["photos"][name], seed, folder)
                keep(results)
                print(kind, seed, done[str(seed)], flush=True)
    if "difference" not in results:
        results["difference"] = compare(folder)
        keep(results)
    rows = []
    for kind in ("random", "typical"):
        for resolution in RESOLUTIONS:
            values = [found[resolution] for found in results[kind].values()]
            each = " ".join(f"{value:.4f}" for value in values)
            rows.append([f"{MASKS} {kind}", resolution, f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}", each])
    print(results["machine"])
    print_table(("masks", "resolution", "mean IoU ± spread", "each seed"), rows)
    for resolution, found in results["difference"].items():
        print(f"typical - random, {resolution}: {found}")


if __name__ == "__main__":
    where, *rest = sys.argv[1:]
    main(Path(where), Path(rest[0]) if rest else Path(__file__).with_suffix(".json"))
