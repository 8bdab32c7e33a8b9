"""What fine-tuning does differently for each task, by the name users type. Each module offers the same functions."""

from __future__ import annotations

from types import ModuleType

from simclrseg import runs
from simclrseg.config import FinetuneConfig
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.splits import Split
from simclrseg.errors import DataError
from simclrseg.knobs import parse_config_file
from simclrseg.recipes import _classifier, _segmenter

TASKS: dict[str, ModuleType] = {"segment": _segmenter, "classify": _classifier}


def task_of(run: runs.Run) -> ModuleType:
    """The functions for a run's task."""
    return TASKS[parse_config_file(FinetuneConfig, str(run.folder)).model.task]


def dataset_of(run: runs.Run) -> tuple[FinetuneConfig, Dataset, Split]:
    """A run's configuration, and its dataset and split as they were, checked by the hash of the test photos.

    Raises:
        DataError: if the test photos or what is true of them have changed since.
    """
    config = parse_config_file(FinetuneConfig, str(run.folder))
    recipe = TASKS[config.model.task]
    dataset, split = recipe.open_labelled(config.data)
    stored = run.environment.get("test_hash")
    if stored and recipe.hash_of_test(dataset, split.test) != stored:
        raise DataError(
            f"the test photos of {config.data.dataset} are not those that run {run.name!r} was trained with: "
            "they changed on the disk; restore them, or fine-tune again"
        )
    return config, dataset, split
