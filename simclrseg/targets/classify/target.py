"""Classification: a class for every image, from labels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.data.augment import PAIR_STRENGTHS
from simclrseg.data.datasets.dataset import UNLABELLED, Dataset
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.samples import Images
from simclrseg.data.split_file import labelled_test_hash
from simclrseg.data.splits import Split
from simclrseg.engine.task import Batch, Logs
from simclrseg.errors import DataError, some
from simclrseg.inference.tiling import Predict
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import TOP, classification_metrics, confusion_matrix, in_top
from simclrseg.models.backbones import check_backbone
from simclrseg.models.classifiers import Classifier, load_classifier
from simclrseg.models.stems import choose_stem, set_cifar_stem
from simclrseg.targets.base import Target, opening
from simclrseg.targets.classify.knobs import Knobs
from simclrseg.targets.classify.scores import ClassificationScores, score
from simclrseg.targets.knobs import LabelledData
from simclrseg.targets.learner import Learner, over_processes
from simclrseg.weights.find import Pretrained

log = logging.getLogger(__name__)


class Classification(Learner):
    """A classification network, trained by cross entropy.

    Args:
        model: (N, 3, H, W) -> logits (N, K).
        label_smoothing: share ε of the target that is spread over all classes (Szegedy et al. 2016, §7), in [0, 1).
    """

    def __init__(self, model: nn.Module, metadata: ModelMetadata, *, label_smoothing: float = 0.0) -> None:
        super().__init__(model, metadata)
        self.label_smoothing = label_smoothing

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """``image`` (N, S, S, 3) uint8 and ``label`` (N,) int64 -> the smoothed loss, and the accuracy beside it."""
        logits, labels = self.logits(batch["image"]).float(), batch["label"]
        losses = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="none")
        return losses.mean(), {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``classification_metrics`` over all processes' batches, accuracy first, and the mean loss, not smoothed."""
        classes = len(self.classes)
        matrix = np.zeros((classes, classes), np.int64)
        total = hits = 0.0
        for batch in batches:
            if len(batch["image"]) == 0:  # a short batch may leave nothing for some processes
                continue
            logits = self.logits(batch["image"]).float()
            scores, labels = logits.cpu().numpy(), batch["label"].cpu().numpy()
            matrix += confusion_matrix(scores.argmax(1), labels, classes)
            hits += int(in_top(scores, labels).sum())
            total += F.cross_entropy(logits, batch["label"], reduction="sum").item()
        matrix, total, hits = over_processes(matrix, total, hits)
        images = int(matrix.sum())
        top = hits / images if classes > TOP else None
        return {**classification_metrics(matrix, top=top), "loss": total / images}

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, K) float32."""
        return self.logits(images).float().softmax(1)


def _why_no_classes(dataset: Dataset) -> str:
    """What keeps the folders of a set from being classes, if there are some."""
    beside = [key for key in dataset.keys if "/" not in key]
    folders = sorted({key.split("/")[0] for key in dataset.keys if "/" in key})
    if beside and len(folders) > 1:
        return f"beside the folders {some(folders)} lie {some(beside, shown=2)}, so that these are no classes; "
    inside = {key.split("/")[1] for key in dataset.keys if key.count("/") > 1}
    if not beside and len(folders) == 1 and len(inside) > 1:
        return f"if the folders in {folders[0]}/ are classes, name that folder; "
    return ""


class ClassificationTarget(Target[Knobs, ClassificationScores]):
    """Classification, as finetune, evaluate and export do it."""

    KNOBS = Knobs
    TASK = "classification"
    NEXT = "simclrseg predict {image}"
    MASKS = False
    LABEL = "label"
    COMPARE = staticmethod(score)

    @staticmethod
    def open_dataset(data: LabelledData, model: ModelMetadata | None = None, *, settled: bool = False) -> Dataset:
        """Open the images; DataError if they have no labels, or fewer than two classes to learn."""
        dataset = open_dataset(data.name, replace(opening(data, model), masks=False, labels=True))
        if dataset.labels is None or len(dataset.label_names) < 2:
            found = "one class" if dataset.label_names else "no labels"
            raise DataError(
                f"{data.dataset} holds {found}: {_why_no_classes(dataset)}classification needs two or more, a folder "
                "with one folder a class, or a named set such as cifar10"
            )
        return dataset

    @property
    def labels(self) -> list[int]:
        """The class id of each image, or ``UNLABELLED``."""
        assert self.dataset.labels is not None  # or it were not open
        ids: list[int] = self.dataset.labels.tolist()
        return ids

    @property
    def usable(self) -> list[int]:
        return [index for index, label in enumerate(self.labels) if label != UNLABELLED]

    @property
    def strata(self) -> list[int]:
        return self.labels

    def make_split(self, *, for_training: bool, whole: bool = False) -> Split:
        """Split the images that have a label, classes in proportion; DataError if those to train on have one."""
        split = super().make_split(for_training=for_training, whole=whole)
        labels = self.labels
        if for_training and len(learned := {labels[index] for index in split.train}) < 2:
            raise DataError(
                f"{self.data.dataset}: all training photos are {self.dataset.label_names[learned.pop()]}, so there is "
                "nothing to tell apart",
                "add photos of other classes, or raise --data-ratio",
            )
        return split

    def tell(self) -> None:
        """Say beside the rest how many images the classes have, and which are missing."""
        super().tell()
        labels, names = self.labels, self.dataset.label_names
        counts = Counter(labels[index] for index in self.split.train)
        if not counts:  # they are only scored
            return
        least, most = min(counts.values()), max(counts.values())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        log.info(f"{len(names)} classes, {each} training photos each")
        if missing := [name for label, name in enumerate(names) if label not in counts]:
            log.warning(f"no training photo of {some(missing)}: the model cannot learn what that is")

    def hash_of(self, indices: Sequence[int]) -> str:
        return labelled_test_hash(self.dataset, indices)

    def check_classes(self, metadata: ModelMetadata) -> None:
        """Refuse classes that the model does not know; their order and number may differ."""
        if unknown := [name for name in self.dataset.label_names if name not in metadata.classes]:
            raise DataError(
                f"{self.dataset.name} has the classes {some(unknown)}, but the model was trained for "
                f"{some(metadata.classes)}",
                "score it on photos of its own classes",
            )

    @classmethod
    def check_encoder(cls, knobs: Knobs, encoder: str, *, image_size: int) -> None:
        check_backbone(encoder, image_size=image_size)

    @staticmethod
    def set_stem(backbone: nn.Module, encoder: str, pretrained: Pretrained, *, image_size: int) -> str:
        """Random weights get the stem that pretraining would give them, so that the two can be compared."""
        source = pretrained.metadata
        asked = "auto" if pretrained.from_scratch else source.stem if source else "imagenet"
        stem = choose_stem(asked, backbone, encoder, image_size=image_size)
        if stem == "cifar":
            set_cifar_stem(backbone)
        return stem

    @property
    def loss_name(self) -> str:
        return "ce"

    def build_model(self, backbone: nn.Module, encoder: str, *, dropout: float) -> tuple[nn.Module, dict[str, Any]]:
        names = self.dataset.label_names
        model = Classifier(backbone, len(names), dropout=dropout)
        return model, {"task": self.TASK, "classes": names, "dropout": dropout}

    def make_samples(
        self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, *, augmentation: str, seed: int
    ) -> Images:
        data, strengths = self.data, PAIR_STRENGTHS[augmentation]
        return Images(dataset, indices, image_size=data.image_size, strengths=strengths, seed=seed, strict=data.strict)

    def make_learner(
        self, model: nn.Module, metadata: ModelMetadata, *, pairs: Dataset, threads: int
    ) -> Classification:
        return Classification(model, metadata, label_smoothing=self.knobs.label_smoothing)

    @classmethod
    def load(cls, path: Path) -> tuple[Classification, ModelMetadata]:
        model, metadata = load_classifier(path)
        return Classification(model, metadata), metadata

    def draw_test(self, folder: Path, predict: Predict, scores: ClassificationScores) -> None:
        scores.write_confusion(folder)

    @staticmethod
    def metric_names(metadata: ModelMetadata) -> tuple[str, ...]:
        return ("accuracy", "macro_f1", *(("top5",) if len(metadata.classes) > TOP else ()))
