"""The knobs of ``simclrseg pretrain``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import Field, model_validator

from simclrseg.config.files import PRESETS, presets_of
from simclrseg.engine import OPTIMIZERS
from simclrseg.knobs.parsing import parse_config_file
from simclrseg.knobs.sections import Console, Section, composed
from simclrseg.knobs.values import (
    BackboneName,
    BandNames,
    Common,
    Completes,
    DatasetName,
    Flag,
    NormalizationName,
    Positional,
    StartName,
    Tells,
    check_columns,
    dataset_names,
)
from simclrseg.methods import METHODS
from simclrseg.methods.knobs import MethodKnobs
from simclrseg.runs.names import dataset_label
from simclrseg.training.knobs import Training, TrainingConfig, TrainingHardware, TrainingRun

# Runs named after what they are good for rather than after their dataset.
RUN_NAMES = {"cats_vs_dogs": "pets", "cifar10": "cifar"}
OTHERS = "Others have defaults of their own, see --help-all."


def _own_defaults() -> str:
    about = [f"{name} has {knobs.ABOUT}" for name, knobs in METHODS.items() if knobs.ABOUT]
    return f"Defaults of their own: {'; '.join(about)}." if about else ""


class PretrainData(Section):
    """Data"""

    dataset: Annotated[
        list[DatasetName],
        Positional("[DATASET...]", named=True),
        Flag("-d"),
        Completes("datasets"),
        Tells(dataset_names),
    ]
    """Photos to train on: a name, a folder or hf:owner/name; several are joined."""
    image_size: Annotated[int, Ge(32), Le(1024), Common()] = 224
    """Side of the square crops, in pixels."""
    augmentation: Literal["paper", "cifar", "seed", "whole"] = "seed"
    """Random changes that make the views: those of the SimCLR paper, of its CIFAR variant, milder ones (seed), or no
    crops (whole)."""
    crop_scale: Annotated[float, Gt(0), Le(1)] | None = None
    """Smallest fraction of the photo that a crop covers; by default that of --augmentation."""
    color_strength: Annotated[float, Ge(0), Le(2.5)] | None = None
    """Strength s of the colour jitter: 0.8s for brightness, contrast and saturation, 0.2s for hue; by default 1 for
    paper, 0.5 for cifar and seed."""
    blur_probability: Annotated[float, Ge(0), Le(1)] | None = None
    """Fraction of the views that are blurred; by default that of --augmentation."""
    grayscale_probability: Annotated[float, Ge(0), Le(1)] | None = None
    """Fraction of the views that become grey; by default that of --augmentation."""
    include_test: bool = False
    """Also train on photos of a published test list; the weights record it."""
    max_images: Annotated[int, Ge(2)] | None = None
    """Number of photos to train on, drawn by the seed; a smaller number takes a subset of a larger."""
    normalization: NormalizationName | None = None
    """Mean and std of the pixels: imagenet, dataset (measured on the training photos), or a YAML file. By default
    those of the start weights, else imagenet for RGB and dataset for other bands."""
    bands: BandNames | None = None
    """Bands of TIFFs to train on, by name, as B04,B03,B02; of files that do not name theirs, the names of all."""
    image_column: str | None = None
    """Column of the photos in a dataset of the Hub; by default the only column of images."""
    label_column: str | None = None
    """Column of the classes in a dataset of the Hub; by default the only column of class labels."""
    cache: Literal["auto", "ram", "disk", "none"] = "auto"
    """Where decoded photos are kept for the next epoch; auto is RAM if they fit into a quarter of what is free, else
    disk."""
    strict: bool = False
    """Stop at a photo that cannot be read, instead of leaving it out."""

    @property
    def strengths(self) -> dict[str, float | None]:
        """What of the augmentation's strengths is given beside its name."""
        return self.model_dump(include={"crop_scale", "color_strength", "blur_probability", "grayscale_probability"})

    @model_validator(mode="after")
    def _columns_are_those_of_a_table(self) -> Self:
        check_columns(self.dataset, {"image_column": self.image_column, "label_column": self.label_column})
        return self


class PretrainModel(Section):
    """Model"""

    method: Annotated[str, METHODS, Common(), Tells(_own_defaults, briefly=OTHERS)] = "simclr"
    """Method of self-supervised learning."""
    backbone: Annotated[BackboneName, Common()] = "resnet50"
    """Encoder: a name of segmentation-models-pytorch, tu- and a name of timm, vit_b_16, or cnn, a small one."""
    stem: Literal["auto", "imagenet", "cifar"] = "auto"
    """First layers of a ResNet: imagenet, or cifar for small images, a 3x3 convolution of stride 1 without max-pool;
    auto is that of the weights of --init, else cifar below 64 px."""
    init: StartName = "none"
    """Weights to start from: none, imagenet, dinov2, dinov3, the name of a pretraining run or of a published backbone,
    a file, a run folder, or hf:owner/repo[/file][@revision]."""
    adapt: list[Literal["bands", "stem"]] = []
    """Convert the first layer of weights made for other bands, or for the other stem; repeat it for both."""


