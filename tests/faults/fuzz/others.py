"""Damaged files of named sets, words that a shell completes, keywords of Python, and whole predictions."""

from __future__ import annotations

import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import typer

from simclrseg.cli import python
from simclrseg.cli.app import app
from simclrseg.cli.completion import respond
from simclrseg.config import CONFIGS
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.inference import OUTPUTS
from simclrseg.knobs.knob import knobs_of
from tests.data.datasets.patches import write_patch
from tests.faults.fuzz.harness import Source
from tests.faults.fuzz.mutations import NUMBERS, WORDS, bytes_of, leaf, text_of, tree_of
from tests.faults.fuzz.pictures import look_at, mask_seeds, photo_seeds
from tests.faults.fuzz.texts import no_work
from tests.folders import write
from tests.inference.models import write_classifier, write_segmenter


def named(folder: Path) -> Source:
    """Lists, batches and masks of the named sets."""
    home, place = folder / "home", folder / "data"
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    pets, voc = home / "oxford_pets" / "oxford-iiit-pet", home / "voc" / "VOCdevkit" / "VOC2012"
    for stem in ("beagle_1", "beagle_2", "pug_1", "pug_2"):
        write(pets / "images" / f"{stem}.jpg", pixels)
        write(pets / "annotations" / "trimaps" / f"{stem}.png", pixels[:, :, 0] % 3 + 1)
        write(voc / "JPEGImages" / f"{stem}.jpg", pixels)
        write(voc / "SegmentationClass" / f"{stem}.png", pixels[:, :, 0] % 21)
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1], b"batch_label": b"a"}
    batches = {f"data_batch_{number}": batch for number in range(1, 6)} | {"test_batch": batch}
    batches["batches.meta"] = {b"label_names": [b"cat", b"dog"]}
    write_patch(home / "bigearthnet", "patch_1")
    pet_lists = {"trainval.txt": "#\nbeagle_1 5 2 1\nbeagle_2 5 2 1\n", "test.txt": "pug_1 26 2 2\npug_2 26 2 2\n"}
    lists = {
        **{f"oxford_pets/oxford-iiit-pet/annotations/{name}": text for name, text in pet_lists.items()},
        "voc/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": "beagle_1\nbeagle_2\n",
        "voc/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": "pug_1\npug_2\n",
        "bigearthnet/train.csv": "patch_1,a\n",
        "bigearthnet/test.csv": "patch_2\n",
    }
    whole = {home / name: text.encode() for name, text in lists.items()}
    whole |= {home / "cifar10" / "cifar-10-batches-py" / name: pickle.dumps(tree, 2) for name, tree in batches.items()}
    for file, data in whole.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    shutil.copytree(home, place)
    os.environ["SIMCLRSEG_DATA"] = str(place)
    masks = [*(pets / "annotations" / "trimaps").iterdir(), *(voc / "SegmentationClass").iterdir()]
    whole |= {file: file.read_bytes() for file in sorted(masks)[:2] + sorted(masks)[4:6]}
    seeds = [data for _, data in mask_seeds()]

    def make(rng: Random) -> str:
        for file, data in whole.items():
            (place / file.relative_to(home)).write_bytes(data)
        file = rng.choice(list(whole))
        if "batch" in file.name and rng.random() < 0.5:
            changed = _pickled(rng, batches[file.name])
        elif file.suffix in (".txt", ".csv"):
            changed = text_of(rng, whole[file].decode(), [text for text in lists.values() if text])
        else:
            changed = bytes_of(rng, whole[file], seeds)
        (place / file.relative_to(home)).write_bytes(changed)
        return next(name for name in ("oxford_pets", "voc", "cifar10", "bigearthnet") if name in file.parts)

    def read(name: str) -> None:
        look_at(open_dataset(name, DatasetOptions()))

    return Source(make, read)


def _pickled(rng: Random, tree: Any) -> bytes:
    try:
        return pickle.dumps(tree_of(rng, tree), 2)
    except RecursionError:
        return b""


