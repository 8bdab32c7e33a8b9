"""The knobs of ``simclrseg finetune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from annotated_types import Ge, Lt
from pydantic import Field, ValidationInfo, model_validator

from simclrseg.knobs.sections import Console, Section, as_written, check_meaning, composed
from simclrseg.knobs.values import BackboneName, Common, StartName
from simclrseg.runs.names import dataset_label
from simclrseg.targets import TARGETS
from simclrseg.targets.knobs import ConsistencyKnobs, LabelledData, TargetKnobs
from simclrseg.training.knobs import FinetuneTraining, TrainingConfig, TrainingHardware, TrainingRun


class FinetuneModel(Section):
    """Model"""

    task: Annotated[str, TARGETS, Common()] = "segment"
    """What to predict: the class of each pixel, or of each photo."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout before the last layer: of the decoder's channels, or of the features."""
    pretrained: Annotated[StartName, Common()] = "none"
    """Weights to start from: none, imagenet, dinov2 or dinov3 (best for photos of everyday things), the name of a
    pretraining run or of a published backbone, a file, a run folder, or hf:owner/repo[/file][@revision]."""
    adapt: list[Literal["bands", "stem"]] = []
    """Convert the first layer of weights made for other bands, or for the other stem; repeat it for both."""
    backbone: BackboneName | None = None
    """Encoder; by default that of the pretrained weights, else resnet50."""
    allow_unfinished: bool = False
    """Accept the weights of an unfinished pretraining run."""


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
    consistency: ConsistencyKnobs = Field(default_factory=ConsistencyKnobs)
    hardware: TrainingHardware = Field(default_factory=TrainingHardware)
    run: TrainingRun = Field(default_factory=TrainingRun)
    console: Console = Field(default_factory=Console)

    @property
    def target(self) -> TargetKnobs:
        """The knobs of the target that was chosen."""
        knobs: TargetKnobs = getattr(self, self.model.task)
        return knobs

    def run_name(self, start: str) -> str:
        """The name of a run: ``<dataset>-<start>``, ``-r0.5`` or ``-n100`` for a part of the images, and so on."""
        data, name = self.data, f"{dataset_label(self.data.name)}-{dataset_label(start)}"
        name += "" if data.data_ratio == 1 else f"-r{data.data_ratio:g}"
        name += "" if data.max_images is None else f"-n{data.max_images}"
        name += "-unlabelled" if data.unlabelled else ""
        return name + (f"-fold{data.fold.replace('/', 'of')}" if data.fold else "")

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
    def _unlabelled_photos_have_a_teacher(self) -> Self:
        if self.data.unlabelled and self.training.ema is None:
            raise ValueError(
                "ema none leaves unlabelled photos without a teacher, which is the average of the weights: leave it "
                "out, or give a decay such as 0.996"
            )
        own = self.consistency.changed()
        if own and not self.data.unlabelled:
            raise ValueError(
                f"{own[0]} of consistency is for unlabelled photos: name some with --unlabelled, or leave it out"
            )
        epochs = 1 if self.training.epochs == "auto" else self.training.epochs
        first, last = self.consistency.ramp_epochs(epochs)
        if not first <= last <= epochs:
            few = "of epochs auto give fractions" if self.training.epochs == "auto" else f"there are {epochs} epochs"
            ramp = as_written(self.consistency.ramp)
            raise ValueError(f"ramp ({ramp}) must end after it begins and before the training ends: {few}")
        return self

    def prolonging(self, before: Self) -> Self:
        """What has joined in does not leave again, and unlabelled photos keep their weight."""
        longer = super().prolonging(before)
        if not self.data.unlabelled:
            return longer
        ends = before.consistency.ramp_epochs(before.training.total_epochs)
        ramp = tuple(end / self.training.total_epochs for end in ends)
        return longer.model_copy(update={"consistency": self.consistency.model_copy(update={"ramp": ramp})})

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
else:
    FinetuneConfig = composed(_FinetuneConfig, TARGETS)
