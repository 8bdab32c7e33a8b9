"""Targets of fine-tuning: labelled images, their split, and what a network is trained to predict."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import nn

from simclrseg.data.datasets import DATASETS, HUB
from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.samples import Samples
from simclrseg.data.splits import Split, make_split
from simclrseg.engine.history import Observer
from simclrseg.engine.task import Task
from simclrseg.errors import DataError
from simclrseg.images.bands import parsed_bands
from simclrseg.inference.tiling import Predict
from simclrseg.knobs.parsing import parse_config
from simclrseg.metadata import ModelMetadata
from simclrseg.registry import imported
from simclrseg.scores.pixels import RESOLUTIONS, Resolution
from simclrseg.scores.results import Scores
from simclrseg.targets.knobs import ConsistencyKnobs, LabelledData, TargetKnobs
from simclrseg.targets.learner import Learner
from simclrseg.weights.find import Pretrained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scoring:
    """How predictions are compared with what is true.

    Attributes:
        workers: threads that read images.
        batch_size: images that are asked about at once.
        at: the only resolution to count the pixels of masks at; None for both.
        empty: what a mask counts in which there is nothing to find and nothing was found.
    """

    workers: int
    batch_size: int
    at: Resolution | None = None
    empty: float = 1.0

    @property
    def resolutions(self) -> tuple[Resolution, ...]:
        """Those at which the pixels of masks are counted."""
        return RESOLUTIONS if self.at is None else (self.at,)


S = TypeVar("S", bound=Scores)
K = TypeVar("K", bound=TargetKnobs)


class Target(ABC, Generic[K, S]):
    """Labelled images and their split, and what a network is trained on from them.

    Args:
        knobs: of the training; by default those of ``KNOBS``.
        for_training: False where they are only scored: any part of the split may be empty then.
        split: how they are split already; by default ``data`` says it.

    Attributes:
        TASK: what metadata call it.
        NEXT: the command to try a trained model with, on an ``{image}``.
        LABEL: what an image must have, as "mask".
        truth_hash: of what is true of the images, where it does not stand in their paths; known once the network is.
        COMPARE: scores predictions on images of a dataset, those that can be read; DataError if none can.

    Raises:
        DataError: if the images are too few for training, validation and test.
    """

    KNOBS: type[K]
    TASK: ClassVar[str]
    NEXT: ClassVar[str]
    MASKS: ClassVar[bool]
    LABEL: ClassVar[str]
    COMPARE: Callable[[Predict, Dataset, Sequence[int], ModelMetadata, Scoring], S]
    truth_hash = ""

    @classmethod
    def next(cls, metadata: ModelMetadata) -> str:
        """The command to try this model with."""
        return cls.NEXT.format(image=metadata.example)

    def __init__(
        self,
        data: LabelledData,
        dataset: Dataset,
        knobs: K | None = None,
        *,
        for_training: bool = True,
        split: Split | None = None,
    ) -> None:
        self.data = data
        self.knobs = knobs or self.KNOBS()
        self.dataset = dataset
        self.split = split or self.make_split(for_training=for_training)

    @classmethod
    def open(
        cls,
        data: LabelledData,
        knobs: K | None = None,
        *,
        for_training: bool = True,
        model: ModelMetadata | None = None,
        resumed: bool = False,
    ) -> Self:
        """Open the images that ``data`` names, for a ``model`` or for one to be trained, and split them."""
        own = model is not None and (for_training or _are_the_same(data.name, model.data.get("dataset")))
        dataset = cls.open_dataset(data, model, settled=resumed or own)
        return cls(data, dataset, knobs, for_training=for_training)

    @staticmethod
    @abstractmethod
    def open_dataset(data: LabelledData, model: ModelMetadata | None = None, *, settled: bool = False) -> Dataset:
        """Open the images; raise DataError if they have no labels of this kind.

        Args:
            model: that they are for; None for one to be trained.
            settled: True for images that were trained on already.
        """

    @property
    @abstractmethod
    def usable(self) -> list[int]:
        """The images that have a label."""

    @property
    def strata(self) -> list[int] | None:
        """Class of each image, where the parts of the split should hold classes in proportion."""
        return None

    def make_split(self, *, for_training: bool, whole: bool = False) -> Split:
        """Split the images that have a label, or with ``whole`` all, as if each had one."""
        data = self.data
        usable = list(range(len(self.dataset))) if whole else self.usable
        split = make_split(
            self.dataset.keys,
            official=self.dataset.official,
            usable=usable,
            test_split=data.test_split,
            seed=data.split_seed,
            data_ratio=data.data_ratio,
            max_images=data.max_images,
            strata=self.strata,
            validation=data.validation,
            fold=data.fold_numbers,
            group_by=data.group_by,
            twins=self.dataset.twins,
            for_training=for_training,
        )
        if for_training and not split.test:
            few = f"{len(usable)} photos with {self.LABEL}s"
            raise DataError(f"{data.dataset}: {few} leave none for the test part", "add photos")
        return split

    def tell(self) -> None:
        """Say what was understood of the images, which are left out, and how they are split."""
        for line in self.dataset.summary:
            log.info(line)
        if bare := len(self.dataset) - len(self.usable):
            log.info(f"{self.dataset.name}: {bare:,} photos without a {self.LABEL} are skipped")
        log.info(self.split.line)

    @abstractmethod
    def hash_of(self, indices: Sequence[int]) -> str:
        """A hash of some images and of what is true of them."""

    def check_model(self, metadata: ModelMetadata) -> None:
        """Refuse images that a model cannot be scored on: of other bands, or with classes that mean other things."""
        check_bands(self.dataset, metadata, remedy="score it on such pictures")
        self.check_classes(metadata)

    @abstractmethod
    def check_classes(self, metadata: ModelMetadata) -> None:
        """Refuse by DataError classes that are not the model's."""

    @classmethod
    @abstractmethod
    def check_encoder(cls, knobs: K, encoder: str, *, image_size: int) -> None:
        """Refuse by UsageError, before anything is built, an encoder that does not take images of this size."""

    @staticmethod
    @abstractmethod
    def set_stem(backbone: nn.Module, encoder: str, pretrained: Pretrained, *, image_size: int) -> str:
        """Give the encoder its stem, before the weights are loaded, and return its name."""

    @property
    @abstractmethod
    def loss_name(self) -> str:
        """The loss that was asked for, else the usual one; UsageError if it does not suit the classes."""

    @abstractmethod
    def build_model(self, backbone: nn.Module, encoder: str, *, dropout: float) -> tuple[nn.Module, dict[str, Any]]:
        """The network around an encoder, and what its metadata say of this target, by their fields."""

    def load_start(self, model: nn.Module, pretrained: Pretrained, metadata: ModelMetadata) -> dict[str, Any]:
        """Load what of the weights is not the encoder's, and report it by the part it is of; by default nothing.

        Args:
            metadata: of the network.
        """
        return {}

    def crops(self, dataset: Dataset, indices: Sequence[int]) -> Sequence[int]:
        """How often each image comes in an epoch of training; empty where each comes once."""
        return ()

    @cached_property
    def epoch_length(self) -> int:
        """Samples of an epoch of training."""
        return sum(self.crops(self.dataset, self.split.train)) or len(self.split.train)

    def passes(self, indices: Sequence[int]) -> int:
        """How many squares the network sees to score some images."""
        return len(indices)

    @abstractmethod
    def make_samples(
        self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, *, augmentation: str, seed: int
    ) -> Samples:
        """Samples to train on.

        Args:
            dataset: the target's own as training reads it, from a cache where there is one.
            metadata: of the network.
            augmentation: of ``PAIR_STRENGTHS``, drawn anew each epoch.
        """

    def make_validation(self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata) -> Samples:
        """Samples to compare epochs on, in which nothing is random."""
        return self.make_samples(dataset, indices, metadata, augmentation="none", seed=0)

    def make_unlabelled(
        self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, *, seed: int
    ) -> Samples:
        """Samples of unlabelled images, for targets whose OPENING has them."""
        raise NotImplementedError

    @abstractmethod
    def make_learner(self, model: nn.Module, metadata: ModelMetadata, *, pairs: Dataset, threads: int) -> Learner:
        """The network with its loss; ``pairs`` is the dataset as training and validation read it."""

    def make_consistency(self, learner: Learner, knobs: ConsistencyKnobs, *, epochs: int, steps: int) -> Task:
        """The learner with unlabelled images too, ``steps`` an epoch, for targets whose OPENING has them."""
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> tuple[Learner, ModelMetadata]:
        """The network of a ``model.safetensors``, to be asked only; WeightsError if it is none of this target."""

    def callbacks(self, folder: Path, predict: Predict, pairs: Dataset, metadata: ModelMetadata) -> list[Observer]:
        """Observers that draw pictures in a run's folder while it is trained; none by default."""
        return []

    def score(self, predict: Predict, indices: Sequence[int], metadata: ModelMetadata, scoring: Scoring) -> S:
        """Compare predictions with the truth, and say how many images could not be read."""
        scores = self.COMPARE(predict, self.dataset, indices, metadata, scoring)
        if scores.skipped:
            log.warning(f"{len(scores.skipped)} photos could not be scored; the first: {scores.skipped[0]}")
        return scores

    @abstractmethod
    def draw_test(self, folder: Path, predict: Predict, scores: S) -> None:
        """Write what shows a run's test scores."""

    @staticmethod
    @abstractmethod
    def metric_names(metadata: ModelMetadata) -> tuple[str, ...]:
        """The metrics over a split that such a model's scores have."""


