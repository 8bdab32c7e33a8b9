"""Does it pay to keep the scale of photos? `--resize tile` on large photos of small things, `--resize pad` on pets.

Goes through a list of trainings, one after the other, skips what is done, and writes each result to RESULTS at once:
stop it and start it again as you like.

    SIMCLRSEG_DATA=<data> python -m tests.benchmarks.scale FOLDER [RESULTS=tests/benchmarks/scale.json]

FOLDER keeps the runs, and the large photos: mosaics of 4 x 4 photos of Pascal VOC without animals, 1,200 to 1,600
pixels wide and high, on which a dozen pets lie that are cut out by their trimaps, 24 to 48 pixels large, among as many
other things of the same size from VOC. Pets, things and backgrounds of test photos are in no training photo. Both
trainings of them see 128 px squares, squashing for half as many steps again, and are scored in the photos' own pixels.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.metadata import IGNORE
from tests.benchmarks._common import print_table
from tests.benchmarks.few_labels import read, simclrseg

DATA = Path(os.environ.get("SIMCLRSEG_DATA", "."))
TRAIN, TEST = 44, 20  # large photos
LITE = (
    "--backbone tu-tf_efficientnet_lite0 --pretrained {weights} --batch-size 16 --device cpu --workers 1 "
    "--set segment.examples_every=0"
)
SMALL = "finetune {large} --image-size 128 --cache disk " + LITE
PETS = "finetune oxford_pets --image-size 96 --data-ratio 0.2 --epochs 72 " + LITE
TRAININGS = {
    "small things, tile": SMALL + " --resize tile --epochs 2",  # 128 steps each
    "small things, squash": SMALL + " --epochs 128",  # 3 steps each
    "pets, pad": PETS + " --resize pad",
    "pets, squash": PETS,
}
SEEDS = {"small things": (0,), "pets": (0, 1, 2)}


def write_large(folder: Path) -> None:
    """Write the large photos with their masks, and the list of those to test on; the same wherever it is done."""
    if folder.exists():
        return
    pets, voc = open_dataset("oxford_pets"), open_dataset("voc")
    animals = [voc.classes.index(name) for name in ("bird", "cat", "cow", "dog", "horse", "sheep")]
    bare = [index for index in range(len(voc)) if not np.isin(voc.mask(index), animals).any()]
    rng = np.random.default_rng(0)
    order, grounds = rng.permutation(len(pets)), rng.permutation(bare)
    half = folder.with_name(folder.name + ".part")
    for part, count, share in (("train", TRAIN, slice(0, 2)), ("test", TEST, slice(2, 3))):
        mine = [np.concatenate(np.array_split(whole, 3)[share]) for whole in (order, grounds)]
        for number in range(count):
            image, mask = _large(pets, voc, *mine, rng)
            for name, pixels in (("images", image[:, :, ::-1]), ("masks", mask)):
                path = half / name / f"{part}{number:02d}{'.jpg' if name == 'images' else '.png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    (half / "test.txt").write_text("".join(f"test{number:02d}\n" for number in range(TEST)))
    half.rename(folder)


def _large(
    pets: Dataset, voc: Dataset, own: Sequence[int], grounds: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A large photo and its mask, 255 where a pet is."""
    height, width = rng.integers(1200, 1601, 2) // 4 * 4
    rows = [
        np.concatenate(
            [cv2.resize(voc.image(int(rng.choice(grounds))), (width // 4, height // 4)) for _ in range(4)], axis=1
        )
        for _ in range(4)
    ]
    image, mask = np.concatenate(rows), np.zeros((height, width), np.uint8)
    for number in range(24):
        wanted = number % 2
        dataset, index = (pets, int(rng.choice(own))) if wanted else (voc, int(rng.choice(grounds)))
        cut = _cut(dataset, index, int(rng.integers(24, 49)))
        if cut is None:
            continue
        pixels, alpha = cut
        top, left = (int(rng.integers(0, side - part)) for side, part in zip((height, width), alpha.shape, strict=True))
        window = np.s_[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        share = alpha[..., None]
        image[window] = np.rint(share * pixels + (1 - share) * image[window])
        mask[window][alpha > 0.5] = 255 * wanted
    return image, mask


def _cut(dataset: Dataset, index: int, side: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What is no background, with its longer side as given, and how opaque it is; None for next to nothing."""
    mask = dataset.mask(index)
    shown = (mask > 0) & (mask != IGNORE)
    ys, xs = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    if shown.sum() < 500:
        return None
    window = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    alpha, pixels = shown[window].astype(np.float32), dataset.image(index)[window]
    scale = side / max(alpha.shape)
    size = max(4, round(scale * alpha.shape[1])), max(4, round(scale * alpha.shape[0]))
    return tuple(cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (pixels, alpha))  # type: ignore[return-value]


def train(training: str, seed: int, folder: Path) -> dict[str, Any]:
    """Run one training to its end and say what came of it."""
    begun = time.perf_counter()
    weights = DATA / "weights" / "tf_efficientnet_lite0.safetensors"
    words = TRAININGS[training].format(weights=weights, large=folder / "large").split()
    name = run_name(training, seed)
    simclrseg(*words, "--name", name, "--overwrite", "--seed", str(seed), "--runs", str(folder), "-q")
    scores = json.loads((folder / "finetune" / name / "test.json").read_text())
    found = {resolution: one["metrics"]["iou"] for resolution, one in scores.items()}
    return {"iou": found, "photos": scores["original"]["n"], "seconds": round(time.perf_counter() - begun)}


def run_name(training: str, seed: int) -> str:
    return f"{training.replace(', ', '-').replace(' ', '-')}-s{seed}"


def compare(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """The difference from squashing, with its paired interval over the test photos, in their own pixels."""
    rival = "tile" if kind == "small things" else "pad"
    names = [run_name(f"{kind}, {resize}", seed) for resize in ("squash", rival)]
    words = ["evaluate", *names, "--baseline", names[0], "--at", "original", "--device", "cpu", "--workers", "1"]
    found = json.loads(simclrseg(*words, "--runs", str(folder), "--json", "-q"))
    difference: dict[str, Any] = found["differences"][names[1]]["iou"]
    shutil.rmtree(folder / "evaluate", ignore_errors=True)
    return difference


def main(folder: Path, file: Path) -> None:
    def keep(group: str, seed: int, found: dict[str, Any]) -> None:
        results = read(file)
        results.setdefault(group, {})[str(seed)] = found
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(group, seed, found, flush=True)

    write_large(folder / "large")
    for kind, seed in sorted(((kind, seed) for kind, seeds in SEEDS.items() for seed in seeds), key=lambda one: one[1]):
        trainings = [training for training in TRAININGS if training.startswith(kind)]
        for training in trainings:
            if str(seed) not in read(file).get(training, {}):
                keep(training, seed, train(training, seed, folder))
        group = " - ".join(trainings)
        if str(seed) not in read(file).get(group, {}):
            keep(group, seed, compare(kind, seed, folder))
    results = read(file)

    def told(found: dict[str, Any]) -> str:
        return f"{found['iou']['original']:.4f}" if "iou" in found else f"{found['value']:+.4f} {found['interval']}"

    rows = [
        [group, seed, told(found)]
        for group, seeds in results.items()
        if isinstance(seeds, dict)
        for seed, found in seeds.items()
    ]
    print(results["machine"])
    print_table(("training", "seed", "IoU in the photos' own pixels"), rows)


if __name__ == "__main__":
    where, *rest = sys.argv[1:]
    main(Path(where), Path(rest[0]) if rest else Path(__file__).with_suffix(".json"))
