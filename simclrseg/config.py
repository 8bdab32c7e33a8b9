"""Every knob of every command: its name, type, range, default and meaning, written once.

The command line builds its options from these models, so nothing here imports torch. To add a knob, add a
field with a docstring: it appears in ``--help``, in completion, in YAML files and in validation.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simclrseg.data.datasets import DATASETS, HUB
from simclrseg.engine import LOGGERS, OPTIMIZERS, SCHEDULES
from simclrseg.errors import suggestion
from simclrseg.evaluation import EMBEDDINGS, GATES
from simclrseg.exporters import EXPORTERS, PRECISIONS
from simclrseg.inference import OUTPUTS
from simclrseg.losses import LOSSES
from simclrseg.models import BACKBONES, SEGMENTERS
from simclrseg.runs import NAME
from simclrseg.tasks import METHODS


@dataclass(frozen=True)
class Flag:
    """Other spellings of an option, such as ``-o``."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class Positional:
    """The knob is an argument, shown as ``metavar``; a list takes many."""

    metavar: str


@dataclass(frozen=True)
class Completes:
    """What the shell offers as values: the name of a completer in ``cli/options.py``."""

    what: str


@dataclass(frozen=True)
class Transient:
    """Belongs to one call, not to the experiment: never written into a run's ``config.yaml``."""


def _path(text: str) -> str:
    """A path as it was typed, with the user's folder for a leading ``~``."""
    if not text.strip():
        raise ValueError("is empty: name a file or a folder")
    return os.path.expanduser(text)


def _known_dataset(name: str) -> str:
    path = _path(name)
    if name in DATASETS or Path(path).is_dir() or (name.startswith(HUB) and len(name) > len(HUB)):
        return path
    if Path(path).exists():
        raise ValueError(f"{name!r} is a file: give the folder that holds the photos")
    if any(mark in name for mark in "/\\.~"):
        raise ValueError(f"there is no folder {name!r}")
    raise ValueError(f"{name!r} is neither a dataset nor a folder: {suggestion(name, DATASETS)}")


def _known_backbone(name: str) -> str:
    if name in BACKBONES or name.startswith("tu-"):  # tu-: timm's models, known once timm is imported
        return name
    raise ValueError(f"{name!r} is not a backbone: {suggestion(name, BACKBONES)}")


def _run_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: use letters, digits and . _ + - only, beginning with a letter or digit")
    return name


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


def _check_columns(names: list[str], columns: Mapping[str, str | None]) -> None:
    if not any(name.startswith(HUB) for name in names):
        for knob, column in columns.items():
            if column is not None:
                raise ValueError(f"{knob} ({column}) is for sets of the Hub, such as {HUB}owner/name: leave it out")


def _known_normalization(text: str) -> str:
    names = ("imagenet", "dataset")
    path = _path(text)
    if text not in names and not Path(path).is_file():
        raise ValueError(f"{text!r} is neither imagenet, dataset nor a file: {suggestion(text, names)}")
    return path


def _gate(text: str) -> str:
    name, _, value = text.partition("=")
    if name not in GATES:
        raise ValueError(f"{text!r}: {name!r} is not a metric of which more is better: {suggestion(name, GATES)}")
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    if not 0 <= bound <= 1:
        raise ValueError(f"{text!r} is not a metric and a number from 0 to 1, such as {name}=0.85")
    return text


PathText = Annotated[str, AfterValidator(_path)]
DatasetName = Annotated[str, AfterValidator(_known_dataset), Completes("datasets")]
NormalizationName = Annotated[str, AfterValidator(_known_normalization), Completes("files")]
BackboneName = Annotated[str, AfterValidator(_known_backbone), Completes("backbones")]


class Section(BaseModel):
    """A group of knobs: one block of the YAML file, one panel of ``--help``."""

    # Built on first use: a completion needs the names of the knobs only. Their docstrings are read by knobs.py.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)


# Sections that several commands share.


class Hardware(Section):
    """Hardware"""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the GPU when there is one."""
    workers: Annotated[int, Ge(1)] | None = None
    """Threads that read and augment images; by default one per CPU core."""


class TrainingHardware(Hardware):
    """Hardware"""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; auto takes bf16 where the hardware has it."""
    devices: Annotated[int, Ge(1)] | None = None
    """Processes on this machine that train as one, each with its GPU; torchrun starts them."""


class Console(Section):
    """Output"""

    runs: Annotated[PathText, Completes("folders")] = "runs"
    """Folder of all runs."""
    quiet: Annotated[bool, Flag("-q"), Transient()] = False
    """Only warnings and errors on stderr."""