def target_class(knobs: TargetKnobs | type[TargetKnobs]) -> type[Target[Any, Any]]:
    """The target that takes these knobs."""
    target: type[Target[Any, Any]] = imported(knobs.TARGET)
    return target


def opening(data: LabelledData, model: ModelMetadata | None) -> DatasetOptions:
    """How images are opened, whatever labels they have: their columns and bands, and for a model as it takes them."""
    return DatasetOptions(
        image_column=data.image_column,
        label_column=data.label_column,
        bands=parsed_bands(data.bands) if data.bands else (),
        reach=model.reach if model else None,
        model_bands=model.bands if model else (),
    )


def check_bands(dataset: Dataset, metadata: ModelMetadata, *, remedy: str) -> None:
    """Refuse by DataError images of other bands, or of another full scale, than a network's."""
    if (dataset.bands, dataset.full_scale) != (metadata.bands, metadata.full_scale):
        raise DataError(
            f"{dataset.name} has the bands {', '.join(dataset.bands)} up to {dataset.full_scale:,}, but the model was "
            f"trained on {', '.join(metadata.bands)} up to {metadata.full_scale:,}",
            remedy,
        )


def elsewhere(own: Mapping[str, Any], dataset: str) -> LabelledData:
    """How another dataset is opened: by the rules of a model's own, as far as it has a use for them.

    It is split as if nothing were said of that, so that models which were trained on different splits are scored on the
    same images of it. Only a model's own dataset keeps its own split: the usual test images may have trained it.

    Args:
        own: what the model's own images were opened with, by the names of ``LabelledData``.
    """
    kept = ["classes", "bands"]
    kept += ["test_split", "split_seed", "group_by"] if _are_the_same(dataset, own.get("dataset")) else []
    kept += ["border"] if dataset == "oxford_pets" else []
    kept += ["classes_file", "masks"] if dataset not in DATASETS else []
    kept += ["image_column", "label_column", "mask_column"] if dataset.startswith(HUB) else []
    values = {name: own[name] for name in kept if name in own}
    return parse_config(LabelledData, {**values, "dataset": dataset}, source="the model's data", of_a_run=True)


def _are_the_same(dataset: str, own: object) -> bool:
    """Whether two names are of one dataset: a folder has many. A pretraining has a list of them."""
    if not isinstance(own, str) or not {dataset, own}.isdisjoint(DATASETS) or dataset.startswith(HUB):
        return dataset == own
    return os.path.realpath(dataset) == os.path.realpath(own)