class PretrainTraining(Training):
    """Optimization"""

    DEFAULT_RATES: ClassVar[dict[str, float]] = {"lars": 0.3, "sgd": 0.03, "adam": 1e-3, "adamw": 1e-3}

    optimizer: Annotated[str, OPTIMIZERS] = "lars"
    learning_rate: Annotated[Annotated[float, Gt(0)] | None, Common()] = None
    """Peak learning rate before scaling; by default 0.3 (lars), 0.03 (sgd) or 0.001 (adam, adamw)."""
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    """Scale the learning rate by the batch size: batch/256 (linear) or sqrt(batch)/4 (sqrt)."""
    weight_decay: Annotated[float, Ge(0)] = 1e-6
    epochs: Annotated[int, Ge(1), Common()] = 20
    batch_size: Annotated[int, Ge(2), Common()] = 120
    """Images per optimizer step, over all processes, at most all training images; in SimCLR the others are an image's
    negatives."""
    micro_batch: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Images per forward pass, at most; auto is the largest number that fits into memory. The gradient is that of the
    whole batch (gradient caching); plain accumulation would contrast fewer images. Batch norm sees one
    micro-batch: below 30 images SimCLR learns less, below 8 almost nothing."""

    @property
    def scaled_rate(self) -> float:
        factor = {"none": 1.0, "linear": self.batch_size / 256, "sqrt": math.sqrt(self.batch_size) / 4}
        return self.peak_rate * factor[self.lr_scaling]


class PretrainRun(TrainingRun):
    """Run"""

    knn_every: Annotated[int, Ge(0)] = 5
    """Measure k-NN accuracy, if photos have labels, or the error of reconstruction, every N epochs and at the end; 0
    for never."""


class _PretrainConfig(TrainingConfig):
    """pretrain"""

    CHOICE = ("model", "method")
    # Keys of files that were written before methods had sections of their own.
    MOVED = {
        "model.projection_hidden": "simclr.projection_hidden",
        "model.projection_dim": "simclr.projection_dim",
        "model.temperature": "simclr.temperature",
        "model.loss_pixels": "reconstruction.loss_pixels",
        "data.cut_share": "reconstruction.cut_share",
        "data.cut_side": "reconstruction.cut_side",
        "data.held_out": "reconstruction.held_out",
    }

    data: PretrainData
    model: PretrainModel = Field(default_factory=PretrainModel)
    training: PretrainTraining = Field(default_factory=PretrainTraining)
    hardware: TrainingHardware = Field(default_factory=TrainingHardware)
    run: PretrainRun = Field(default_factory=PretrainRun)
    console: Console = Field(default_factory=Console)

    @property
    def method(self) -> MethodKnobs:
        """The knobs of the method that was chosen."""
        knobs: MethodKnobs = getattr(self, self.model.method)
        return knobs

    @property
    def run_name(self) -> str:
        """The name of a run: by default the first dataset's, and the method's where that is not the usual one."""
        if self.run.name:
            return self.run.name
        first, method = self.data.dataset[0], self.model.method
        name = RUN_NAMES.get(first, dataset_label(first))
        return name if method == PretrainModel.model_fields["method"].default else f"{name}-{method}"

    @model_validator(mode="before")
    @classmethod
    def _method_has_its_own_defaults(cls, tree: Any) -> Any:
        model = tree.get("model") if isinstance(tree, Mapping) else None
        method = model.get("method") if isinstance(model, Mapping) else None
        if not isinstance(method, str) or method not in METHODS:
            return tree
        for section, defaults in METHODS[method].DEFAULTS.items():
            given = tree.get(section) or {}
            if not isinstance(given, Mapping):
                continue
            if given.get("optimizer", defaults.get("optimizer")) != defaults.get("optimizer"):
                defaults = {name: value for name, value in defaults.items() if name != "learning_rate"}
            usual = PretrainData.model_fields["augmentation"].default
            if given.get("augmentation", usual) != usual:  # its own crops, or none, are asked for
                defaults = {name: value for name, value in defaults.items() if name != "crop_scale"}
            if given.get("schedule") == "constant":  # which ends as it began
                defaults = {name: value for name, value in defaults.items() if name != "final_rate"}
            tree = {**tree, section: {**defaults, **given}}
        return tree

    @model_validator(mode="after")
    def _the_method_can_be_run(self) -> Self:
        if self.model.stem not in (stems := self.method.STEMS):
            raise ValueError(
                f"stem {self.model.stem} does not go with method {self.model.method}, "
                f"which needs {' or '.join(stems)}: leave it out"
            )
        self.method.check_chosen()
        return self


if TYPE_CHECKING:
    PretrainConfig = _PretrainConfig
else:
    PretrainConfig = composed(_PretrainConfig, METHODS)


def command_that_makes(name: str) -> str | None:
    """The command of the preset whose run bears a name; None where there is no such preset."""
    for preset in presets_of("pretrain"):
        if name == parse_config_file(PretrainConfig, PRESETS[preset]).run_name:
            return f"simclrseg pretrain --config {preset}"
    return None
