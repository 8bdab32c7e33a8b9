"""`simclrseg evaluate`: how good is a fine-tuned model, on its own test photos or on others?"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from simclrseg import runs
from simclrseg.config import EvaluateConfig, FinetuneConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.splits import Split
from simclrseg.errors import DataError, RunError, UsageError
from simclrseg.exporters import SUFFIXES
from simclrseg.files import write_text
from simclrseg.knobs import dump_config, parse_config_file
from simclrseg.metadata import MODEL_FILE, ModelMetadata
from simclrseg.recipes._exported import open_exported, photos_of_file
from simclrseg.recipes._probe import evaluate_backbone, find_backbone
from simclrseg.recipes._seen import warn_if_seen
from simclrseg.recipes._tasks import TASKS, Predict, dataset_of, task_of, task_of_model
from simclrseg.recipes._training import Machine, prepare_machine

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score a run's model, or an exported one.

    Returns:
        What the command prints: the run, the photos that were scored and the metrics.

    Raises:
        SimclrsegError: for everything that a user can mend; nothing is written then.
    """
    machine = prepare_machine(config.hardware, "fp32")  # as the exported model computes
    root = Path(config.console.runs)
    if config.data.run is not None and (backbone := find_backbone(config.data.run, root)) is not None:
        return evaluate_backbone(backbone, config, machine)
    scored = find_scored(root, config, machine)
    metadata = scored.metadata
    dataset, split = scored.photos
    scored.recipe.tell(dataset, split)
    check_bands(dataset, metadata)
    scored.recipe.check_classes(dataset, metadata)
    parts = ("train", "validation", "test") if config.data.split == "all" else (config.data.split,)
    indices = sorted(index for part in parts for index in getattr(split, part))
    if not indices:
        raise DataError(f"the {config.data.split} part of {dataset.name} is empty: choose another --split")
    own = set() if config.data.dataset else {*split.train, *split.validation}
    warn_if_seen(dataset, [index for index in indices if index not in own], metadata)
    report = runs.claim(root, "evaluate", scored.name)
    try:
        runs.record(report, started=datetime.now(UTC).isoformat(timespec="seconds"), scored=str(scored.path))
        write_text(report.folder / "config.yaml", dump_config(config))
        metadata = metadata.model_copy(update={"border": dataset.border})
        scores = scored.recipe.score_predictions(
            scored.predict,
            dataset,
            indices,
            metadata=metadata,
            workers=machine.workers,
            batch_size=config.data.batch_size,
        )
        every = scored.recipe.results(scores, split=config.data.split, metadata=metadata)
        scores_at = scored.recipe.headline(every, at=config.data.at)
        result = {scored.kind: str(scored.path), "dataset": dataset.name, **scores_at}
        write_text(report.folder / "metrics.json", json.dumps(result, indent=1) + "\n")
        scored.recipe.write_scores(report.folder, scores, metadata=metadata, at=config.data.at)
        runs.finish(report)
    except BaseException:
        runs.discard_unless_started(report)
        raise
    return {**result, "report": str(report.folder)}


def check_bands(dataset: Dataset, metadata: ModelMetadata) -> None:
    """Refuse pictures that the model cannot look at.

    Raises:
        DataError: if they have other bands, or another full scale.
    """
    if (dataset.bands, dataset.full_scale) != (metadata.bands, metadata.full_scale):
        raise DataError(
            f"{dataset.name} has the bands {', '.join(dataset.bands)} up to {dataset.full_scale:,}, but the model was "
            f"trained on {', '.join(metadata.bands)} up to {metadata.full_scale:,}: score it on such pictures"
        )


def model_run(root: Path, name: str | None) -> runs.Run:
    """The fine-tuned run of that name or folder, or the newest one."""
    if name is None:
        return runs.newest(root, "finetune", holding=MODEL_FILE, remedy="`simclrseg finetune` makes one")
    run = runs.find(root, "finetune", name)
    if not run.holds(MODEL_FILE):
        command = f"simclrseg finetune --config {run.folder}"
        if run.started and not run.finished:
            command = f"simclrseg finetune --resume {run.name}"
        raise RunError(f"run {run.name!r} holds no {MODEL_FILE}: make it with `{command}`")
    return run


@dataclass(frozen=True)
class Scored:
    """What is scored, and on which photos.

    Attributes:
        kind: ``run`` or ``model``, a file.
        name: of the report.
        recipe: the module of its task.
    """

    kind: str
    path: Path
    name: str
    recipe: ModuleType
    predict: Predict
    metadata: ModelMetadata
    photos: tuple[Dataset, Split]


def find_scored(root: Path, config: EvaluateConfig, machine: Machine) -> Scored:
    """The exported file, the run of that name or folder, or the newest run; with its own photos or ``--dataset``.

    Raises:
        SimclrsegError: if there is no such model, or its photos are not at hand.
    """
    name = config.data.run
    if name is not None and Path(name).suffix in SUFFIXES.values():
        path = Path(name)
        if path.suffix != SUFFIXES["onnx"]:
            raise UsageError(f"{path}: of exported files only {SUFFIXES['onnx']} is scored; or name its run")
        predict, metadata = open_exported(path, config.hardware.device)
        log.info(f"model {path}")
        photos = photos_of_file(path, metadata, config.data.dataset)
        label = re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+") or "model"
        return Scored("model", path, label, task_of_model(metadata), predict, metadata, photos)
    run = model_run(root, name)
    log.info(f"run {run.folder}")
    recipe = task_of(run)
    model, metadata = recipe.load_model(run.folder / MODEL_FILE)
    predict = recipe.predictor(recipe.scoring_task(model, metadata), machine)
    return Scored("run", run.folder, run.name, recipe, predict, metadata, photos_to_score(run, config))


def photos_to_score(run: runs.Run, config: EvaluateConfig) -> tuple[Dataset, Split]:
    """The run's own dataset and split, or those of ``--dataset`` by the same rules."""
    if config.data.dataset is None:
        _, dataset, split = dataset_of(run)
        return dataset, split
    own = parse_config_file(FinetuneConfig, str(run.folder))
    data = own.data.model_copy(
        update={"dataset": config.data.dataset, "data_ratio": 1.0, "fold": None, "group_by": None}
    )
    dataset, split = TASKS[own.model.task].open_labelled(data)
    return dataset, split
