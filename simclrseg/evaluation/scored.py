"""Which models are scored, on which images, whether they can be compared, and the folder for what is found."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from simclrseg.charts.chart import read_table
from simclrseg.config.evaluate import EvaluateConfig
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.errors import DataError, RunError, UsageError, suggestion
from simclrseg.evaluation.opened import as_found_from_here, images_of, images_of_file, open_exported, target_of
from simclrseg.exporters import FORMATS, READERS
from simclrseg.inference.tiling import Predict
from simclrseg.knobs.parsing import config_of_run, dump_config
from simclrseg.metadata import ModelMetadata
from simclrseg.runs.claim import claim, discarded_unless_started
from simclrseg.runs.lookup import find_run, line_of_newer, newest_run
from simclrseg.runs.names import LONGEST_NAME, MODEL_FILE, NAME
from simclrseg.runs.run import Run, finish, record_facts, runs_option
from simclrseg.scores.pixels import Resolution
from simclrseg.system import log_file
from simclrseg.system.files import write_text
from simclrseg.system.hardware import explained_shortage
from simclrseg.targets.base import Target, elsewhere, target_class
from simclrseg.targets.learner import Learner, in_parts, predictor
from simclrseg.training.machine import Machine
from simclrseg.weights.find import began_with
from simclrseg.weights.shipped import shipped_file

log = logging.getLogger(__name__)

AT_ONCE = 32  # images, at most, where nobody names a number
OWN = re.compile(r"(comparison|config|data_ratio|environment|log|metrics|report)\.\w+|worst", re.IGNORECASE)
"""A report's own files, beside which the folders of several models lie."""


@dataclass(frozen=True)
class Scored:
    """A model, and the images that it is scored on.

    Attributes:
        kind, path: ``run`` and its folder, or ``model`` and its ONNX file.
        name: what tables call it; no two of a report are the same.
        learner: its network; None for a file.
        predict: the same as a function of images, of ``metadata.image_size``.
        target: what it was trained for, with the images.
        split, indices: the part of them that was asked for.
        test_hash: of these images and what is true of them.
        batch_size: images per forward pass.
    """

    kind: Literal["run", "model"]
    path: Path
    name: str
    learner: Learner | None
    predict: Predict
    metadata: ModelMetadata
    target: Target[Any, Any]
    split: str
    indices: tuple[int, ...]
    test_hash: str
    batch_size: int

    @property
    def dataset(self) -> Dataset:
        return self.target.dataset


def find_scored(root: Path, config: EvaluateConfig, machine: Machine) -> list[Scored]:
    """The models that were named, or the newest run; with their own images or those of ``--dataset``.

    Raises:
        SimclrsegError: if there is no such model, its images are not at hand or do not fit, or several models cannot be
            compared.
    """
    names: Sequence[str | None] = config.data.models or [None]
    scored = [_find(root, name, config, machine) for name in names]
    # a file that names its images has metadata
    if (config.data.classes or config.data.size) and all(one.kind == "run" or one.metadata.data for one in scored):
        raise UsageError(
            "--classes and --size are for an .onnx file that does not say what it is of, and here is none",
            "leave them out",
            option="classes",
        )
    places = [one.path.resolve() for one in scored]
    for one, place in zip(scored, places, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"{one.path} is named twice", "name each model once", option="models", path=one.path)
    _check_same_images(scored, at=config.data.at)
    labels = [one.name for one in scored]
    return [one if labels.count(one.name) == 1 else replace(one, name=str(one.path)) for one in scored]