def completions(folder: Path) -> Source:
    """What is typed when a shell asks for completions."""
    words = [*CONFIGS, "--set", "--config", "--show-completion", "--model", "--loss", "--resume", "-o", "'", '"', "a b"]
    words += sorted(
        {spelling for command in CONFIGS for knob in knobs_of(CONFIGS[command]) for spelling in knob.spellings}
    )
    (folder / "runs" / "finetune" / "one").mkdir(parents=True)
    (folder / "runs" / "finetune" / "one" / "environment.json").write_text("{}")

    def make(rng: Random) -> dict[str, str]:
        typed = ["simclrseg", *(rng.choice((*CONFIGS, *words)) for _ in range(rng.randrange(6)))]
        if rng.random() < 0.5:
            typed[rng.randrange(len(typed))] += rng.choice(("=", " ", *WORDS))
        line, shell = " ".join(typed).replace("\0", ""), rng.choice(("bash", "zsh", "fish", "powershell", "x"))
        at = str(rng.choice((len(typed), len(typed) - 1, *range(8))))
        environment = {"_SIMCLRSEG_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "_TYPER_COMPLETE_ARGS": line}
        environment["COMP_CWORD"] = rng.choice((at, at, at, "", rng.choice(WORDS)))
        environment["_TYPER_COMPLETE_WORD_TO_COMPLETE"] = typed[-1]
        return environment

    def read(environment: dict[str, str]) -> None:
        respond(environment)

    return Source(make, read)


def keywords(folder: Path) -> Source:
    """What a notebook may pass for the options of the commands."""
    calls: dict[str, Any] = {"pretrain": python.pretrain, "finetune": python.finetune, "evaluate": python.evaluate}
    calls |= {"load_model": python.load_model, "load_backbone": python.load_backbone}
    names = {name: [knob.name for knob in knobs_of(CONFIGS[name])] for name in ("pretrain", "finetune", "evaluate")}

    def make(rng: Random) -> tuple[str, list[Any], dict[str, Any]]:
        name = rng.choice(list(names))
        pairs = {
            rng.choice(names[name]) if rng.random() < 0.95 else "x": _value(rng) for _ in range(rng.choice((1, 2, 4)))
        }
        return name, [_value(rng)] if name == "evaluate" and rng.random() < 0.3 else [], pairs

    def read(given: tuple[str, list[Any], dict[str, Any]]) -> None:
        name, positional, pairs = given
        with no_work(), suppress(typer.Exit):
            calls[name](*positional, **pairs)

    return Source(make, read)


def _value(rng: Random) -> Any:
    if rng.random() < 0.2:
        return rng.choice(
            (
                Path("photos"),
                b"bytes",
                {1, 2},
                object(),
                1j,
                range(3),
                np.float32(0.5),
                np.zeros(3),
                (1, "a"),
                int,
                print,
            )
        )
    return leaf(rng, rng.choice(("shapes", 1, 0.5, ["shapes"], True)))


def predictions(folder: Path) -> Source:
    """A photo, whole or damaged, through ``predict`` with options of all kinds."""
    models = [str(write_segmenter(folder / "a.onnx")), str(write_segmenter(folder / "b.onnx", classes=3))]
    models.append(str(write_classifier(folder / "c.onnx")))
    seeds = list(photo_seeds())
    every = [data for _, data in seeds]
    numbers = [str(number) for number in NUMBERS]

    def make(rng: Random) -> list[str]:
        shutil.rmtree(folder / "in", ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "in").mkdir()
        for stem in ("a", rng.choice(("b", "é", "\x1b[31m", "a b", "x" * 240, "\udcff", "%s"))):
            suffix, data = rng.choice(seeds)
            (folder / "in" / f"{stem}{suffix}").write_bytes(data if rng.random() < 0.6 else bytes_of(rng, data, every))
        words = ["predict", "in", "-m", rng.choice(models), "-o", rng.choice(("out", "out", "out", "out/x.json", "-"))]
        for kind in rng.sample(list(OUTPUTS), rng.choice((0, 1, 2))):
            words += ["--as", kind]
        options = (
            ["--tile", rng.choice(("64", "100", *numbers))],
            ["--tile", "64", "--overlap", rng.choice(("0", "0.9", *numbers))],
            ["--threshold", rng.choice(("0.5", "0.01", *numbers))],
            ["--max-pixels", rng.choice(("100", "1e3", *numbers))],
            ["--tta"],
            ["--keep-orientation"],
            ["--overwrite"],
            ["--skip-existing"],
            ["--json"],
            ["-q"],
        )
        for option in rng.sample(options, rng.choice((0, 1, 2))):
            words += option
        return [*words, "--device", "cpu", "--workers", "1"]

    def read(words: list[str]) -> Any:
        return app(words, prog_name="simclrseg", standalone_mode=False)

    return Source(make, read)
