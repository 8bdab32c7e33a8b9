"""The knobs of ``simclrseg finetune``."""

from __future__ import annotations

import math
import re
from typing import Annotated, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from simclrseg.config.shared import Console, Knobs, Section, Training, TrainingHardware, TrainingRun, check_meaning
from simclrseg.config.values import (
    BackboneName,
    ClassesName,
    Completes,
    DatasetName,
    Flag,
    NormalizationName,
    PathText,
    check_columns,
)
from simclrseg.engine import OPTIMIZERS
from simclrseg.errors import suggestion
from simclrseg.losses import LOSSES
from simclrseg.models import SEGMENTERS


def _known_losses(text: str) -> str:
    names = text.split("+")
    for name in names:
        if name not in LOSSES:
            raise ValueError(f"{name!r} is not a loss: {suggestion(name, LOSSES)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{text!r} names a loss twice")
    if {"bce", "ce"} <= set(names):
        raise ValueError(f"{text!r}: bce is for one logit a pixel and ce for one a class, take one of them")
    return text


def _class_weights(text: str) -> str:
    if text == "auto":
        return text
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r} is neither auto nor numbers such as 0.5,2,1") from None
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"{text!r}: weights are 0 or more, and not all 0")
    return text


def _fold(text: str) -> str:
    part, _, count = text.partition("/")
    if not (part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count) and int(count) >= 2):
        raise ValueError(f"{text!r} is not K/N, such as 1/5, with K from 1 to N and N at least 2")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


class LabelledData(Section):
    """Data"""

    dataset: Annotated[DatasetName | None, Flag("-d")] = None
    """Labelled photos: a name, hf:owner/name, or a folder with images/ and masks/, or with one folder a class. By
    default those that belong to what the weights were pretrained on, as oxford_pets to cats_vs_dogs."""
    data_ratio: Annotated[float, Gt(0), Le(1)] = 1.0
    """Share of the development photos (all but test) to use."""
    image_size: Annotated[int, Ge(32), Le(2048)] = 256
    """Side to which photos are brought, in pixels; the aspect is not kept."""
    augmentation: Literal["none", "flip", "color", "standard"] = "flip"
    """Random changes to photo and mask together; color adds mild colours to the flip, and standard adds crops (so scale
    and aspect) to both."""
    test_split: Literal["official", "random"] = "official"
    """Take the published test list where there is one, or a random fifth."""
    split_seed: Annotated[int, Ge(0)] = 0
    """Seed of the split; nothing else changes it."""
    fold: Annotated[str, AfterValidator(_fold)] | None = None
    """K/N for cross-validation: validate on part K of N parts of the development photos."""
    group_by: Annotated[str, AfterValidator(_pattern)] | None = None
    """Regular expression on a photo's path: photos that it finds the same text in stay in one part of the split."""
    border: Literal["pet", "background", "ignore", "class"] = "pet"
    """What Oxford's border pixels count as; class makes them a third one."""
    classes: list[str] = []
    """Learn this class, by name, and count the rest as background; repeat it. Or a number: how many the masks hold."""
    classes_file: ClassesName | None = None
    """YAML of class names and colours, for RGB masks and for names."""
    normalization: NormalizationName | None = None
    """Mean and std of pixels: imagenet, dataset (of the training photos), or a YAML file of both; by default those of
    the weights it starts from, else imagenet for photos and dataset for other bands."""
    image_column: str | None = None
    """Column of a set of the Hub that holds the photos; by default the only one of images."""
    label_column: str | None = None
    """Column of a set of the Hub that holds the classes; by default the only one of class labels."""
    mask_column: str | None = None
    """Column of a set of the Hub that holds the masks; by default the other one of images."""
    cache: Literal["auto", "ram", "disk", "none"] = "auto"
    """Where decoded photos and masks stay for the next epoch, with the same pixels; auto takes RAM where a quarter
    of the free memory holds them, else the disk."""
    strict: bool = False
    """Stop at an unreadable photo instead of skipping it."""

    @model_validator(mode="after")
    def _columns_are_those_of_a_table(self) -> Self:
        names = ("image_column", "label_column", "mask_column")
        check_columns([self.dataset or ""], {name: getattr(self, name) for name in names})
        return self

    @property
    def name(self) -> str:
        """``dataset``, which the recipe has chosen where the user has not."""
        assert self.dataset is not None
        return self.dataset

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """K and N of ``fold``."""
        if self.fold is None:
            return None
        part, _, count = self.fold.partition("/")
        return int(part), int(count)