def _find(root: Path, name: str | None, config: EvaluateConfig, machine: Machine) -> Scored:
    """A model by its name, folder or file, with the images of the part that was asked for."""
    data = config.data
    kind: Literal["run", "model"]
    learner: Learner | None
    if (name is not None and Path(name).suffix in READERS) or shipped_file(name, root):
        kind, path, learner = "model", shipped_file(name, root) or Path(str(name)), None
        if path.suffix != (scored := FORMATS["onnx"].suffix):
            raise UsageError(
                f"{path}: of exported files only {scored} is scored; or name its run", path=path, option="models"
            )
        size = batch_size_of(data.batch_size, path.parent)
        answers, metadata = open_exported(path, config.hardware.device, classes=data.classes, size=data.size)
        log.info(f"model {path}")
        label = _as_name(path.stem)
        predict = in_parts(answers, size)
        target = images_of_file(path, metadata, data.dataset)
    else:
        run = model_run(root, name)
        log.info(f"run {run.folder}")
        kind, path, label = "run", run.folder, run.name
        learner, metadata = target_of(run).load(path / MODEL_FILE)
        size = batch_size_of(data.batch_size, path)
        predict = predictor(learner, machine, batch_size=size)
        if data.dataset is None:
            target = images_of(run, metadata)
        else:
            own = config_of_run(FinetuneConfig, path)
            others = elsewhere(own.data.model_dump(), data.dataset)
            target = target_class(own.target).open(others, for_training=False, model=as_found_from_here(metadata, path))
    target.tell()
    target.check_model(metadata)
    parts = ("train", "validation", "test") if data.split == "all" else (data.split,)
    indices = tuple(sorted(index for part in parts for index in getattr(target.split, part)))
    if not indices:
        remedy = "name others with --dataset" if data.split == "all" else "score all its photos with --split all"
        raise DataError(f"the {data.split} part of {target.dataset.name} is empty", remedy)
    metadata = metadata.model_copy(update={"border": target.dataset.border})
    test_hash = target.hash_of(indices)
    return Scored(kind, path, label, learner, predict, metadata, target, data.split, indices, test_hash, size)


def model_run(root: Path, name: str | None) -> Run:
    """The fine-tuned run of that name or folder, or the newest one; RunError if it holds no model."""
    if name is None:
        command = f"simclrseg finetune --dataset FOLDER{runs_option(root)}"
        return newest_run(root, "finetune", holding=MODEL_FILE, remedy=f"`{command}` makes one")
    if shipped_file(name, root):
        raise RunError(f"{name} is a file that comes with simclrseg, and no run", "`simclrseg pull` copies it with -o")
    run = find_run(root, "finetune", name)
    if not run.holds(MODEL_FILE):
        command = f"simclrseg finetune --config {shlex.quote(str(run.folder))}"
        if run.started and not run.finished:
            command = run.command("finetune --resume")
        raise RunError(f"run {run.name!r} holds no {MODEL_FILE}", f"make it with `{command}`")
    if line := line_of_newer(run, "finetune", holding=MODEL_FILE):
        log.info(line)
    return run


def _check_same_images(scored: Sequence[Scored], *, at: Resolution) -> None:
    """Refuse models that were not scored on the same images, in the same pixels, or not for the same task."""
    first = scored[0]
    for other in scored[1:]:
        if type(other.target) is not type(first.target):
            raise DataError(
                f"{first.name} is for {first.target.TASK} and {other.name} for {other.target.TASK}: "
                "their scores cannot be compared, evaluate each alone"
            )
        if len(first.metadata.classes) != len(other.metadata.classes):
            raise DataError(
                f"{first.name} knows {len(first.metadata.classes)} classes and {other.name} "
                f"{len(other.metadata.classes)}: their scores cannot be compared, evaluate each alone"
            )
        if other.test_hash != first.test_hash:
            raise DataError(
                f"{first.name} and {other.name} are not scored on the same images ({_other_images(first, other)}): "
                "evaluate each alone, or all on others with --dataset"
            )
        if at == "training" and first.target.MASKS and _side(first) != _side(other):
            raise DataError(
                f"{first.name} sees photos {_side(first)} and {other.name} {_side(other)}: their pixels are not the "
                "same",
                "leave out --at training",
                option="at",
                value=at,
            )


def _side(scored: Scored) -> str:
    """The size of the photos whose pixels are counted at the resolution of training."""
    metadata = scored.metadata
    return "at their own size" if metadata.resize == "tile" else f"at {metadata.image_size} px, {metadata.resize}"


def _other_images(first: Scored, second: Scored) -> str:
    """Why two models have other images."""
    reasons = [
        {
            "dataset": one.dataset.name,
            "split seed": one.target.split.seed,
            "test split": one.target.split.test_split,
            "fold": one.target.split.fold,
            "border": one.dataset.border,
            "images": len(one.indices),
            "hash": one.test_hash[:8],
        }
        for one in (first, second)
    ]
    what = next(name for name, value in reasons[0].items() if value != reasons[1][name] or name == "hash")
    return f"{what} {reasons[0][what]} and {reasons[1][what]}"


