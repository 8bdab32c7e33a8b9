"""The knobs of ``simclrseg pretrain``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from simclrseg.engine import OPTIMIZERS
from simclrseg.knobs.sections import Console, Knobs, Section, Training, TrainingHardware, TrainingRun, check_meaning
from simclrseg.knobs.values import (
    BackboneName,
    Completes,
    DatasetName,
    Flag,
    NormalizationName,
    PathText,
    check_columns,
)
from simclrseg.methods import METHODS


def _warm_enough(value: Any) -> Any:
    try:
        cold = float(value) < 0.01
    except (TypeError, ValueError):
        return value  # what it must be is said elsewhere
    if cold:
        raise ValueError(
            f"{value} is too low: cosines divided by less than 0.01 differ by hundreds, so that each image learns from "
            "its nearest neighbour alone; take 0.01 or more, as 0.1"
        )
    return value


def _widths(value: Any) -> Any:
    """A number is a list of one, and 0 an empty one."""
    widths = value if isinstance(value, list | tuple) else [value]
    return [] if list(map(str, widths)) == ["0"] else widths


class PretrainData(Section):
    """Data"""

    dataset: Annotated[list[DatasetName], Flag("-d"), Completes("datasets")]
    """Photos to learn from: a name, a folder or hf:owner/name; repeat it to join several."""
    image_size: Annotated[int, Ge(32), Le(1024)] = 224
    """Side of the square crops, in pixels."""
    augmentation: Literal["paper", "cifar", "seed", "whole"] = "seed"
    """Strength of crops and colours: the paper's, its CIFAR variant, the original project's milder one, or no crops."""
    crop_scale: Annotated[float, Gt(0), Le(1)] | None = None
    """Smallest share of the photo that a crop covers; by default the augmentation's."""
    color_strength: Annotated[float, Ge(0), Le(2.5)] | None = None
    """Strength s of the colour jitter: brightness, contrast and saturation 0.8s, hue 0.2s; by default the
    augmentation's (paper 1, cifar and seed 0.5)."""
    blur_probability: Annotated[float, Ge(0), Le(1)] | None = None
    """Share of the views that are blurred; by default the augmentation's."""
    grayscale_probability: Annotated[float, Ge(0), Le(1)] | None = None
    """Share of the views that lose their colours; by default the augmentation's."""
    cut_share: Annotated[float, Gt(0), Lt(1)] = 0.5
    """For reconstruction: share of the pixels that are cut, about."""
    cut_side: Annotated[int, Ge(2)] = 16
    """For reconstruction: longest side of a cut rectangle, in pixels; the shortest is 2."""
    held_out: Annotated[float, Ge(0), Le(0.5)] = 0.05
    """For reconstruction: share of the photos, 500 at most, that are only painted, to see how well."""
    include_test: bool = False
    """Also learn from photos of a published test list; recorded in the weights."""
    max_images: Annotated[int, Ge(2)] | None = None
    """Learn from so many photos, chosen by the seed; fewer are among those of more."""
    normalization: NormalizationName | None = None
    """Mean and std of pixels: imagenet, dataset (of the training photos), or a YAML file of both; by default those of
    the weights it starts from, else imagenet for photos and dataset for other bands."""
    image_column: str | None = None
    """Column of a set of the Hub that holds the photos; by default the only one of images."""
    label_column: str | None = None
    """Column of a set of the Hub that holds the classes; by default the only one of class labels."""
    cache: Literal["auto", "ram", "disk", "none"] = "auto"
    """Where decoded photos stay for the next epoch, with the same pixels; auto takes RAM where a quarter of the
    free memory holds them, else the disk."""
    strict: bool = False
    """Stop at an unreadable photo instead of skipping it."""

    @model_validator(mode="after")
    def _columns_are_those_of_a_table(self) -> Self:
        check_columns(self.dataset, {"image_column": self.image_column, "label_column": self.label_column})
        return self


class PretrainModel(Section):
    """Model"""

    method: Annotated[str, METHODS] = "simclr"
    """Self-supervised objective; reconstruction has defaults of its own: resnet34, 256 px, whole photos in batches of
    32, adam at 0.003 down to 1 % of it, 1000 epochs."""
    backbone: BackboneName = "resnet50"
    """Encoder: one of segmentation-models-pytorch, tu- and a model of timm, vit_b_16, or cnn, which is small."""
    stem: Literal["auto", "imagenet", "cifar"] = "auto"
    """First layers: cifar is a 3x3 convolution of stride 1 without max-pool; auto takes it for ResNets below 64 px."""
    init: Annotated[PathText, Completes("pretrained")] = "none"
    """Weights to start from: none, imagenet, a pretraining run's or a published name, a file or run folder, or
    hf:owner/repo[/file][@revision]."""
    adapt: list[Literal["bands", "stem"]] = []
    """Fit the first layer of weights that were made for other bands, or for a 3x3 stem; repeat it for both."""
    projection_hidden: Annotated[list[Annotated[int, Ge(1)]], BeforeValidator(_widths)] = [512]
    """For simclr: widths of the projection head's hidden layers; repeat it for several, and 0 is a head without any."""
    projection_dim: Annotated[int, Ge(2)] = 128
    """For simclr: size of the embedding in which views are compared."""
    temperature: Annotated[float, Ge(0.01), Le(10), BeforeValidator(_warm_enough)] = 0.1
    """For simclr: temperature of the contrastive loss."""
    loss_pixels: Literal["all", "cut"] = "all"
    """For reconstruction: what the loss is over, all pixels or those that were cut."""


