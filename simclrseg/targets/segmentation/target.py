"""Segmentation, as finetune, evaluate and export do it: the functions of ``_tasks.FinetuningTask``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from simclrseg.config.finetune import FinetuneConfig, LabelledData
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.samples import MaskPairs, spread
from simclrseg.data.splits import Split, test_hash
from simclrseg.engine.history import Observer
from simclrseg.errors import DataError, UsageError
from simclrseg.inference.masks import Predict
from simclrseg.losses import LOSSES
from simclrseg.losses.segmentation import total
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import per_class_iou, segmentation_metrics
from simclrseg.models import SEGMENTERS
from simclrseg.models.dropout import add_dropout
from simclrseg.models.segmenters import check_pair, default_decoder, load_segmenter
from simclrseg.scores.estimates import over_images
from simclrseg.scores.intervals import Floats, interval
from simclrseg.scores.results import Estimate
from simclrseg.targets import labelled
from simclrseg.targets.segmentation.examine import Examples, class_weights, draw_examples, examine_masks, open_masks
from simclrseg.targets.segmentation.scores import RESOLUTIONS, Resolution, Scores, best_threshold, score
from simclrseg.targets.segmentation.task import Segmentation

log = logging.getLogger(__name__)

EXAMPLES = 6
TASK = "segmentation"
SAMPLES = MaskPairs
MASKS = True  # are read
NEXT = "simclrseg predict photo.jpg -o mask.png"

load_model = load_segmenter
hash_of_test = test_hash


def open_labelled(config: LabelledData, *, for_training: bool = True) -> tuple[Dataset, Split]:
    """Open photos with masks and split them.

    Args:
        for_training: False where they are only scored: any part may be empty then.

    Raises:
        DataError: if there are no masks, or too few for a split.
    """
    dataset = open_masks(config)
    usable = [index for index in range(len(dataset)) if dataset.has_mask(index)]
    what = "photos with masks"
    return dataset, labelled.split_dataset(config, dataset, usable, what=what, for_training=for_training)


def tell(dataset: Dataset, split: Split) -> None:
    """Say what was understood of the photos, which are left out, and how they are split."""
    bare = sum(not dataset.has_mask(index) for index in range(len(dataset)))
    labelled.tell(dataset, split, bare=bare, without="a mask")


def check_encoder(config: FinetuneConfig, encoder: str) -> None:
    """Refuse what cannot be built, before anything is.

    Raises:
        UsageError: if the decoder cannot stand on the encoder, or not with pictures of this size.
    """
    check_pair(decoder_of(config, encoder), encoder, image_size=config.data.image_size)


def decoder_of(config: FinetuneConfig, encoder: str) -> str:
    """The decoder's name: the command line's, else the one that suits the encoder."""
    return config.model.decoder or default_decoder(encoder)


def set_stem(backbone: nn.Module, encoder: str, source: ModelMetadata | None, config: FinetuneConfig) -> str:
    """Give the encoder the stem that the network needs, before weights are loaded, and return its name."""
    if source is not None and source.stem == "cifar":
        log.warning(
            f"{config.model.pretrained} was pretrained with the CIFAR stem: stride 2 and max-pool come back here, "
            "so its early features change"
        )
    return "imagenet"


def loss_of(config: FinetuneConfig, dataset: Dataset) -> str:
    """The name of the loss, or of several with + between them.

    Raises:
        UsageError: if it cannot work on the dataset's classes.
    """
    classes = len(dataset.classes)
    loss = config.training.loss or ("bce" if classes == 2 else "ce")
    if "bce" in loss.split("+") and classes > 2:
        remedy = loss.replace("bce", "ce")
        raise UsageError(
            f"--loss {loss}: bce is for two classes, and {config.data.dataset} has {classes}: pass --loss {remedy}"
        )
    return loss


def build_model(
    config: FinetuneConfig, backbone: nn.Module, encoder: str, dataset: Dataset
) -> tuple[nn.Module, dict[str, Any]]:
    """The network around an encoder, and what its metadata say of this task."""
    decoder = decoder_of(config, encoder)
    if config.model.decoder is None and decoder != "unet":
        log.info(f"{encoder} is a vision transformer, whose masks come from {decoder} (--decoder)")
    classes = len(dataset.classes)
    outputs = classes if classes > 2 or "ce" in loss_of(config, dataset).split("+") else 1
    facts = {
        "task": TASK,
        "decoder": decoder,
        "dropout": config.model.dropout,
        "classes": dataset.classes,
        "colours": dataset.colours,
        "threshold": 0.5 if outputs == 1 else None,
        "border": dataset.border,
    }
    model = SEGMENTERS[decoder](backbone, encoder, outputs)
    add_dropout(model, config.model.dropout)
    return model, facts


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
) -> Segmentation:
    """The network with its loss, after a look at all masks.

    Args:
        pairs: the dataset as training and validation read it.

    Raises:
        DataError: if a mask does not fit.
        UsageError: if the class weights do not fit the classes.
    """
    counts = examine_masks(dataset, pairs, split, threads=threads)
    weights = class_weights(config.training.class_weights, counts, dataset.classes)
    return _task(model, metadata, total([LOSSES[name] for name in loss.split("+")], weights))


def scoring_task(model: nn.Module, metadata: ModelMetadata) -> Segmentation:
    """The network without a loss."""
    return _task(model, metadata, None)


def _task(model: nn.Module, metadata: ModelMetadata, loss: Any) -> Segmentation:
    return Segmentation(
        model,
        loss,
        classes=metadata.classes,
        mean=metadata.mean,
        std=metadata.std,
        full_scale=metadata.full_scale,
        threshold=metadata.threshold,
    )


def draw_test(
    folder: Path,
    predict: Predict,
    dataset: Dataset,
    test: Sequence[int],
    scores: Scores,
    *,
    metadata: ModelMetadata,
) -> None:
    """Show some test photos with their true and predicted masks in ``examples.png``."""
    draw_examples(predict, dataset, spread(test, EXAMPLES), metadata=metadata, path=folder / "examples.png")


def watchers(
    config: FinetuneConfig,
    folder: Path,
    predict: Predict,
    dataset: Dataset,
    validation: Sequence[int],
    *,
    metadata: ModelMetadata,
) -> list[Observer]:
    """Observers of the training: validation photos in ``examples.png`` every few epochs."""
    if not config.run.examples_every:
        return []
    return [
        Examples(
            predict,
            dataset,
            spread(validation, EXAMPLES),
            every=config.run.examples_every,
            metadata=metadata,
            path=folder / "examples.png",
        )
    ]


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
    """Compare what ``predict`` says with the masks, and name the photos that could not be read.

    Args:
        at: the only resolution to count pixels at; None for both.
        empty: what a photo counts in which there is nothing to find and nothing was found.
    """
    scores = score(
        predict,
        dataset,
        indices,
        image_size=metadata.image_size,
        classes=len(metadata.classes),
        threshold=metadata.threshold,
        batch_size=batch_size,
        workers=workers,
        resolutions=RESOLUTIONS if at is None else (at,),
        empty=empty,
    )
    if scores.skipped:
        log.warning(f"{len(scores.skipped)} photos could not be scored; the first: {scores.skipped[0]}")
    return scores


def results(scores: Scores, *, split: str, metadata: ModelMetadata) -> dict[str, dict[str, Any]]:
    """What ``test.json`` holds: per resolution, the metrics over the split, and of many classes the IoU of each."""
    matrices = {resolution: counts.sum(axis=0) for resolution, counts in scores.counts.items()}
    return {
        resolution: {
            "split": split,
            "n": len(scores.keys),
            "resolution": resolution,
            "border": metadata.border,
            "threshold": metadata.threshold,
            "metrics": segmentation_metrics(matrices[resolution]),
            **_by_class(matrices[resolution], metadata.classes),
        }
        for resolution in matrices
    }


def _by_class(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """IoU of each of more than two classes; None, which JSON knows, where one is neither there nor predicted."""
    if len(classes) <= 2:
        return {}
    scores = [None if np.isnan(value) else value for value in per_class_iou(matrix).tolist()]
    return {"iou_by_class": dict(zip(classes, scores, strict=True))}


def headline(result: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The part of ``results`` that is quoted."""
    return result["original"]


