"""The knobs of ``simclrseg finetune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field, ValidationInfo, create_model, model_validator

from simclrseg.engine import OPTIMIZERS
from simclrseg.knobs.sections import Console, Section, check_meaning
from simclrseg.knobs.values import (
    BackboneName,
    Common,
    Completes,
    PathText,
)
from simclrseg.targets import TARGETS
from simclrseg.targets.knobs import LabelledData, TargetKnobs
from simclrseg.training.knobs import Training, TrainingConfig, TrainingHardware, TrainingRun


class FinetuneModel(Section):
    """Model"""

    task: Annotated[str, TARGETS, Common()] = "segment"
    """What is learned: a class for each pixel from masks, or one for each photo from labels."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of what the last layer gets that is dropped in training: channels of the decoder, or features."""
    pretrained: Annotated[PathText, Completes("pretrained"), Common()] = "none"
    """Weights to start from: none, imagenet, a pretraining run's or a published name, a file or run folder, or
    hf:owner/repo[/file][@revision]."""
    adapt: list[Literal["bands", "stem"]] = []
    """Fit the first layer of weights that were made for other bands, or for a 3x3 stem; repeat it for both."""
    backbone: BackboneName | None = None
    """Encoder; by default the pretrained one, or resnet50."""
    allow_unfinished: bool = False
    """Take the weights of a pretraining run that was interrupted."""


class FinetuneTraining(Training):
    """Optimization"""

    # Below those of pretraining, which begins with weights that mean nothing yet.
    DEFAULT_RATES: ClassVar[dict[str, float]] = {"lars": 0.3, "sgd": 0.01, "adam": 1e-4, "adamw": 1e-4}

    optimizer: Annotated[str, OPTIMIZERS] = "adam"
    """Update rule."""
    learning_rate: Annotated[Annotated[float, Gt(0)] | None, Common()] = None
    """Peak learning rate; by default 0.0001 (adam, adamw), 0.01 (sgd) or 0.3 (lars)."""
    epochs: Annotated[int, Ge(1), Common()] = 60
    """Passes over the training images."""
    batch_size: Annotated[int, Ge(2), Common()] = 32
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

    def prolonging(self, before: Self) -> Self:
        """What has joined in does not leave again."""
        return self.model_copy(update={"unfreeze_at": tuple(map(float, before.unfreeze_epochs))})

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


class _FinetuneConfig(TrainingConfig):
    """finetune"""

    CHOICE = ("model", "task")
    # Keys of files that were written before targets had sections of their own.
    MOVED = {
        "training.loss": "segment.loss",
        "training.class_weights": "segment.class_weights",
        "model.decoder": "segment.decoder",
        "model.init_decoder": "segment.init_decoder",
        "run.examples_every": "segment.examples_every",
        "training.label_smoothing": "classify.label_smoothing",
    }

    data: LabelledData = Field(default_factory=LabelledData)
    model: FinetuneModel = Field(default_factory=FinetuneModel)
    training: FinetuneTraining = Field(default_factory=FinetuneTraining)
    hardware: TrainingHardware = Field(default_factory=TrainingHardware)
    run: TrainingRun = Field(default_factory=TrainingRun)
    console: Console = Field(default_factory=Console)

    @property
    def target(self) -> TargetKnobs:
        """The knobs of the target that was chosen."""
        knobs: TargetKnobs = getattr(self, self.model.task)
        return knobs

    @model_validator(mode="after")
    def _the_images_are_opened_for_the_target(self, info: ValidationInfo) -> Self:
        opening = {name: {"data": knobs.OPENING} for name, knobs in TARGETS.items()}
        check_meaning(self, info, "task", self.model.task, opening)
        return self

    @model_validator(mode="after")
    def _the_target_can_begin_with_the_weights(self) -> Self:
        self.target.check_start(self.model.pretrained)
        return self

    @model_validator(mode="after")
    def _what_stays_frozen_is_not_timed(self, info: ValidationInfo) -> Self:
        unfreeze = self.training.unfreeze
        check_meaning(self, info, "unfreeze", unfreeze, {"progressive": {"training": ("unfreeze_at",)}})
        if unfreeze == "head":
            rates = {"all and progressive": {"training": ("encoder_lr_factor", "layer_lr_factor")}}
            check_meaning(self, info, "unfreeze", unfreeze, rates)
        return self


if TYPE_CHECKING:
    FinetuneConfig = _FinetuneConfig
else:  # with a section for each target
    FinetuneConfig = create_model(
        "FinetuneConfig",
        __base__=_FinetuneConfig,
        __module__=__name__,
        __doc__=_FinetuneConfig.__doc__,
        **{name: (knobs, Field(default_factory=knobs)) for name, knobs in TARGETS.items()},
    )
