"""Segmentation, as finetune, evaluate and export do it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from simclrseg.data.datasets.base import Dataset
from simclrseg.data.samples import MaskPairs, spread
from simclrseg.data.splits import test_hash
from simclrseg.engine.history import Observer
from simclrseg.errors import DataError, UsageError
from simclrseg.inference.masks import Predict
from simclrseg.knobs.words import Word, parse_words
from simclrseg.losses import ENTRIES, LOSSES
from simclrseg.losses.segmentation import total
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.dropout import add_dropout
from simclrseg.models.segmenters import check_pair, default_decoder, load_segmenter
from simclrseg.scores.pixels import RESOLUTIONS
from simclrseg.targets.base import Scoring, Target
from simclrseg.targets.knobs import LabelledData
from simclrseg.targets.segment.examine import class_weights, examine_masks
from simclrseg.targets.segment.examples import Examples, draw_examples
from simclrseg.targets.segment.knobs import Knobs
from simclrseg.targets.segment.open import open_masks
from simclrseg.targets.segment.scores import SegmentationScores, score
from simclrseg.targets.segment.task import Segmentation
from simclrseg.weights.decoder import load_decoder
from simclrseg.weights.find import Pretrained

log = logging.getLogger(__name__)

EXAMPLES = 6
PARAMETERS = {name: entry.parameter for name, entry in ENTRIES.items()}


class SegmentationTarget(Target[Knobs, SegmentationScores]):
    """A class for each pixel, from masks."""

    KNOBS = Knobs
    TASK = "segmentation"
    NEXT = "simclrseg predict photo.jpg -o mask.png"
    SAMPLES = MaskPairs
    MASKS = True
    LABEL = "a mask"
    LABELLED = "photos with masks"

    @staticmethod
    def open_dataset(data: LabelledData) -> Dataset:
        return open_masks(data)

    @property
    def usable(self) -> list[int]:
        return [index for index in range(len(self.dataset)) if self.dataset.has_mask(index)]

    def hash_of(self, indices: Sequence[int]) -> str:
        return test_hash(self.dataset, indices)

    def check_classes(self, metadata: ModelMetadata) -> None:
        """Refuse class ids that mean other things; of two classes the second is the foreground by any name."""
        if self.dataset.classes == metadata.classes:
            return
        name = self.dataset.name
        theirs, ours = ", ".join(self.dataset.classes), ", ".join(metadata.classes)
        if len(self.dataset.classes) != len(metadata.classes) or len(metadata.classes) > 2:
            raise DataError(
                f"{name} has the classes {theirs}, but the model was trained for {ours}",
                "score it on a dataset with the same classes",
            )
        log.warning(f"{name} calls its classes {theirs}, the model {ours}: the second is the foreground of both")

    @classmethod
    def check_encoder(cls, knobs: Knobs, encoder: str, *, image_size: int) -> None:
        """Refuse a decoder that cannot stand on the encoder, or not with images of this size."""
        check_pair(knobs.decoder or default_decoder(encoder), encoder, image_size=image_size)

    @staticmethod
    def set_stem(backbone: nn.Module, encoder: str, pretrained: Pretrained, *, image_size: int) -> str:
        if pretrained.metadata is not None and pretrained.metadata.stem == "cifar":
            log.warning(
                f"{pretrained.label} was pretrained with the CIFAR stem: stride 2 and max-pool come back here, "
                "so its early features change"
            )
        return "imagenet"

    @property
    def loss_name(self) -> str:
        """A loss, or several with + between them."""
        classes = len(self.dataset.classes)
        loss = self.knobs.loss or usual(classes=classes)
        for word in words_of(loss):
            if ENTRIES[word.name].logits == "one" and classes > 2:
                remedy = loss.replace(word.name, usual(classes=classes))
                raise UsageError(
                    f"--loss {loss}: {word.name} is for two classes, and {self.data.dataset} has {classes}",
                    f"pass --loss {remedy}",
                    option="loss",
                    value=loss,
                )
        return loss

    def build_model(self, backbone: nn.Module, encoder: str, *, dropout: float) -> tuple[nn.Module, dict[str, Any]]:
        decoder = self.knobs.decoder or default_decoder(encoder)
        if self.knobs.decoder is None and decoder != "unet":
            log.info(f"{encoder} is a vision transformer, whose masks come from {decoder} (--decoder)")
        dataset = self.dataset
        classes = len(dataset.classes)
        each = any(ENTRIES[word.name].logits == "each" for word in words_of(self.loss_name))
        outputs = classes if classes > 2 or each else 1
        facts = {
            "task": self.TASK,
            "decoder": decoder,
            "dropout": dropout,
            "classes": dataset.classes,
            "colours": dataset.colours,
            "threshold": 0.5 if outputs == 1 else None,
            "border": dataset.border,
        }
        model = SEGMENTERS[decoder](backbone, encoder, outputs)
        add_dropout(model, dropout)
        return model, facts

    def load_start(self, model: nn.Module, pretrained: Pretrained) -> dict[str, Any]:
        if not self.knobs.init_decoder or pretrained.resumed:
            return {}
        return {"decoder": asdict(load_decoder(model, pretrained))}

    def make_learner(self, model: nn.Module, metadata: ModelMetadata, *, pairs: Dataset, threads: int) -> Segmentation:
        """The network with its loss, after a look at all masks."""
        counts = examine_masks(self.dataset, pairs, self.split, threads=threads)
        weights = class_weights(self.knobs.class_weights, counts, self.dataset.classes)
        words = words_of(self.loss_name)
        losses = [partial(LOSSES[word.name], **word.arguments(PARAMETERS)) for word in words]
        return Segmentation.of(model, metadata, total(losses, weights))

    @classmethod
    def load(cls, path: Path) -> tuple[Segmentation, ModelMetadata]:
        model, metadata = load_segmenter(path)
        return Segmentation.of(model, metadata), metadata

    def callbacks(self, folder: Path, predict: Predict, pairs: Dataset, metadata: ModelMetadata) -> list[Observer]:
        """Validation images in ``examples.png`` every few epochs."""
        every = self.knobs.examples_every
        if not every:
            return []
        some = spread(self.split.validation, EXAMPLES)
        path = folder / "examples.png"
        return [Examples(predict, pairs, some, every=every, metadata=metadata, path=path)]

    def compare(
        self, predict: Predict, indices: Sequence[int], metadata: ModelMetadata, scoring: Scoring
    ) -> SegmentationScores:
        return score(
            predict,
            self.dataset,
            indices,
            metadata=metadata,
            batch_size=scoring.batch_size,
            workers=scoring.workers,
            resolutions=RESOLUTIONS if scoring.at is None else (scoring.at,),
            empty=scoring.empty,
        )

    def draw_test(self, folder: Path, predict: Predict, scores: SegmentationScores) -> None:
        """Some test images with their true and predicted masks in ``examples.png``."""
        some = spread(self.split.test, EXAMPLES)
        draw_examples(predict, self.dataset, some, metadata=scores.metadata, path=folder / "examples.png")

    @staticmethod
    def metric_names(metadata: ModelMetadata) -> tuple[str, ...]:
        two = len(metadata.classes) == 2
        averages = ("iou", "f1", "dice", "precision", "recall") if two else ("miou", "f1", "precision", "recall")
        return (*averages, "accuracy", "boundary_iou", "bce" if two else "ce", "focal_loss", "dice_loss")


def usual(*, classes: int) -> str:
    """The loss where nobody names one: the first that is made for the logits of so many classes."""
    logits = "one" if classes == 2 else "each"
    return next(name for name, entry in ENTRIES.items() if entry.logits == logits)


def words_of(loss: str) -> tuple[Word, ...]:
    """The parts of a loss that was checked."""
    return parse_words(loss, "loss", PARAMETERS)