class TrainingRun(Section):
    """Run"""

    name: Annotated[str, AfterValidator(_run_name)] | None = None
    """Name of the run; derived from its data by default, and numbered when it is taken."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of initial weights, order and augmentation; splits do not depend on it."""
    resume: Annotated[str | None, Completes("runs"), Transient()] = None
    """Continue this interrupted run, with its own configuration."""
    overwrite: Annotated[bool, Transient()] = False
    """Replace the run of that name."""
    log: list[Annotated[str, LOGGERS]] = []
    """Also send the numbers to this tool; repeat it for both."""
    checkpoint_steps: Annotated[int, Ge(1)] | None = None
    """Save the training state every so many steps too, besides after each epoch."""
    checkpoint_minutes: Annotated[float, Gt(0)] | None = None
    """Save the training state whenever so many minutes have passed, besides after each epoch."""
    keep_checkpoints: Annotated[int, Ge(1)] = 1
    """How many of the last training states to keep."""
    dry_run: Annotated[bool, Transient()] = False
    """Check everything, take a few steps, say how much memory and time the run would take, and leave nothing behind."""


class Training(Section):
    """Optimization"""

    DEFAULT_RATES: ClassVar[dict[str, float]] = {"lars": 0.3, "sgd": 0.03, "adam": 1e-3, "adamw": 1e-3}
    DEFAULT_WARMUPS: ClassVar[dict[str, float]] = {"one-cycle": 0.3}

    optimizer: Annotated[str, OPTIMIZERS]
    """Update rule."""
    learning_rate: Annotated[float, Gt(0)] | None = None
    """Peak learning rate; by default one that suits the optimizer."""
    schedule: Annotated[str, SCHEDULES] = "cosine"
    """How the learning rate moves, step by step."""
    warmup_epochs: Annotated[float, Ge(0)] | None = None
    """Epochs of warm-up; by default a tenth of the run, at most 10, and three tenths of a one-cycle."""
    final_rate: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Where a falling schedule ends, as a share of the peak learning rate."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay; biases and normalisation layers have none."""
    clip: Annotated[float, Gt(0)] | None = None
    """Clip the gradient to this norm."""
    compile: bool = False
    """Compile the network with torch.compile: a slow start, then faster steps; needs a C++ compiler."""
    epochs: Annotated[int, Ge(1)]
    """Passes over the training images."""
    batch_size: Annotated[int, Ge(2)]
    """Images per optimizer step, over all processes."""

    @property
    def peak_rate(self) -> float:
        return self.learning_rate if self.learning_rate is not None else self.DEFAULT_RATES.get(self.optimizer, 1e-3)

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, resolved: an unclamped 10 would be half of a 20-epoch run."""
        if self.warmup_epochs is not None:
            return self.warmup_epochs
        share = self.DEFAULT_WARMUPS.get(self.schedule)
        return share * self.epochs if share else min(10.0, self.epochs / 10)

    @model_validator(mode="after")
    def _warmup_ends_before_training(self) -> Self:
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be below epochs ({self.epochs})")
        return self


# pretrain


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
        _check_columns(self.dataset, {"image_column": self.image_column, "label_column": self.label_column})
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
    the whole batch (gradient caching); plain accumulation would contrast fewer images."""

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
    def _reconstruction_has_a_decoder(self) -> Self:
        if self.model.method == "reconstruction" and self.model.stem != "imagenet":
            raise ValueError(
                f"stem {self.model.stem} does not go with method reconstruction: its decoder needs the strides of "
                "imagenet; leave it out"
            )
        return self


# finetune


