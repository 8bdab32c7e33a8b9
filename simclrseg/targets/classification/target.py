"""Classification, as finetune, evaluate and export do it: the functions of ``_tasks.FinetuningTask``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from simclrseg.charts import plots
from simclrseg.config.finetune import FinetuneConfig, LabelledData
from simclrseg.data.datasets.base import UNLABELLED, Dataset, DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.samples import Photos
from simclrseg.data.splits import Split, labelled_test_hash
from simclrseg.engine.history import Observer
from simclrseg.errors import DataError, UsageError, some
from simclrseg.inference.masks import Predict
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import TOP
from simclrseg.models.backbones import check_backbone
from simclrseg.models.classifiers import Classifier, load_classifier
from simclrseg.models.stems import choose_stem, set_cifar_stem
from simclrseg.scores.intervals import Floats
from simclrseg.scores.results import Estimate
from simclrseg.targets import labelled
from simclrseg.targets.classification.scores import Scores, score
from simclrseg.targets.classification.task import Classification
from simclrseg.targets.segmentation.scores import Resolution

log = logging.getLogger(__name__)

LOSS = "ce"
TASK = "classification"
SAMPLES = Photos
MASKS = False  # are not read
NEXT = "simclrseg predict photo.jpg"

load_model = load_classifier
hash_of_test = labelled_test_hash


def open_labelled(config: LabelledData, *, for_training: bool = True) -> tuple[Dataset, Split]:
    """Open photos with labels and split them, classes in proportion.

    Args:
        for_training: False where they are only scored: any part may be empty then.

    Raises:
        DataError: if there are no labels, fewer than two classes to learn, or too few photos for a split.
    """
    dataset = open_dataset(
        config.name, DatasetOptions(masks=False, image_column=config.image_column, label_column=config.label_column)
    )
    if dataset.labels is None or len(dataset.label_names) < 2:
        found = "one class" if dataset.label_names else "no labels"
        raise DataError(
            f"{config.dataset} holds {found}: classification needs two or more, a folder with one folder a class, "
            "or a named set such as cifar10"
        )
    return dataset, split_labelled(config, dataset, for_training=for_training)


def split_labelled(config: LabelledData, dataset: Dataset, *, for_training: bool = True) -> Split:
    """Split photos that have labels, as ``open_labelled`` does.

    Raises:
        DataError: if they are too few, or those to train on have one label.
    """
    assert dataset.labels is not None  # or there were nothing to split
    labels = dataset.labels.tolist()
    usable = [index for index, label in enumerate(labels) if label != UNLABELLED]
    what = "photos with labels"
    split = labelled.split_dataset(config, dataset, usable, what=what, strata=labels, for_training=for_training)
    if for_training and len(learned := {labels[index] for index in split.train}) < 2:
        raise DataError(
            f"{config.dataset}: all training photos are {dataset.label_names[learned.pop()]}, so there is nothing to "
            "tell apart: add photos of other classes, or raise --data-ratio"
        )
    return split


def tell(dataset: Dataset, split: Split) -> None:
    """Say what was understood of the photos, which are left out, how they are split, and which classes are missing."""
    assert dataset.labels is not None  # it was opened
    labelled.tell(dataset, split, bare=int((dataset.labels == UNLABELLED).sum()), without="a label")
    counts = Counter(dataset.labels[list(split.train)].tolist())
    if not counts:  # they are only scored
        return
    log.info(
        f"{len(dataset.label_names)} classes, {min(counts.values()):,} to {max(counts.values()):,} training photos each"
    )
    if missing := [name for label, name in enumerate(dataset.label_names) if label not in counts]:
        log.warning(f"no training photo of {some(missing)}: the model cannot learn what that is")


def check_encoder(config: FinetuneConfig, encoder: str) -> None:
    """Refuse what cannot be built, before anything is.

    Raises:
        UsageError: if the encoder does not take pictures of this size.
    """
    check_backbone(encoder, image_size=config.data.image_size)


def set_stem(backbone: nn.Module, encoder: str, source: ModelMetadata | None, config: FinetuneConfig) -> str:
    """Give the encoder the stem of its weights, before they are loaded, and return its name.

    Random weights get what pretraining would give them, so that the two can be compared.
    """
    asked = "auto" if config.model.pretrained == "none" else source.stem if source else "imagenet"
    stem = choose_stem(asked, backbone, encoder, image_size=config.data.image_size)
    if stem == "cifar":
        set_cifar_stem(backbone)
    return stem


def loss_of(config: FinetuneConfig, dataset: Dataset) -> str:
    """The name of the loss.

    Raises:
        UsageError: if another one was asked for.
    """
    if config.training.loss not in (None, LOSS):
        raise UsageError(f"--loss {config.training.loss} is for masks: --task classify has {LOSS}, leave it out")
    return LOSS


def build_model(
    config: FinetuneConfig, backbone: nn.Module, encoder: str, dataset: Dataset
) -> tuple[nn.Module, dict[str, Any]]:
    """The network around an encoder, and what its metadata say of this task."""
    facts = {"task": TASK, "classes": dataset.label_names, "dropout": config.model.dropout}
    return Classifier(backbone, len(dataset.label_names), dropout=config.model.dropout), facts


def training_task(
    config: FinetuneConfig,
    model: nn.Module,
    metadata: ModelMetadata,
    loss: str,
    *,
    dataset: Dataset,
    pairs: Dataset,
    split: Split,
    threads: int,
) -> Classification:
    """The network with its loss."""
    return _task(model, metadata, label_smoothing=config.training.label_smoothing)


def scoring_task(model: nn.Module, metadata: ModelMetadata) -> Classification:
    """The network, to be asked only."""
    return _task(model, metadata, label_smoothing=0.0)


def _task(model: nn.Module, metadata: ModelMetadata, *, label_smoothing: float) -> Classification:
    return Classification(
        model,
        classes=metadata.classes,
        mean=metadata.mean,
        std=metadata.std,
        full_scale=metadata.full_scale,
        label_smoothing=label_smoothing,
    )


def watchers(
    config: FinetuneConfig,
    folder: Path,
    predict: Predict,
    dataset: Dataset,
    validation: Sequence[int],
    *,
    metadata: ModelMetadata,
) -> list[Observer]:
    """Who draws pictures during training: nobody."""
    return []


def score_predictions(
    predict: Predict,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    metadata: ModelMetadata,
    workers: int,
    batch_size: int,
    at: Resolution | None = None,
    empty: float = 1.0,
) -> Scores:
    """Compare what ``predict`` says with the labels, and name the photos that could not be read.

    A label has no resolution and is never empty.
    """
    scores = score(
        predict,
        dataset,
        indices,
        classes=metadata.classes,
        image_size=metadata.image_size,
        batch_size=batch_size,
        workers=workers,
    )
    if scores.skipped:
        log.warning(f"{len(scores.skipped)} photos could not be scored; the first: {scores.skipped[0]}")
    return scores


def results(scores: Scores, *, split: str, metadata: ModelMetadata) -> dict[str, Any]:
    """What ``test.json`` holds."""
    return {"split": split, "n": len(scores.keys), "metrics": scores.metrics}


def headline(result: dict[str, Any]) -> dict[str, Any]:
    """The part of ``results`` that is quoted: all of it, a label has no resolution."""
    return result


def draw_test(
    folder: Path,
    predict: Predict,
    dataset: Dataset,
    test: Sequence[int],
    scores: Scores,
    *,
    metadata: ModelMetadata,
) -> None:
    """Show which classes are taken for which, in ``confusion.png`` and ``confusion.csv``."""
    write_pictures(folder, scores, metadata)
    labelled.write_confusion(folder, scores.confusion, metadata.classes)


def image_rows(scores: Scores, metadata: ModelMetadata) -> list[dict[str, Any]]:
    """A row a photo, in the order in which they were scored."""
    return [
        {
            "image": key,
            "true": metadata.classes[label],
            "predicted": metadata.classes[predicted],
            "probability": float(probability[predicted]),
            "correct": int(predicted == label),
        }
        for key, label, predicted, probability in zip(
            scores.keys, scores.labels, scores.predicted, scores.probabilities, strict=True
        )
    ]


def image_means(scores: Scores, weights: Floats | None) -> dict[str, Estimate]:
    """The means over images of their own metrics: those over the split are such already."""
    return {}


def metric_names(metadata: ModelMetadata) -> tuple[str, ...]:
    """What ``Scores`` gives of such a model."""
    return ("accuracy", "macro_f1", *(("top5",) if len(metadata.classes) > TOP else ()))


def notes(
    scores: Scores, weights: Floats | None, metadata: ModelMetadata, validation: Callable[[], Scores] | None
) -> dict[str, Any]:
    """What belongs beside the numbers: nothing."""
    return {}


def write_pictures(folder: Path, scores: Scores, metadata: ModelMetadata) -> None:
    """Show which classes are taken for which, in ``confusion.png``."""
    plots.confusion(scores.confusion, metadata.classes, folder / "confusion.png")


def check_classes(dataset: Dataset, metadata: ModelMetadata) -> None:
    """Refuse photos of classes that the model does not know; their order and number may differ.

    Raises:
        DataError: if there are such.
    """
    if unknown := [name for name in dataset.label_names if name not in metadata.classes]:
        raise DataError(
            f"{dataset.name} has the classes {some(unknown)}, but the model was trained for "
            f"{some(metadata.classes)}: score it on photos of its own classes"
        )
