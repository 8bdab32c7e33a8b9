"""What fine-tuning does differently for each task, by the name users type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import nn

from simclrseg import runs
from simclrseg.config.finetune import FinetuneConfig, LabelledData
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.samples import MaskPairs, Photos
from simclrseg.data.splits import Split
from simclrseg.engine.history import Observer
from simclrseg.errors import DataError, ModelFileError
from simclrseg.inference.masks import Predict
from simclrseg.knobs.files import config_of_run
from simclrseg.metadata import ModelMetadata
from simclrseg.scores.intervals import Floats
from simclrseg.scores.results import Estimate, Scores
from simclrseg.targets.classification import scores as classification
from simclrseg.targets.classification import target as classifier
from simclrseg.targets.labelled import Network
from simclrseg.targets.segmentation import scores as segmentation
from simclrseg.targets.segmentation import target as segmenter


class TaskScores(Scores, Protocol):
    """What was found in N images, and which images these are."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The N images as numbers in their dataset."""
        ...

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) pixels or photos by true class (row) and predicted class (column)."""
        ...


Found = TypeVar("Found", bound=TaskScores)


class FinetuningTask(Protocol[Found]):
    """The functions that a task's module has; ``Found`` is its kind of scores."""

    @property
    def TASK(self) -> str:
        """What metadata call it."""
        ...

    @property
    def MASKS(self) -> bool:
        """Whether masks are read."""
        ...

    @property
    def SAMPLES(self) -> type[MaskPairs] | type[Photos]:
        """What batches are made of."""
        ...

    @property
    def NEXT(self) -> str:
        """The command to try a trained model with."""
        ...

    def check_encoder(self, config: FinetuneConfig, encoder: str) -> None:
        """Refuse by UsageError, before anything is built, an encoder that does not take pictures of this size."""
        ...

    def open_labelled(self, config: LabelledData, *, for_training: bool = True) -> tuple[Dataset, Split]:
        """Photos and their split; DataError where they have no masks or labels, or are too few ``for_training``."""
        ...

    def tell(self, dataset: Dataset, split: Split) -> None:
        """Say what was understood of the photos, which are left out, and how they are split."""
        ...

    def loss_of(self, config: FinetuneConfig, dataset: Dataset) -> str:
        """The name of the loss; UsageError if the one that was asked for does not suit the classes."""
        ...

    def set_stem(self, backbone: nn.Module, encoder: str, source: ModelMetadata | None, config: FinetuneConfig) -> str:
        """Give the encoder its stem, before the weights that ``source`` describes are loaded, and return its name."""
        ...

    def build_model(
        self, config: FinetuneConfig, backbone: nn.Module, encoder: str, dataset: Dataset
    ) -> tuple[nn.Module, dict[str, Any]]:
        """The network around an encoder, and what its metadata say of this task, by their fields."""
        ...

    def hash_of_test(self, dataset: Dataset, test: Sequence[int]) -> str:
        """A hash of some photos and of what is true of them."""
        ...

    def training_task(
        self,
        config: FinetuneConfig,
        model: nn.Module,
        metadata: ModelMetadata,
        loss: str,
        *,
        dataset: Dataset,
        pairs: Dataset,
        split: Split,
        threads: int,
    ) -> Network:
        """The network with its loss; DataError or UsageError if what is true of the photos does not fit."""
        ...

    def watchers(
        self,
        config: FinetuneConfig,
        folder: Path,
        predict: Predict,
        dataset: Dataset,
        validation: Sequence[int],
        *,
        metadata: ModelMetadata,
    ) -> list[Observer]:
        """Observers that draw pictures in a run's folder while it is trained."""
        ...

    def score_predictions(
        self,
        predict: Predict,
        dataset: Dataset,
        indices: Sequence[int],
        *,
        metadata: ModelMetadata,
        workers: int,
        batch_size: int,
        at: segmentation.Resolution | None = None,
        empty: float = 1.0,
    ) -> Found:
        """What ``predict`` says beside what is true, of those photos that can be read; DataError if none can."""
        ...

    def results(self, scores: Found, *, split: str, metadata: ModelMetadata) -> dict[str, Any]:
        """What ``test.json`` holds."""
        ...

    def draw_test(
        self,
        folder: Path,
        predict: Predict,
        dataset: Dataset,
        test: Sequence[int],
        scores: Found,
        *,
        metadata: ModelMetadata,
    ) -> None:
        """Write the pictures that show a run's test scores."""
        ...

    def headline(self, result: dict[str, Any]) -> dict[str, Any]:
        """The part of ``results`` that is quoted, with ``metrics``."""
        ...

    def load_model(self, path: Path) -> tuple[nn.Module, ModelMetadata]:
        """The network of a ``model.safetensors``, in evaluation mode; WeightsError if it is none of this task."""
        ...

    def scoring_task(self, model: nn.Module, metadata: ModelMetadata) -> Network:
        """The network, to be asked only."""
        ...

    def check_classes(self, dataset: Dataset, metadata: ModelMetadata) -> None:
        """Refuse by DataError a dataset whose classes are not the model's."""
        ...

    def metric_names(self, metadata: ModelMetadata) -> tuple[str, ...]:
        """The metrics over a split that such a model's scores have."""
        ...

    def notes(
        self, scores: Found, weights: Floats | None, metadata: ModelMetadata, validation: Callable[[], Found] | None
    ) -> dict[str, Any]:
        """What belongs beside the numbers; weights (R, N) of resamples, and scores of the validation photos if any."""
        ...

    def image_means(self, scores: Found, weights: Floats | None) -> dict[str, Estimate]:
        """The means over images of their own metrics; weights (R, N) of resamples, None for no intervals."""
        ...

    def image_rows(self, scores: Found, metadata: ModelMetadata) -> list[dict[str, Any]]:
        """A row an image, N in the order of ``scores``."""
        ...

    def write_pictures(self, folder: Path, scores: Found, metadata: ModelMetadata) -> None:
        """Write the pictures that show an evaluation's scores."""
        ...


# by name, so that mypy sees that a module takes the scores that it makes; Any would hide it
_SEGMENT: FinetuningTask[segmentation.Scores] = segmenter
_CLASSIFY: FinetuningTask[classification.Scores] = classifier
TASKS: dict[str, FinetuningTask[Any]] = {"segment": _SEGMENT, "classify": _CLASSIFY}


def task_of(run: runs.Run) -> FinetuningTask[Any]:
    """The functions for a run's task."""
    return TASKS[config_of_run(FinetuneConfig, run.folder).model.task]


def task_of_model(metadata: ModelMetadata) -> FinetuningTask[Any]:
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
