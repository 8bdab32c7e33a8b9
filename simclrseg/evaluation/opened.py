"""Fine-tuned runs and files opened again: their target, and the images that they were trained with."""

from __future__ import annotations

from typing import Any

from simclrseg import runs
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.splits import SPLIT_FILE, stored_split
from simclrseg.errors import DataError, ModelFileError
from simclrseg.knobs.files import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.targets import TARGETS
from simclrseg.targets.base import Target, target_class

TargetClass = type[Target[Any, Any]]


def target_of(run: runs.Run) -> TargetClass:
    """The target of a run."""
    return target_class(config_of_run(FinetuneConfig, run.folder).target)


def target_of_model(metadata: ModelMetadata) -> TargetClass:
    """The target of a model file.

    Raises:
        ModelFileError: if it is no fine-tuned model.
    """
    targets = [target_class(knobs) for knobs in TARGETS.values()]
    for target in targets:
        if metadata.task == target.TASK:
            return target
    known = " or ".join(target.TASK for target in targets)
    raise ModelFileError(f"the model is for {metadata.task!r}, not for {known}: fine-tune it first")


def images_of(run: runs.Run) -> Target[Any, Any]:
    """A run's images, split as its record says, and checked by the hash of the test images.

    Raises:
        DataError: if the test images or what is true of them have changed since.
    """
    config = config_of_run(FinetuneConfig, run.folder)
    kind = target_class(config.target)
    dataset, record = kind.open_dataset(config.data), run.folder / SPLIT_FILE
    target = kind(config.data, dataset, split=stored_split(dataset, record) if record.is_file() else None)
    stored = run.environment.get("test_hash")
    if stored and target.hash_of(target.split.test) != stored:
        raise DataError(
            f"the test photos of {config.data.dataset} are not those that run {run.name!r} was trained with: they "
            "changed on the disk",
            "restore them, or fine-tune again",
        )
    return target