class PretrainTraining(Training):
    """Optimization"""

    DEFAULT_RATES: ClassVar[dict[str, float]] = {"lars": 0.3, "sgd": 0.03, "adam": 1e-3, "adamw": 1e-3}

    optimizer: Annotated[str, OPTIMIZERS] = "lars"
    """Update rule."""
    learning_rate: Annotated[float, Gt(0)] | None = None
    """Peak learning rate before scaling; by default 0.3 (lars), 0.03 (sgd) or 0.001 (adam, adamw)."""
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    """Scale the rate with the batch: linear is rate*batch/256, sqrt is rate*sqrt(batch)/4."""
    weight_decay: Annotated[float, Ge(0)] = 1e-6
    """Weight decay; biases and normalisation layers have none."""
    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the training images."""
    batch_size: Annotated[int, Ge(2)] = 120
    """Images per optimizer step, over all processes; SimCLR contrasts them with one another."""
    micro_batch: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Images in memory at once, a divisor of the batch; auto takes the largest that fits. The gradient stays that of
    the whole batch (gradient caching); plain accumulation would contrast fewer images. Batch norm sees a micro-batch:
    of less than 30 images SimCLR learns less, of less than 8 next to nothing."""

    @model_validator(mode="after")
    def _micro_batch_divides_the_batch(self) -> Self:
        if self.micro_batch != "auto" and self.batch_size % self.micro_batch:
            divisors = [str(number) for number in range(1, self.batch_size + 1) if self.batch_size % number == 0]
            raise ValueError(
                f"micro_batch ({self.micro_batch}) must divide batch_size ({self.batch_size}): "
                f"take {', '.join(divisors[:-1])} or {divisors[-1]}"
            )
        return self

    @property
    def scaled_rate(self) -> float:
        factor = {"none": 1.0, "linear": self.batch_size / 256, "sqrt": math.sqrt(self.batch_size) / 4}
        return self.peak_rate * factor[self.lr_scaling]


class PretrainRun(TrainingRun):
    """Run"""

    knn_every: Annotated[int, Ge(0)] = 5
    """Epochs between k-NN accuracies, where photos have labels, and scores of a reconstruction; the last epoch has
    them too, and 0 means none."""


class PretrainConfig(Section):
    """pretrain"""

    # What a method has in place of the defaults, which are SimCLR's.
    METHOD_DEFAULTS: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "reconstruction": {
            "data": {"image_size": 256, "augmentation": "whole", "normalization": "dataset"},
            "model": {"backbone": "resnet34", "stem": "imagenet"},
            "training": {
                "optimizer": "adam",
                "learning_rate": 3e-3,
                "final_rate": 0.01,
                "weight_decay": 0.0,
                "epochs": 1000,
                "batch_size": 32,
            },
        }
    }

    # Knobs that mean something for one method only: the others refuse them.
    METHOD_KNOBS: ClassVar[Knobs] = {
        "simclr": {"model": ("projection_hidden", "projection_dim", "temperature")},
        "reconstruction": {"data": ("cut_share", "cut_side", "held_out"), "model": ("loss_pixels",)},
    }

    data: PretrainData
    model: PretrainModel = Field(default_factory=PretrainModel)
    training: PretrainTraining = Field(default_factory=PretrainTraining)
    hardware: TrainingHardware = Field(default_factory=TrainingHardware)
    run: PretrainRun = Field(default_factory=PretrainRun)
    console: Console = Field(default_factory=Console)

    @model_validator(mode="before")
    @classmethod
    def _method_has_its_own_defaults(cls, tree: Any) -> Any:
        model = tree.get("model") if isinstance(tree, Mapping) else None
        method = model.get("method") if isinstance(model, Mapping) else None
        for section, defaults in cls.METHOD_DEFAULTS.get(str(method), {}).items():
            given = tree.get(section) or {}
            if not isinstance(given, Mapping):
                continue
            if given.get("optimizer", defaults.get("optimizer")) != defaults.get("optimizer"):
                defaults = {name: value for name, value in defaults.items() if name != "learning_rate"}
            tree = {**tree, section: {**defaults, **given}}
        return tree

    @model_validator(mode="after")
    def _every_knob_has_a_meaning_for_the_method(self, info: ValidationInfo) -> Self:
        check_meaning(self, info, "method", self.model.method, self.METHOD_KNOBS)
        return self

    @model_validator(mode="after")
    def _reconstruction_has_a_decoder(self) -> Self:
        if self.model.method == "reconstruction" and self.model.stem != "imagenet":
            raise ValueError(
                f"stem {self.model.stem} does not go with method reconstruction: its decoder needs the strides of "
                "imagenet; leave it out"
            )
        return self