class LabelledData(Section):
    """Data"""

    dataset: Annotated[DatasetName, Flag("-d")] = "oxford_pets"
    """Labelled photos: a name, hf:owner/name, or a folder with images/ and masks/, or with one folder a class."""
    data_ratio: Annotated[float, Gt(0), Le(1)] = 1.0
    """Share of the development photos (all but test) to use."""
    image_size: Annotated[int, Ge(32), Le(2048)] = 256
    """Side to which photos are brought, in pixels; the aspect is not kept."""
    augmentation: Literal["none", "flip", "standard"] = "flip"
    """Random changes to photo and mask together; standard adds crops (so scale and aspect) and colours to the flip."""
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
    classes_file: Annotated[PathText | None, Completes("files")] = None
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
        _check_columns([self.dataset], {name: getattr(self, name) for name in names})
        return self

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

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of a label that is spread over all classes, in classification."""
    loss: Annotated[str, AfterValidator(_known_losses), Completes("losses")] | None = None
    """Loss, or a sum such as bce+dice of bce, ce, dice, focal and jaccard; by default bce for two classes, else ce."""
    class_weights: Annotated[str, AfterValidator(_class_weights)] | None = None
    """Weights of the classes in the loss: auto takes them from the masks' statistics, or a number for each: 0.5,2,1."""
    optimizer: Annotated[str, OPTIMIZERS] = "adam"
    """Update rule."""
    learning_rate: Annotated[float, Gt(0)] = 1e-4
    """Peak learning rate."""
    epochs: Annotated[int, Ge(1)] = 60
    """Passes over the training images."""
    batch_size: Annotated[int, Ge(2)] = 32
    """Images per optimizer step, over all processes."""
    micro_batch: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Images per forward pass; auto takes what fits. The gradient is that of the whole batch (accumulation)."""
    unfreeze: Literal["all", "head", "progressive"] = "all"
    """What learns: everything, the new layers only (a linear probe, in classification), or the new layers first, then
    the encoder's last stage too, then everything."""
    unfreeze_at: tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]] = (0.1, 0.2)
    """When progressive adds the last stage and when everything: a share of the run, or an epoch count from 1 on."""
    encoder_lr_factor: Annotated[float, Gt(0), Le(10)] = 1.0
    """The encoder learns at this share of the learning rate."""
    layer_lr_factor: Annotated[float, Gt(0), Le(1)] = 1.0
    """Each stage of the encoder learns at this share of the rate of the one above it."""
    patience: Annotated[int, Ge(1)] | None = None
    """Stop after so many epochs without a better first validation score."""
    ema: Annotated[float, Gt(0), Lt(1)] | None = None
    """Average the weights over the steps with this decay, such as 0.999; validation and the model take the average."""

    @property
    def unfreeze_epochs(self) -> tuple[int, int]:
        """Epochs of training after which the last stage, and then everything, joins in."""
        first, second = (round(at * self.epochs) if at < 1 else int(at) for at in self.unfreeze_at)
        return first, second

    @model_validator(mode="after")
    def _everything_is_unfrozen_in_the_end(self) -> Self:
        if self.unfreeze != "progressive":
            return self
        for at in self.unfreeze_at:
            if at > 1 and at != int(at):
                raise ValueError(f"unfreeze_at ({at:g}) is neither a share below 1 nor a whole number of epochs")
        first, second = self.unfreeze_epochs
        if not first <= second < self.epochs:
            raise ValueError(
                f"unfreeze_at: the last stage joins after epoch {first} and everything after epoch {second} of "
                f"{self.epochs}: the second must not come first, and both must come before the end"
            )
        return self


class FinetuneRun(TrainingRun):
    """Run"""

    examples_every: Annotated[int, Ge(0)] = 5
    """Epochs between pictures of some validation photos in examples.png, which ends with test photos; 0 means none."""


