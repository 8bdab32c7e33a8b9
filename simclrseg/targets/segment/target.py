"""Segmentation: a class for every pixel, from masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from simclrseg.charts import plots
from simclrseg.data.augment import PAIR_STRENGTHS, WEAK, Strengths
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.framing import crops_of, cutting_of, tiles_of
from simclrseg.data.samples import MaskPairs, Numbers, Samples, WeakAndStrong, spread
from simclrseg.data.split_file import test_hash
from simclrseg.engine.history import EpochRecord, Observer
from simclrseg.engine.task import SeparableTask
from simclrseg.errors import DataError, UsageError
from simclrseg.images.bands import colour_bands
from simclrseg.images.colours import viewable
from simclrseg.images.framing import Framing
from simclrseg.inference.tiling import Predict, to_mask
from simclrseg.knobs.words import parse_words
from simclrseg.losses import ENTRIES, LOSSES
from simclrseg.losses.segmentation import total
from simclrseg.metadata import IGNORE, ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.dropout import add_dropout
from simclrseg.models.segmenters import check_pair, default_decoder, load_segmenter
from simclrseg.scores.pixels import Pixels
from simclrseg.scores.reading import readable_images
from simclrseg.targets.base import Target
from simclrseg.targets.knobs import ConsistencyKnobs
from simclrseg.targets.learner import Learner
from simclrseg.targets.segment.consistency import Consistency
from simclrseg.targets.segment.examination import class_weights, examine_masks, open_masks, warn_of_small_objects
from simclrseg.targets.segment.knobs import PARAMETERS, Knobs
from simclrseg.targets.segment.learner import Segmentation, TiledSegmentation
from simclrseg.targets.segment.scores import SegmentationScores, score
from simclrseg.weights.decoder import load_decoder
from simclrseg.weights.find import Pretrained

log = logging.getLogger(__name__)

EXAMPLES = 6


@dataclass(frozen=True)
class Examples(Observer):
    """Some images with their true and predicted masks, as a picture that an observer of a training draws.

    Attributes:
        predict: the network as it is when it is asked.
        path: the PNG, overwritten each time.
        every: epochs between pictures.
    """

    predict: Predict
    dataset: Dataset
    indices: Sequence[int]
    metadata: ModelMetadata
    path: Path
    every: int = 1

    def draw(self) -> None:
        """Draw those that can be read, as the network sees them."""
        images, truths = readable_images(self.dataset, self.indices, Framing.of(self.metadata))
        if not images:
            return
        masks = [to_mask(probability, self.metadata.threshold) for probability in self.predict(np.stack(images))]
        colours = colour_bands(self.dataset.bands)
        empty = [truth == IGNORE if self.dataset.has_blanks else None for truth in truths]
        shown = [viewable(image, colours, blank=blank) for image, blank in zip(images, empty, strict=True)]
        plots.examples(list(zip(shown, truths, masks, strict=True)), self.dataset.colours, self.path)

    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch % self.every == 0:
            self.draw()


class SegmentationTarget(Target[Knobs, SegmentationScores]):
    """Segmentation, as finetune, evaluate and export do it."""

    KNOBS = Knobs
    TASK = "segmentation"
    NEXT = "simclrseg predict {image} -o mask.png"
    MASKS = True
    LABEL = "mask"
    COMPARE = staticmethod(score)
    open_dataset = staticmethod(open_masks)

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
        """A loss, or several with + between them; by default the first that is made for the logits of the classes."""
        classes = len(self.dataset.classes)
        logits = "one" if classes == 2 else "each"
        usual = next(name for name, entry in ENTRIES.items() if entry.logits == logits)
        loss = self.knobs.loss or usual
        for word in parse_words(loss, "loss", PARAMETERS):
            if ENTRIES[word.name].logits == "one" and classes > 2:
                raise UsageError(
                    f"--loss {loss}: {word.name} is for two classes, and {self.data.dataset} has {classes}",
                    f"pass --loss {loss.replace(word.name, usual)}",
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
        words = parse_words(self.loss_name, "loss", PARAMETERS)
        each = classes > 2 or any(ENTRIES[word.name].logits == "each" for word in words)
        facts = {
            "task": self.TASK,
            "decoder": decoder,
            "dropout": dropout,
            "classes": dataset.classes,
            "colours": dataset.colours,
            "threshold": None if each else 0.5,
            "border": dataset.border,
        }
        model = SEGMENTERS[decoder](backbone, encoder, classes if each else 1)
        add_dropout(model, dropout)
        return model, facts

    def load_start(self, model: nn.Module, pretrained: Pretrained, metadata: ModelMetadata) -> dict[str, Any]:
        if not self.knobs.init_decoder or pretrained.resumed:
            return {}
        return {"decoder": asdict(load_decoder(model, pretrained, decoder=str(metadata.decoder)))}

    def make_learner(self, model: nn.Module, metadata: ModelMetadata, *, pairs: Dataset, threads: int) -> Segmentation:
        """The network with its loss, after a look at all masks."""
        counts, self.truth_hash = examine_masks(self.dataset, pairs, self.split, threads=threads)
        weights = class_weights(self.knobs.class_weights, counts, self.dataset.classes)
        words = parse_words(self.loss_name, "loss", PARAMETERS)
        if weights and metadata.threshold is not None and not any(ENTRIES[word.name].weighs for word in words):
            log.warning(
                f"--class-weights changes nothing in --loss {self.loss_name} of two classes, which is over the "
                f"foreground alone: leave it out, or pass --loss bce+{self.loss_name}"
            )
        losses = [partial(LOSSES[word.name], **word.arguments(PARAMETERS)) for word in words]
        loss = total(losses, weights)
        if not self._tiled:
            if self.data.resize == "squash":
                warn_of_small_objects(pairs, self.split.train, self.data.image_size, threads=threads)
            return Segmentation(model, metadata, loss)
        crops = self.crops(self.dataset, self.split.train)
        log.info(
            f"an epoch is {sum(crops):,} crops of {self.data.image_size} px: as many of each photo as cover it, "
            f"{max(crops):,} at most"
        )
        if pairs is self.dataset and any(pairs.path(index) for index in self.split.train):
            log.warning(
                f"without a cache each crop decodes its whole photo, {sum(crops):,} times an epoch instead of "
                f"{len(crops):,} times in all: take --cache disk"
            )
        return TiledSegmentation(model, metadata, loss, images=pairs, strict=self.data.strict)

    @property
    def _tiled(self) -> bool:
        return self.data.resize == "tile"

    def crops(self, dataset: Dataset, indices: Sequence[int]) -> Sequence[int]:
        return crops_of(dataset, indices, self.data.image_size) if self._tiled else ()

    def passes(self, indices: Sequence[int]) -> int:
        if not self._tiled:
            return len(indices)
        twice = 4  # along both sides, for tiles overlap by half
        return twice * int(tiles_of(self.dataset, indices, self.data.image_size).sum())

    def make_samples(
        self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, *, augmentation: str, seed: int
    ) -> MaskPairs:
        strengths = PAIR_STRENGTHS[augmentation]
        return MaskPairs(dataset, indices, **self._views(dataset, indices, metadata, strengths), seed=seed)

    def _views(
        self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, strengths: Strengths
    ) -> dict[str, Any]:
        """How images are cut, changed and read, as arguments of their samples."""
        return {
            "cutting": cutting_of(Framing.of(metadata), dataset),
            "crops": self.crops(dataset, indices),
            "image_size": self.data.image_size,
            "strengths": strengths,
            "strict": self.data.strict,
        }

    def make_validation(self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata) -> Samples:
        """Of tiles the numbers of whole images, which are cut where they are validated."""
        if self._tiled:
            return Numbers(dataset, indices, image_size=self.data.image_size)
        return super().make_validation(dataset, indices, metadata)

    def make_unlabelled(
        self, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata, *, seed: int
    ) -> WeakAndStrong:
        return WeakAndStrong(dataset, indices, **self._views(dataset, indices, metadata, WEAK), seed=seed)

    def make_consistency(self, learner: Learner, knobs: ConsistencyKnobs, *, epochs: int, steps: int) -> SeparableTask:
        assert isinstance(learner, Segmentation)
        first, last = (round(epoch * steps) for epoch in knobs.ramp_epochs(epochs))
        return Consistency(
            learner, threshold=knobs.threshold, weight=knobs.weight, ramp=(first, last), balance=knobs.balance
        )

    @classmethod
    def load(cls, path: Path) -> tuple[Segmentation, ModelMetadata]:
        model, metadata = load_segmenter(path)
        return Segmentation(model, metadata), metadata

    def callbacks(self, folder: Path, predict: Predict, pairs: Dataset, metadata: ModelMetadata) -> list[Observer]:
        """Validation images in ``examples.png`` every few epochs."""
        every = self.knobs.examples_every
        some = spread(self.split.validation, EXAMPLES)
        return [Examples(predict, pairs, some, metadata, folder / "examples.png", every)] if every else []

    def draw_test(self, folder: Path, predict: Predict, scores: SegmentationScores) -> None:
        """Some test images with their true and predicted masks in ``examples.png``, unless none are wanted."""
        if self.knobs.examples_every:
            some = spread(self.split.test, EXAMPLES)
            Examples(predict, self.dataset, some, scores.metadata, folder / "examples.png").draw()

    @staticmethod
    def metric_names(metadata: ModelMetadata) -> tuple[str, ...]:
        return tuple(Pixels.stack([], len(metadata.classes)).metrics())
