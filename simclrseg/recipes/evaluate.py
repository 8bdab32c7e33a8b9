"""`simclrseg evaluate`: how good is a fine-tuned model, on its own test photos or on others?"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simclrseg import runs
from simclrseg.config import EvaluateConfig, FinetuneConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.splits import Split
from simclrseg.errors import DataError, RunError
from simclrseg.files import replacing, write_text
from simclrseg.knobs import dump_config, parse_config_file
from simclrseg.metadata import MODEL_FILE
from simclrseg.recipes._tasks import TASKS, dataset_of, task_of
from simclrseg.recipes._training import prepare_machine

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score a run's model.

    Returns:
        What the command prints: the run, the photos that were scored and the metrics.

    Raises:
        SimclrsegError: for everything that a user can mend; nothing is written then.
    """
    machine = prepare_machine(config.hardware, "fp32")  # as the exported model computes
    root = Path(config.console.runs)
    run = model_run(root, config.data.run)
    log.info(f"run {run.folder}")
    recipe = task_of(run)
    model, metadata = recipe.load_model(run.folder / MODEL_FILE)
    dataset, split = photos_to_score(run, config)
    recipe.tell(dataset, split)
    recipe.check_classes(dataset, metadata)
    parts = ("train", "validation", "test") if config.data.split == "all" else (config.data.split,)
    indices = sorted(index for part in parts for index in getattr(split, part))
    if not indices:
        raise DataError(f"the {config.data.split} part of {dataset.name} is empty: choose another --split")
    report = runs.claim(root, "evaluate", run.name)
    try:
        runs.record(report, started=datetime.now(UTC).isoformat(timespec="seconds"), scored=str(run.folder))
        write_text(report.folder / "config.yaml", dump_config(config))
        metadata = metadata.model_copy(update={"border": dataset.border})
        scores = recipe.score_photos(
            recipe.scoring_task(model, metadata),
            dataset,
            indices,
            metadata=metadata,
            machine=machine,
            batch_size=config.data.batch_size,
        )
        scored = recipe.headline(recipe.results(scores, split=config.data.split, metadata=metadata), at=config.data.at)
        result = {"run": str(run.folder), "dataset": dataset.name, **scored}
        write_text(report.folder / "metrics.json", json.dumps(result, indent=1) + "\n")
        write_rows(report.folder / "per_image.csv", recipe.image_rows(scores, config.data.at))
        runs.finish(report)
    except BaseException:
        runs.discard_unless_started(report)
        raise
    return {**result, "report": str(report.folder)}


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


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
