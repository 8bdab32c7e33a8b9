"""What fine-tuning does differently for each task, by the name users type. Each module offers the same functions."""

from __future__ import annotations

from types import ModuleType

from simclrseg import runs
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.splits import Split
from simclrseg.errors import DataError, ModelFileError
from simclrseg.knobs import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.recipes import _classifier, _segmenter

TASKS: dict[str, ModuleType] = {"segment": _segmenter, "classify": _classifier}


def task_of(run: runs.Run) -> ModuleType:
    """The functions for a run's task."""
    return TASKS[config_of_run(FinetuneConfig, run.folder).model.task]


def task_of_model(metadata: ModelMetadata) -> ModuleType:
    """The functions for a model file's task.

    Raises:
        ModelFileError: if it is no fine-tuned model.
    """
    for recipe in TASKS.values():
        if metadata.task == recipe.TASK:
            return recipe
    known = " or ".join(recipe.TASK for recipe in TASKS.values())
    raise ModelFileError(f"the model is for {metadata.task!r}, not for {known}: fine-tune it first")


def dataset_of(run: runs.Run) -> tuple[FinetuneConfig, Dataset, Split]:
    """A run's configuration, and its dataset and split as they were, checked by the hash of the test photos.

    Raises:
        DataError: if the test photos or what is true of them have changed since.
    """
    config = config_of_run(FinetuneConfig, run.folder)
    recipe = TASKS[config.model.task]
    dataset, split = recipe.open_labelled(config.data)
    stored = run.environment.get("test_hash")
    if stored and recipe.hash_of_test(dataset, split.test) != stored:
        raise DataError(
            f"the test photos of {config.data.dataset} are not those that run {run.name!r} was trained with: "
            "they changed on the disk; restore them, or fine-tune again"
        )
    return config, dataset, split