class FinetuneConfig(Section):
    """finetune"""

    # Knobs that mean something for one task only: the other refuses them.
    TASK_KNOBS: ClassVar[dict[str, dict[str, tuple[str, ...]]]] = {
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
    def _every_knob_has_a_meaning_for_the_task(self) -> Self:
        for task, sections in self.TASK_KNOBS.items():
            for section, names in sections.items() if task != self.model.task else ():
                values = getattr(self, section)
                for name in names:
                    if getattr(values, name) != type(values).model_fields[name].get_default(call_default_factory=True):
                        raise ValueError(
                            f"{name} is for task {task} and has no meaning for task {self.model.task}: leave it out"
                        )
        return self

    @model_validator(mode="after")
    def _a_decoder_comes_from_a_whole_network(self) -> Self:
        if self.model.init_decoder and self.model.pretrained in ("none", "imagenet"):
            raise ValueError(
                f"init_decoder: pretrained {self.model.pretrained} has no decoder; leave it out, or name a run of "
                "`simclrseg pretrain --method reconstruction`"
            )
        return self


# evaluate


class EvaluateData(Section):
    """Data"""

    models: Annotated[list[PathText], Positional("[RUN...]"), Completes("models"), Transient()] = []
    """Fine-tuned runs, by name or folder, or exported .onnx files; the newest run by default. Several are compared."""
    dataset: Annotated[DatasetName | None, Flag("-d")] = None
    """Score on these photos and masks instead of the run's own."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Which part of the dataset to score."""
    at: Literal["original", "training"] = "original"
    """Resolution to score at: that of the masks, or that of training."""
    empty: Annotated[Literal["nan", "0", "1"], BeforeValidator(str)] = "1"
    """What IoU, F1, precision and recall are of an image without foreground where none was found; nan leaves it out."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Images per forward pass."""
    baseline: Annotated[str | None, Completes("models"), Transient()] = None
    """The one of several models that the others are compared with; by default the first."""
    minimum: Annotated[list[Annotated[str, AfterValidator(_gate)]], Flag("--min")] = []
    """Exit with 1 where a metric is below this, as iou=0.85, of any model; repeat it for several."""
    classes: list[str] = []
    """For an .onnx file that does not say: its classes in their order, this option once for each."""
    size: Annotated[int, Ge(1)] | None = None
    """For an .onnx file that does not say: side of the squares that it was trained on, in pixels."""


class EvaluateUncertainty(Section):
    """Out of distribution"""

    ood: Annotated[list[DatasetName], Completes("datasets")] = []
    """Photos of another kind, a name or a folder: can the model tell them from its own? Repeat it for several."""
    mc_samples: Annotated[int, Ge(2)] | None = None
    """Draws of Monte-Carlo dropout for the mutual information; by default 20 where the model was trained with
    dropout."""

    @model_validator(mode="after")
    def _draws_are_for_other_photos(self) -> Self:
        if self.mc_samples is not None and not self.ood:
            raise ValueError(f"mc_samples ({self.mc_samples}) is for telling other photos apart: name some with ood")
        return self


class EvaluateFeatures(Section):
    """Features"""

    embed: Annotated[str, EMBEDDINGS] | None = None
    """Draw features as points, before and after pretraining; umap needs pip install 'simclrseg[umap]'."""


class EvaluateOutput(Console):
    """Output"""

    as_json: Annotated[bool, Flag("--json"), Transient()] = False
    """Print everything as JSON on stdout."""


class EvaluateConfig(Section):
    """evaluate"""

    data: EvaluateData = Field(default_factory=EvaluateData)
    uncertainty: EvaluateUncertainty = Field(default_factory=EvaluateUncertainty)
    features: EvaluateFeatures = Field(default_factory=EvaluateFeatures)
    hardware: Hardware = Field(default_factory=Hardware)
    console: EvaluateOutput = Field(default_factory=EvaluateOutput)


# predict


class PredictInput(Section):
    """Input"""

    inputs: Annotated[list[PathText], Positional("INPUT..."), Completes("files"), Transient()]
    """Photos, folders of photos, patterns such as 'photos/**/*.jpg', or - for stdin."""
    model: Annotated[PathText | None, Flag("-m"), Completes("models")] = None
    """A fine-tuned run or an exported .onnx file; the newest finished run by default."""
    threshold: Annotated[float, Gt(0), Lt(1)] | None = None
    """Probability above which a pixel is foreground; the model's own by default."""
    max_pixels: Annotated[float, Ge(1)] = 178_956_970
    """Refuse larger pictures before decoding them."""


class PredictMethod(Section):
    """Method"""

    tile: Annotated[int, Ge(64), Le(8192)] | None = None
    """Predict in tiles of this side, in pixels of the photo; by default whole photos at the training size."""
    overlap: Annotated[float, Ge(0), Le(0.9)] = 0.5
    """Share of a tile that its neighbour covers too; they are blended by a Gaussian."""
    tta: bool = False
    """Also predict the mirror image and take the mean: half as fast."""


class PredictHardware(Section):
    """Hardware"""

    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    """Where to compute; auto takes the GPU when there is one."""
    workers: Annotated[int, Ge(1)] | None = None
    """Photos in work at once; by default one per CPU core."""


class PredictOutput(Console):
    """Output"""

    output: Annotated[PathText | None, Flag("-o"), Completes("files"), Transient()] = None
    """File to write, folder for many, or - for stdout; by default <photo>.mask.png beside each photo."""
    outputs: Annotated[list[Annotated[str, OUTPUTS]], Flag("--as")] = ["mask"]
    """What to write of each photo; repeat it for several."""
    keep_orientation: bool = False
    """Write files as the photo is stored, not turned upright as EXIF asks."""
    overwrite: Annotated[bool, Transient()] = False
    """Replace files that exist."""
    skip_existing: Annotated[bool, Transient()] = False
    """Leave out what exists, as after an interruption."""
    as_json: Annotated[bool, Flag("--json"), Transient()] = False
    """Print what was written as JSON on stdout."""

    @model_validator(mode="after")
    def _there_is_one_way_with_what_exists(self) -> Self:
        if self.overwrite and self.skip_existing:
            raise ValueError("overwrite and skip_existing exclude each other: take one")
        if not self.outputs:
            raise ValueError("outputs is empty: take mask")
        return self


class PredictConfig(Section):
    """predict"""

    input: PredictInput
    method: PredictMethod = Field(default_factory=PredictMethod)
    hardware: PredictHardware = Field(default_factory=PredictHardware)
    console: PredictOutput = Field(default_factory=PredictOutput)


# export


class ExportModel(Section):
    """Model"""

    run: Annotated[PathText | None, Positional("[RUN]"), Completes("finetune_runs"), Transient()] = None
    """A fine-tuned run, by name or folder; the newest by default."""
    format: Annotated[str, EXPORTERS] = "onnx"
    """Kind of file: ONNX for any runtime, a torch.export program (.pt2), or weights."""
    precision: Annotated[str, PRECISIONS] = "fp32"
    """What the file computes with; int8 is calibrated on the run's training photos."""
    opset: Annotated[int, Ge(18), Le(23)] = 18
    """Version of the ONNX operators."""
    fixed_shape: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)], Annotated[int, Ge(1)]] | None = None
    """Only this number of photos, height and width, for runtimes that want one shape; any by default."""