def find_baseline(scored: Sequence[Scored], name: str | None, *, typed: Sequence[str]) -> str | None:
    """The name of the model that the others are compared with; None where there are no others.

    Args:
        name: that was asked for; UsageError if it is not among them.
        typed: how the user named the models; empty for the newest run.
    """
    if name is None:
        return scored[0].name if len(scored) > 1 else None
    for one, word in zip_longest(scored, typed):
        if name in (word, one.name, str(one.path)) or os.path.realpath(name) == os.path.realpath(one.path):
            return one.name if len(scored) > 1 else None
    raise UsageError(
        f"--baseline {name} is none of the models",
        suggestion(name, [one.name for one in scored]),
        option="baseline",
        value=name,
    )


def origin_of(scored: Scored, root: Path) -> dict[str, Any]:
    """How a model was made, and the seconds that it took."""
    metadata = scored.metadata
    folder = scored.path if scored.kind == "run" else scored.path.parent
    facts: dict[str, Any] = {
        "encoder": metadata.encoder,
        "decoder": metadata.decoder,
        "pretrained": metadata.pretrained,
        "data_ratio": None if metadata.data.get("max_images") else metadata.data.get("data_ratio"),
        "unlabelled": bool(metadata.data.get("unlabelled")),
        "epochs": metadata.epochs,
        "pretraining_seconds": None,
        "finetuning_seconds": None,
    }
    if not (folder / "timing.csv").is_file():
        return facts
    facts["finetuning_seconds"] = seconds_of(folder)
    name = config_of_run(FinetuneConfig, folder).model.pretrained
    if name == "none":
        facts["pretraining_seconds"] = 0.0
    elif file := began_with(Run(folder), name, root=root):
        facts["pretraining_seconds"] = seconds_of(file.parent)
    return facts


def seconds_of(folder: Path) -> float | None:
    """Seconds of all epochs of a run."""
    try:
        return sum(float(row["seconds"]) for row in read_table(folder / "timing.csv"))
    except (OSError, KeyError, TypeError, ValueError):  # the last line may be cut
        return None


def batch_size_of(asked: int | Literal["auto"], folder: Path) -> int:
    """Images per forward pass; where nobody names a number, not more than the memory held in training."""
    return asked if asked != "auto" else min(AT_ONCE, Run(folder).environment.get("micro_batch", AT_ONCE))


@contextmanager
def sized(batch_size: int) -> Iterator[None]:
    """Explain being out of memory with so many images per forward pass."""
    remedy = f"try --batch-size {batch_size // 2}" if batch_size > 1 else "free some memory"
    with explained_shortage(f"in batches of {batch_size}", remedy):
        yield


def _as_name(text: str) -> str:
    """A text as far as the name of a run can hold it."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text)[:LONGEST_NAME].strip("-._+") or "model"


@contextmanager
def open_report(config: EvaluateConfig, name: str, *, scored: list[str]) -> Iterator[Path]:
    """Claim a new folder, which is finished when the block ends and gone where it fails.

    Args:
        name: of what is scored, whose file or folder may be called as no run can be.
    """
    run = claim(Path(config.console.runs), "evaluate", _as_name(name))
    command = shlex.join(["simclrseg", *sys.argv[1:]])
    with discarded_unless_started(run), log_file.kept(run.folder, command):
        started = datetime.now(UTC).isoformat(timespec="seconds")
        record_facts(run, kind="evaluate", started=started, scored=scored[0] if len(scored) == 1 else scored)
        write_text(run.folder / "config.yaml", dump_config(config))
        yield run.folder
        finish(run)


def own_folder(report: Path, number: int, name: str, path: Path) -> Path:
    """Make the folder of one of several models in a report: its name, or where that cannot be, its number from 1."""
    usable = NAME.fullmatch(name) and not OWN.fullmatch(name)
    folder = report / (name if usable else f"{number}-{path.stem}")
    folder.mkdir(exist_ok=True)
    return folder
