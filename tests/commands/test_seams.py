"""Features together: every pair of their values in some tiny run, interrupted and resumed; some scored and exported."""

from __future__ import annotations

import dataclasses
import itertools
import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from simclrseg.commands.finetune import finetune
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.errors import Interrupted
from simclrseg.knobs.parsing import config_of_run
from simclrseg.metadata import IMAGENET_MEAN, ModelMetadata
from simclrseg.models.backbones import build_backbone, stages
from simclrseg.models.weights import read_metadata, save_weights
from simclrseg.runs.names import MODEL_FILE, ONNX_FILE
from simclrseg.system import distributed
from tests.folders import write
from tests.observers import stop_at
from tests.processes import together
from tests.small import evaluated

SIDE = 32
PHOTOS = 30  # 6 to test, 22 to train, 2 to validate
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
FACTORS: dict[str, tuple[str, ...]] = {
    "network": ("unet", "fpn", "deeplabv3plus", "classifier"),
    "micro_batch": ("whole", "uneven"),
    "classes": ("two", "many"),
    "stopped": ("after an epoch", "within an epoch"),
    "unfreeze": ("all", "head", "progressive"),
    "ema": ("none", "0.9"),
    "normalization": ("weights", "dataset", "file"),
}
FINISHED = (("deeplabv3plus", "dataset"), ("classifier", "file"))
"""Networks and normalizations of the runs that are trained to the end: an export takes longer than all the rest."""
PROCESSES = (
    ("unet", "whole", "many", "after an epoch", "progressive", "0.9", "weights"),
    ("classifier", "whole", "two", "after an epoch", "head", "none", "weights"),
)
"""What two processes train too; in micro-batches of their own, batch norm would see others together."""
STEADY = "sgd"
"""The optimizer of these: Adam makes whole steps of gradients that are nothing but rounding."""
OTHER_ENCODERS = {"deeplabv3plus": "tu-lcnet_050"}
"""The smallest that a decoder takes; cnn is that of the others."""
Row = tuple[str, ...]


def pairs_of(row: Row) -> set[tuple[int, str, int, str]]:
    return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}


def covering() -> list[Row]:
    """Few rows that have every pair of values: one after the other, the row with most of those that are left."""
    rows, every = [], list(itertools.product(*FACTORS.values()))
    left = set().union(*map(pairs_of, every))
    while left:
        rows.append(max(every, key=lambda row: len(pairs_of(row) & left)))
        left -= pairs_of(rows[-1])
    return rows


ROWS = covering()


def write_sets(folder: Path) -> Path:
    """Some of the shapes, with masks of two or many classes and in folders of classes, and the starts of encoders."""
    shapes = open_dataset("shapes", DatasetOptions())
    for index in range(PHOTOS):
        photo = cv2.resize(shapes.image(index), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        figure = cv2.resize(shapes.mask(index), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        lower = np.arange(SIDE)[:, None] >= SIDE // 2
        for classes, mask in (("two", 255 * figure), ("many", figure * np.where(lower, 2, 1))):
            write(folder / f"{classes}-masks" / "images" / f"{index}.png", photo)
            write(folder / f"{classes}-masks" / "masks" / f"{index}.png", mask.astype(np.uint8))
        write(folder / "two-labels" / "ab"[index % 2] / f"{index}.png", photo)
        write(folder / "many-labels" / "abc"[index % 3] / f"{index}.png", photo)
    (folder / "figures.yaml").write_text(json.dumps({"mean": MEAN, "std": STD}))
    torch.manual_seed(1)
    for encoder in ("cnn", *OTHER_ENCODERS.values()):
        metadata = ModelMetadata(task="backbone", encoder=encoder, image_size=SIDE)
        save_weights(folder / f"{encoder}.safetensors", build_backbone(encoder).state_dict(), metadata)
    return folder


def config_of(row: Row, sets: Path, runs: Path, *, optimizer: str = "adam") -> FinetuneConfig:
    value = dict(zip(FACTORS, row, strict=True))
    labels = value["network"] == "classifier"
    tree: dict[str, Any] = {
        "data": {
            "dataset": str(sets / f"{value['classes']}-{'labels' if labels else 'masks'}"),
            "image_size": SIDE,
            "augmentation": "flip",
            "normalization": {"weights": None, "file": str(sets / "figures.yaml"), "dataset": "dataset"}[
                value["normalization"]
            ],
        },
        "model": {
            "task": "classify" if labels else "segment",
            "pretrained": str(sets / f"{encoder_of(row)}.safetensors"),
        },
        "segment": {} if labels else {"decoder": value["network"], "examples_every": 0},
        "training": {
            "epochs": 3,
            "batch_size": 8,
            "micro_batch": 3 if value["micro_batch"] == "uneven" else 8,
            "unfreeze": value["unfreeze"],
            "ema": None if value["ema"] == "none" else float(value["ema"]),
            "optimizer": optimizer,
            "learning_rate": 1e-3 if optimizer == "adam" else 0.02,
            "schedule": "cosine",
            "weight_decay": 0.0,
        },
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {"name": "run"},
        "console": {"runs": str(runs)},
    }
    return FinetuneConfig.model_validate(tree)


def encoder_of(row: Row) -> str:
    return OTHER_ENCODERS.get(row[0], "cnn")


def stopped(config: FinetuneConfig, **where: int) -> TrainingState:
    """The state of a run that is stopped somewhere; a new run, or one that goes on."""
    with pytest.raises(Interrupted):
        finetune(config, observers=[stop_at(**where, by=signal.SIGTERM)])
    return last_state(Path(config.console.runs))


def last_state(runs: Path) -> TrainingState:
    state = Checkpoints(runs / "finetune" / "run" / "checkpoints").load_last()
    assert state is not None
    return state


def resumed(runs: Path) -> FinetuneConfig:
    folder = runs / "finetune" / "run"
    config = config_of_run(FinetuneConfig, folder)
    run, console = config.run, config.console
    given = {"run": run.model_copy(update={"resume": str(folder)})}
    return config.model_copy(update=given | {"console": console.model_copy(update={"runs": str(runs)})})


def contents(state: TrainingState) -> dict[str, Any]:
    """All but the seconds that it took."""
    parts = {part.name: getattr(state, part.name) for part in dataclasses.fields(state)}
    return parts | {"history": [{name: row[name] for name in row if name != "seconds"} for row in state.history]}


def equal(ours: Any, theirs: Any) -> bool:
    """Bit for bit."""
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[key], theirs[key]) for key in ours)
    return torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