class FinetuneModel(Section):
    """Model"""

    task: Literal["segment", "classify"] = "segment"
    """What is learned: a class for each pixel from masks, or one for each photo from labels."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of what the last layer gets that is dropped in training: channels of the decoder, or features."""
    pretrained: Annotated[PathText, Completes("pretrained")] = "none"
    """Weights to start from: none, imagenet, a pretraining run's or a published name, a file or run folder, or
    hf:owner/repo[/file][@revision]."""
    adapt: list[Literal["bands", "stem"]] = []
    """Fit the first layer of weights that were made for other bands, or for a 3x3 stem; repeat it for both."""
    backbone: BackboneName | None = None
    """Encoder; by default the pretrained one, or resnet50."""
    decoder: Annotated[str, SEGMENTERS] | None = None
    """What makes masks of the encoder's features; by default unet, and dpt for a vision transformer."""
    init_decoder: bool = False
    """Take the decoder of the pretrained network too, where it has one, as after reconstruction."""
    allow_unfinished: bool = False
    """Take the weights of a pretraining run that was interrupted."""


class FinetuneTraining(Training):
    """Optimization"""

    # Below those of pretraining, which begins with weights that mean nothing yet.
    DEFAULT_RATES: ClassVar[dict[str, float]] = {"lars": 0.3, "sgd": 0.01, "adam": 1e-4, "adamw": 1e-4}

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of a label that is spread over all classes, in classification."""
    loss: Annotated[str, AfterValidator(_known_losses), Completes("losses")] | None = None
    """Loss, or a sum such as bce+dice of bce, ce, dice, focal and jaccard; by default bce for two classes, else ce."""
    class_weights: Annotated[str, AfterValidator(_class_weights)] | None = None
    """Weights of the classes in the loss: auto takes them from the masks' statistics, or a number for each: 0.5,2,1."""
    optimizer: Annotated[str, OPTIMIZERS] = "adam"
    """Update rule."""
    learning_rate: Annotated[float, Gt(0)] | None = None
    """Peak learning rate; by default 0.0001 (adam, adamw), 0.01 (sgd) or 0.3 (lars)."""
    epochs: Annotated[int, Ge(1)] = 60
    """Passes over the training images."""
    batch_size: Annotated[int, Ge(2)] = 32
    """Images per optimizer step, over all processes."""
    micro_batch: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Images per forward pass, in validation and scoring too; auto takes what fits. The gradient is that of the whole
    batch (accumulation)."""
    unfreeze: Literal["all", "head", "progressive"] = "all"
    """What learns: everything, the new layers only (a linear probe, in classification), or the new layers first, then
    the encoder's last stage too, then everything."""
    unfreeze_at: tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]] = (0.1, 0.2)
    """When progressive adds the last stage and when everything: a share of the run, which leaves each step an epoch, or
    an epoch count from 1 on."""
    encoder_lr_factor: Annotated[float, Gt(0), Le(10)] = 1.0
    """The encoder learns at this share of the learning rate."""
    layer_lr_factor: Annotated[float, Gt(0), Le(1)] = 1.0
    """Each stage of the encoder learns at this share of the rate of the one above it."""
    patience: Annotated[int, Ge(1)] | None = None
    """Stop after so many epochs without a better first validation score; they count from when progressive has unfrozen
    everything."""
    ema: Annotated[float, Gt(0), Lt(1)] | None = None
    """Average the weights over the steps with this decay, such as 0.999; validation and the model take the average."""

    @property
    def unfreeze_epochs(self) -> tuple[int, int]:
        """Epochs of training after which the last stage, and then everything, joins in.

        Shares are rounded so that the head alone, the last stage and everything have an epoch each; of two epochs the
        head alone has the first, and of a single one nothing is frozen.
        """
        at_last, at_everything = self.unfreeze_at
        alone, apart = int(at_last > 0), int(at_everything > at_last)  # steps before the last stage, and after it
        last = int(at_last) if at_last >= 1 else max(alone, round(at_last * self.epochs))
        everything = int(at_everything)
        if at_everything < 1:
            everything = min(max(alone + apart, round(at_everything * self.epochs)), self.epochs - 1)
        return min(last, max(everything - apart, min(everything, 1))), everything

    @model_validator(mode="after")
    def _everything_is_unfrozen_in_the_end(self) -> Self:
        if self.unfreeze != "progressive":
            return self
        for at in self.unfreeze_at:
            if at > 1 and at != int(at):
                raise ValueError(f"unfreeze_at ({at:g}) is neither a share below 1 nor a whole number of epochs")
        first, second = (at * self.epochs if at < 1 else at for at in self.unfreeze_at)
        if not first <= second < self.epochs:
            raise ValueError(
                f"unfreeze_at ({self.unfreeze_at[0]:g} {self.unfreeze_at[1]:g}) in a run of {self.epochs} epochs: the "
                "second must not come first, and both must come before the end; shares of the run, such as 0.1 0.2, "
                "fit any number of epochs"
            )
        return self