def image_rows(scores: Scores, metadata: ModelMetadata) -> list[dict[str, Any]]:
    """A row an image, in the order in which they were scored: its own metrics."""
    columns = scores.by_image()
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"image": key, **dict(zip(columns, row, strict=True))} for key, row in zip(scores.keys, values, strict=True)
    ]


def image_means(scores: Scores, weights: Floats | None) -> dict[str, Estimate]:
    """The means over images of their own metrics."""
    return over_images(scores.by_image(), weights)


def metric_names(metadata: ModelMetadata) -> tuple[str, ...]:
    """What ``Scores`` gives of such a model."""
    two = len(metadata.classes) == 2
    averages = ("iou", "f1", "dice", "precision", "recall") if two else ("miou", "f1", "precision", "recall")
    return (*averages, "accuracy", "boundary_iou", "bce" if two else "ce", "focal_loss", "dice_loss")


def notes(
    scores: Scores, weights: Floats | None, metadata: ModelMetadata, validation: Callable[[], Scores] | None
) -> dict[str, Any]:
    """What belongs beside the numbers: empty masks, and what the best threshold on validation photos would give.

    Args:
        validation: scores of these photos; None where none are to be looked at.
    """
    found: dict[str, Any] = {
        "resolution": scores.resolution,
        "border": metadata.border,
        "threshold": metadata.threshold,
        "empty_masks": scores.empty_masks,
        "empty": f"{scores.empty:g}",  # JSON has no nan
    }
    if metadata.threshold is None or validation is None:
        return found
    chosen_on = validation()
    threshold = best_threshold(chosen_on)
    if threshold is None:
        log.info("there is no best threshold to tell: the masks of the validation photos have no foreground")
        return found
    everything = np.ones((1, len(scores.keys)))
    ends = None if weights is None else interval(scores.at_threshold(threshold, weights)["iou"])
    found["best_threshold"] = {
        "threshold": threshold,
        "validation_photos": len(chosen_on.keys),
        "iou": Estimate(float(scores.at_threshold(threshold, everything)["iou"][0]), ends).facts(),
    }
    return found


def write_pictures(folder: Path, scores: Scores, metadata: ModelMetadata) -> None:
    """What pictures show better than tables: nothing."""


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