class ExportCheck(Section):
    """Check"""

    calibrate: Annotated[DatasetName | None, Completes("datasets")] = None
    """Photos to calibrate and check on instead of the run's own, with masks or without."""
    tolerance: Annotated[float, Gt(0), Lt(1)] = 0.005
    """How much of the IoU fp16 and int8 may cost, on photos."""


class ExportOutput(Console):
    """Output"""

    output: Annotated[PathText | None, Flag("-o"), Completes("files"), Transient()] = None
    """File to write; by default model.onnx in the run's folder, or model.int8.onnx and the like."""
    overwrite: Annotated[bool, Transient()] = False
    """Replace a file that exists."""
    inspect: Annotated[PathText | None, Completes("models"), Transient()] = None
    """Print what this exported file takes, gives and says of itself, and export nothing."""
    as_json: Annotated[bool, Flag("--json"), Transient()] = False
    """Print everything as JSON on stdout."""


class ExportHub(Section):
    """Hugging Face Hub"""

    push: Annotated[str | None, Transient()] = None
    """Upload the weights and their model card to this repository, owner/name, which is made if need be."""
    private: Annotated[bool, Transient()] = False
    """Hide a repository that is made."""
    licence: str | None = None
    """Licence that the model card names, as mit; none by default."""
    token: Annotated[str | None, Transient()] = None
    """Access token; by default $HF_TOKEN, else that of `hf auth login`."""


class ExportConfig(Section):
    """export"""

    model: ExportModel = Field(default_factory=ExportModel)
    check: ExportCheck = Field(default_factory=ExportCheck)
    hub: ExportHub = Field(default_factory=ExportHub)
    console: ExportOutput = Field(default_factory=ExportOutput)


# pull


class PullSource(Section):
    """Source"""

    name: Annotated[str | None, Positional("[NAME]"), Completes("published"), Transient()] = None
    """A published backbone, or hf:owner/repo[/file][@revision]; without it, all published ones are listed."""
    backbone: BackboneName | None = None
    """Encoder whose ImageNet weights are meant (imagenet), or that a foreign file holds (hf:)."""
    namespace: str | None = None
    """Owner of our backbones on the Hub; by default $SIMCLRSEG_HUB_NAMESPACE, else simclrseg."""
    token: Annotated[str | None, Transient()] = None
    """Access token for gated and private repositories; by default $HF_TOKEN, else that of `hf auth login`."""


class PullDownload(Section):
    """Download"""

    output: Annotated[PathText | None, Flag("-o"), Completes("folders"), Transient()] = None
    """Folder to copy the file to, besides the cache."""
    force: Annotated[bool, Transient()] = False
    """Fetch it anew, and replace a copy that exists."""
    offline: Annotated[bool, Transient()] = False
    """Take what is cached and make no request."""
    dry_run: Annotated[bool, Transient()] = False
    """Say what would be fetched and how large it is."""

    @model_validator(mode="after")
    def _offline_fetches_nothing(self) -> Self:
        if self.force and self.offline:
            raise ValueError("--force fetches and --offline forbids it: leave one out")
        return self


class PullOutput(Section):
    """Output"""

    as_json: Annotated[bool, Flag("--json"), Transient()] = False
    """Print as JSON on stdout."""
    quiet: Annotated[bool, Flag("-q"), Transient()] = False
    """Only warnings and errors on stderr."""


class PullConfig(Section):
    """pull"""

    source: PullSource = Field(default_factory=PullSource)
    download: PullDownload = Field(default_factory=PullDownload)
    console: PullOutput = Field(default_factory=PullOutput)