class FinetuneRun(TrainingRun):
    """Run"""

    examples_every: Annotated[int, Ge(0)] = 5
    """Epochs between pictures of some validation photos in examples.png, which ends with test photos; 0 means none."""


class FinetuneConfig(Section):
    """finetune"""

    # Knobs that mean something for one task only: the other refuses them.
    TASK_KNOBS: ClassVar[Knobs] = {
        "segment": {
            "data": ("classes", "classes_file", "border", "mask_column"),
            "model": ("decoder", "init_decoder"),
            "training": ("class_weights",),
            "run": ("examples_every",),
        },
        "classify": {"data": ("label_column",), "training": ("label_smoothing",)},
    }

    data: LabelledData = Field(default_factory=LabelledData)
    model: FinetuneModel = Field(default_factory=FinetuneModel)
    training: FinetuneTraining = Field(default_factory=FinetuneTraining)
    hardware: TrainingHardware = Field(default_factory=TrainingHardware)
    run: FinetuneRun = Field(default_factory=FinetuneRun)
    console: Console = Field(default_factory=Console)

    @model_validator(mode="after")
    def _every_knob_has_a_meaning_for_the_task(self, info: ValidationInfo) -> Self:
        check_meaning(self, info, "task", self.model.task, self.TASK_KNOBS)
        return self

    @model_validator(mode="after")
    def _what_stays_frozen_is_not_timed(self, info: ValidationInfo) -> Self:
        unfreeze = self.training.unfreeze
        check_meaning(self, info, "unfreeze", unfreeze, {"progressive": {"training": ("unfreeze_at",)}})
        if unfreeze == "head":
            rates = {"all and progressive": {"training": ("encoder_lr_factor", "layer_lr_factor")}}
            check_meaning(self, info, "unfreeze", unfreeze, rates)
        return self

    @model_validator(mode="after")
    def _a_decoder_comes_from_a_whole_network(self) -> Self:
        if self.model.init_decoder and self.model.pretrained in ("none", "imagenet"):
            raise ValueError(
                f"init_decoder: pretrained {self.model.pretrained} has no decoder; leave it out, or name a run of "
                "`simclrseg pretrain --method reconstruction`"
            )
        return self