def frozen(row: Row) -> list[str]:
    """Parameters of the encoder that are not learned up to the second step of the second epoch."""
    unfreeze = row[list(FACTORS).index("unfreeze")]
    encoder = build_backbone(encoder_of(row))
    last = {id(parameter) for module in stages(encoder)[-1] for parameter in module.parameters()}
    names = [name for name, value in encoder.named_parameters() if unfreeze == "head" or id(value) not in last]
    return [] if unfreeze == "all" else names


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def test_every_pair_of_values_is_in_some_row() -> None:
    every = set().union(*(pairs_of(row) for row in itertools.product(*FACTORS.values())))
    assert every == set().union(*map(pairs_of, ROWS)) and len(ROWS) < 16


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_features_together(row: Row, sets: Path, tmp_path: Path) -> None:
    value = dict(zip(FACTORS, row, strict=True))
    where = {"epoch": 1} if value["stopped"] == "after an epoch" else {"step": 2}
    first = stopped(config_of(row, sets, tmp_path / "resumed"), **where)
    again = stopped(resumed(tmp_path / "resumed"), epoch=2)
    whole = stopped(config_of(row, sets, tmp_path / "whole"), epoch=2)
    assert all(tensor.isfinite().all() for tensor in whole.model.values())
    assert contents(again).keys() == contents(whole).keys()
    assert [name for name, part in contents(whole).items() if not equal(part, contents(again)[name])] == []
    start = load_file(sets / f"{encoder_of(row)}.safetensors")
    learned = [name for name in frozen(row) if not torch.equal(first.model[f"encoder.{name}"], start[name])]
    assert learned == [] and (value["unfreeze"] == "all" or frozen(row))
    if (value["network"], value["normalization"]) in FINISHED:
        finetune(resumed(tmp_path / "resumed"))
        check_finished(tmp_path / "resumed" / "finetune" / "run", value, tmp_path)


def check_finished(run: Path, value: dict[str, str], folder: Path) -> None:
    """Look at the files of a finished run, and score the exported one."""
    metadata = read_metadata(run / MODEL_FILE)
    assert metadata is not None and metadata.epochs == 3
    given = (metadata.mean, metadata.std) == (MEAN, STD)
    assert given if value["normalization"] == "file" else not given and metadata.mean != IMAGENET_MEAN
    test = json.loads((run / "test.json").read_text())
    test = test.get("original", test)
    assert test["n"] == 6
    found = evaluated(folder, run / ONNX_FILE)
    assert found["n"] == 6
    assert {name: found["metrics"][name] for name in test["metrics"]} == pytest.approx(test["metrics"], abs=2e-3)


def train_some(sets: Path, runs: Path) -> None:
    """Train what two processes train too, as each of them."""
    for number, row in enumerate(PROCESSES):
        stopped(config_of(row, sets, runs / str(number), optimizer=STEADY), epoch=2)
    distributed.dismiss()


def test_two_processes_train_as_one_whatever_is_frozen_or_averaged(sets: Path, tmp_path: Path) -> None:
    together(partial(train_some, sets), tmp_path)
    for number, row in enumerate(PROCESSES):
        alone = stopped(config_of(row, sets, tmp_path / "alone" / str(number), optimizer=STEADY), epoch=2)
        both = last_state(tmp_path / str(number))
        for ours, theirs in zip(both.history, alone.history, strict=True):
            # rounding grows: weights that differ by 6e-8 end the second epoch with losses that differ by 2e-3
            assert ours["train"] == pytest.approx(theirs["train"], rel=1e-4 if ours["epoch"] == 1 else 1e-2)
            for name in ("accuracy", "loss"):
                assert ours["validation"][name] == pytest.approx(theirs["validation"][name], abs=1e-2)
        start = load_file(sets / "cnn.safetensors")
        if row[list(FACTORS).index("unfreeze")] == "head":
            assert all(torch.equal(both.model[f"encoder.{name}"], start[name]) for name in frozen(row))
