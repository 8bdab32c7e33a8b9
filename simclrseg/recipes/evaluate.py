"""`simclrseg evaluate`: how good is a fine-tuned model, on its own test photos or on others?"""

from __future__ import annotations

import csv
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simclrseg import runs
from simclrseg.config import EvaluateConfig, FinetuneConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.splits import Split
from simclrseg.errors import DataError, RunError
from simclrseg.evaluation.segmentation import Resolution, Scores
from simclrseg.files import replacing, write_text
from simclrseg.knobs import dump_config, parse_config_file
from simclrseg.metadata import MODEL_FILE, ModelMetadata
from simclrseg.metrics import segmentation_metrics
from simclrseg.models.segmenters import load_segmenter
from simclrseg.recipes._seen import warn_if_seen
from simclrseg.recipes._segmenter import dataset_of, open_labelled, results, score_photos, segmenter_task, tell
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
    model, metadata = load_segmenter(run.folder / MODEL_FILE)
    dataset, split = photos_to_score(run, config)
    tell(dataset, split)
    check_bands(dataset, metadata)
    check_classes(dataset, metadata)
    parts = ("train", "validation", "test") if config.data.split == "all" else (config.data.split,)
    indices = sorted(index for part in parts for index in getattr(split, part))
    if not indices:
        raise DataError(f"the {config.data.split} part of {dataset.name} is empty: choose another --split")
    own = set() if config.data.dataset else {*split.train, *split.validation}
    warn_if_seen(dataset, [index for index in indices if index not in own], metadata)
    report = runs.claim(root, "evaluate", run.name)
    try:
        runs.record(report, started=datetime.now(UTC).isoformat(timespec="seconds"), scored=str(run.folder))
        write_text(report.folder / "config.yaml", dump_config(config))
        metadata = metadata.model_copy(update={"border": dataset.border})
        scores = score_photos(
            segmenter_task(model, metadata),
            dataset,
            indices,
            metadata=metadata,
            machine=machine,
            batch_size=config.data.batch_size,
        )
        scored = results(scores, split=config.data.split, metadata=metadata)[config.data.at]
        result = {"run": str(run.folder), "dataset": dataset.name, **scored}
        write_text(report.folder / "metrics.json", json.dumps(result, indent=1) + "\n")
        write_per_image(report.folder / "per_image.csv", scores, config.data.at)
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


def check_classes(dataset: Dataset, metadata: ModelMetadata) -> None:
    """Refuse a dataset whose class ids mean other things; of two classes the second is the foreground by any name.

    Raises:
        DataError: if the classes are others.
    """
    if dataset.classes == metadata.classes:
        return
    theirs, ours = ", ".join(dataset.classes), ", ".join(metadata.classes)
    if len(dataset.classes) != len(metadata.classes) or len(metadata.classes) > 2:
        raise DataError(
            f"{dataset.name} has the classes {theirs}, but the model was trained for {ours}: "
            "score it on a dataset with the same classes"
        )
    log.warning(f"{dataset.name} calls its classes {theirs}, the model {ours}: the second is the foreground of both")


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
    own = parse_config_file(FinetuneConfig, str(run.folder)).data
    return open_labelled(own.model_copy(update={"dataset": config.data.dataset, "data_ratio": 1.0}))


def write_per_image(path: Path, scores: Scores, resolution: Resolution) -> None:
    """One row an image, in the order in which they were scored."""
    rows = [
        {"image": key, **segmentation_metrics(counts)}
        for key, counts in zip(scores.keys, scores.counts[resolution], strict=True)
    ]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
