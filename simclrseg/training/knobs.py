"""The knobs of a training, and of one that starts from what is pretrained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ValidationInfo, model_validator

from simclrseg.engine import LOGGERS, OPTIMIZERS, SCHEDULES
from simclrseg.errors import DataError, UsageError
from simclrseg.knobs.knob import knobs_of, look_up
from simclrseg.knobs.sections import Console, Hardware, Section, alternatives, as_written, check_meaning
from simclrseg.knobs.values import Common, Completes, Transient
from simclrseg.runs.names import NAME

AUTO_EPOCHS = 30
AUTO_STEPS = 1_500
"""Of a fine-tuning at least, where nothing is said: passes over the training images, and steps."""
PRETRAINED_RATE = 0.1
"""Learning rate of a pretrained encoder, as a multiple of that of the new layers."""
MORE_PHOTOS = "add photos, or take more of those that there are"
"""The remedy where the training images are too few, as --max-images may make them."""
LONG_RUN = 2 * 3600.0  # seconds of a run on a CPU above which a smaller one is suggested


RESUMABLE = {
    "data.cache",
    "hardware.workers",
    "hardware.devices",
    "run.log",
    "run.checkpoint_steps",
    "run.checkpoint_minutes",
    "run.keep_checkpoints",
    "segment.examples_every",
    "console.runs",
    "training.micro_batch",  # without batch norm the gradient is the same; with it a run out of memory has to go on
}
"""What may differ where a run goes on: nothing that changes its result but rounding, and by batch norm the last."""


def steps_of_epoch(images: int, batch_size: int) -> int:
    """Optimizer steps of a pass over so many images: a last batch of one is left out, as batch norm cannot use it."""
    whole, rest = divmod(images, batch_size)
    return whole + (rest > 1 or whole == 0)


def _run_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: use letters, digits and . _ + - only, beginning with a letter or digit")
    return name


class TrainingHardware(Hardware):
    """Hardware"""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; auto is bf16 where the hardware has it."""
    devices: Annotated[int, Ge(1)] | None = None
    """Train on so many GPUs of this machine, in one process each."""


class TrainingRun(Section):
    """Run"""

    name: Annotated[str, AfterValidator(_run_name)] | None = None
    """Name of the run; made from its data by default, and numbered if it is taken."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of initial weights, order and augmentation; not of the split."""
    resume: Annotated[str | None, Completes("runs"), Common(), Transient()] = None
    """Continue this interrupted run with its own configuration. With more --epochs than it had, train it longer: the
    weights and the optimizer go on, the schedule begins anew."""
    overwrite: Annotated[bool, Transient()] = False
    """Replace the run of that name."""
    log: list[Annotated[str, LOGGERS]] = []
    """Also log to this tool; repeat it for both."""
    checkpoint_steps: Annotated[int, Ge(1)] | None = None
    """Save the training state every N steps, and after each epoch."""
    checkpoint_minutes: Annotated[float, Gt(0)] | None = None
    """Save the training state every N minutes, and after each epoch."""
    keep_checkpoints: Annotated[int, Ge(1)] = 1
    """Number of training states to keep, the last ones."""
    dry_run: Annotated[bool, Common(), Transient()] = False
    """Check everything, time small steps, print an estimate of the memory and the time that the run would take, and
    write nothing."""


class Training(Section):
    """Optimization"""

    DEFAULT_RATES: ClassVar[dict[str, float]]
    """Peak learning rates by optimizer."""
    DEFAULT_WARMUPS: ClassVar[dict[str, float]] = {"one-cycle": 0.3}

    optimizer: Annotated[str, OPTIMIZERS]
    """Update rule."""
    learning_rate: Annotated[float, Gt(0)] | None = None
    """Peak learning rate; by default one that suits the optimizer."""
    schedule: Annotated[str, SCHEDULES] = "cosine"
    """Course of the learning rate over the steps."""
    warmup_epochs: Annotated[float, Ge(0)] | None = None
    """Epochs of warm-up; by default, and if the run is no longer than that, 10 % of the run but at most 10 epochs, or
    30 % of a one-cycle."""
    final_rate: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Learning rate at the end, as a fraction of the peak."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay; none for biases and normalization layers."""
    clip: Annotated[float, Gt(0)] | None = None
    """Largest norm of the gradient; larger ones are clipped to it."""
    compile: bool = False
    """Compile the network with torch.compile: slow first steps, then faster ones; needs a C++ compiler."""
    epochs: Annotated[int, Ge(1)] | Literal["auto"]
    """Passes over the training images."""
    batch_size: Annotated[int, Ge(2)]
    """Images per optimizer step, over all processes; at most all training images."""
    micro_batch: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Images per forward pass."""

    def batch_of(self, images: int, processes: int) -> int:
        """The batch size, or where the training images are fewer, their number, as far as processes share it evenly.

        Raises:
            DataError: if they are fewer than two.
            UsageError: if they are fewer than the processes.
        """
        if images < 2:
            photos = "1 training photo" if images == 1 else f"{images} training photos"
            raise DataError(f"{photos} cannot be learned from, as a batch has two", MORE_PHOTOS)
        if images < processes:
            raise UsageError(
                f"{processes} processes cannot share {images} training photos",
                f"take {images} or fewer",
                option="devices",
            )
        return min(self.batch_size, images // processes * processes)

    @property
    def total_epochs(self) -> int:
        """``epochs``, once it is a number."""
        assert self.epochs != "auto"
        return self.epochs

    @property
    def peak_rate(self) -> float:
        return self.learning_rate if self.learning_rate is not None else self.DEFAULT_RATES[self.optimizer]

    @property
    def warmup(self) -> float:
        """Epochs of warm-up, resolved."""
        return self.warmup_of(self.total_epochs)

    def warmup_of(self, epochs: float) -> float:
        """Epochs of warm-up of a schedule over so many: an unclamped 10 would be half of a 20-epoch run."""
        if self.warmup_epochs is not None and self.warmup_epochs < epochs:
            return self.warmup_epochs
        share = self.DEFAULT_WARMUPS.get(self.schedule)
        return share * epochs if share else min(10.0, epochs / 10)

    def prolonging(self, before: Self) -> Self:
        """The same for a run that was made with others and has got more epochs: what it has done stays done."""
        return self


class FinetuneTraining(Training):
    """Optimization"""

    DEFAULT_RATES: ClassVar[dict[str, float]] = {"lars": 0.3, "sgd": 0.01, "adam": 1e-4, "adamw": 1e-3}

    optimizer: Annotated[str, OPTIMIZERS] = "adamw"
    learning_rate: Annotated[Annotated[float, Gt(0)] | None, Common()] = None
    """Peak learning rate; by default 0.001 (adamw), 0.0001 (adam), 0.01 (sgd) or 0.3 (lars)."""
    schedule: Annotated[str, SCHEDULES] = "one-cycle"
    weight_decay: Annotated[float, Ge(0)] = 0.01
    epochs: Annotated[Annotated[int, Ge(1)] | Literal["auto"], Common()] = "auto"
    """Passes over the training images; auto is 30, or as many more as make 1,500 steps, and twice that with
    --unlabelled."""
    batch_size: Annotated[int, Ge(2)] = 16
    """Images per optimizer step, over all processes; at most all training images."""
    micro_batch: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """Images per forward pass, in training and scoring; auto is the largest number that fits into memory. Gradients
    are accumulated over the batch."""
    unfreeze: Literal["all", "head", "progressive"] = "all"
    """Which layers train. all: every layer. head: the new layers only; in classification that is a linear probe.
    progressive: first the new layers, then also the encoder's last stage, then every layer."""
    unfreeze_at: tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]] = (0.1, 0.2)
    """When progressive adds the last stage, and when the rest: below 1 as a fraction of the run, from 1 on in
    epochs."""
    encoder_lr_factor: Annotated[float, Gt(0), Le(10)] | None = None
    """Learning rate of the encoder, as a multiple of the learning rate; by default 0.1 where it starts from pretrained
    weights, else 1."""
    layer_lr_factor: Annotated[float, Gt(0), Le(1)] = 1.0
    """Learning rate of each stage of the encoder, as a fraction of that of the next stage."""
    patience: Annotated[int, Ge(1)] | None = None
    """Stop after this many epochs without a better validation score; with progressive, counted once all layers
    train."""
    ema: Annotated[float, Gt(0), Lt(1)] | None = 0.99
    """Decay of an exponential moving average of the weights; the average is what is validated and saved, and with
    --unlabelled the teacher."""

    def resolved(
        self, images: int, *, processes: int, pretrained: bool, unlabelled: bool, begun: Mapping[str, Any] | None = None
    ) -> Self:
        """The same for so many training images: a batch is no larger than they are, and what was left open is not.

        Args:
            processes: that share a batch out evenly; UsageError if they are more than the images.
            pretrained: whether the encoder starts from weights that were trained.
            unlabelled: whether there are unlabelled images beside them, from which more steps learn more.
            begun: what a run that goes on was begun with, as its environment says.
        """
        found: dict[str, Any] = {
            "batch_size": self.batch_of(images, processes),
            "learning_rate": self.peak_rate,
            "encoder_lr_factor": self.encoder_lr_factor or (PRETRAINED_RATE if pretrained else 1.0),
        }
        found |= {name: begun[name] for name in ("batch_size", "learning_rate") if begun and name in begun}
        if self.epochs == "auto":
            steps = steps_of_epoch(images, found["batch_size"])
            found["epochs"] = (2 if unlabelled else 1) * max(AUTO_EPOCHS, math.ceil(AUTO_STEPS / steps))
        return self.model_copy(update=found)

    @property
    def unfreeze_epochs(self) -> tuple[int, int]:
        """Epochs of training after which the last stage, and then everything, joins in.

        Shares are rounded so that the head alone, the last stage and everything have an epoch each; of two epochs the
        head alone has the first, and of a single one nothing is frozen.
        """
        at_last, at_everything = self.unfreeze_at
        alone, apart = int(at_last > 0), int(at_everything > at_last)  # steps before the last stage, and after it
        last = int(at_last) if at_last >= 1 else max(alone, round(at_last * self.total_epochs))
        everything = int(at_everything)
        if at_everything < 1:
            everything = min(max(alone + apart, round(at_everything * self.total_epochs)), self.total_epochs - 1)
        return min(last, max(everything - apart, min(everything, 1))), everything

    def prolonging(self, before: Self) -> Self:
        """What has joined in does not leave again."""
        if self.unfreeze != "progressive":
            return self
        return self.model_copy(update={"unfreeze_at": tuple(map(float, before.unfreeze_epochs))})

    @model_validator(mode="after")
    def _everything_is_unfrozen_in_the_end(self) -> Self:
        if self.unfreeze != "progressive":
            return self
        if self.epochs == "auto":
            if not self.unfreeze_at[0] <= self.unfreeze_at[1] < 1:
                raise ValueError(
                    f"unfreeze_at ({as_written(self.unfreeze_at)}): of epochs auto give fractions, in their order"
                )
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


class TrainingConfig(Section):
    """A config of a command that trains; each narrows the sections that it has more knobs in."""

    data: Section
    model: Section
    training: Training
    hardware: TrainingHardware
    run: TrainingRun
    console: Console

    def of_length(self, epochs: int) -> Self:
        """The same for so many epochs."""
        return self.model_copy(update={"training": self.training.model_copy(update={"epochs": epochs})})

    def prolonging(self, before: Self) -> Self:
        """The same for a run that was made with others and has got more epochs: what it has done stays done."""
        return self.model_copy(update={"training": self.training.prolonging(before.training)})

    @model_validator(mode="after")
    def _every_knob_has_a_meaning_for_what_was_chosen(self, info: ValidationInfo) -> Self:
        if self.CHOICE is not None:
            section, what = self.CHOICE
            knobs = {name: {name: tuple(type(getattr(self, name)).model_fields)} for name in alternatives(type(self))}
            check_meaning(self, info, what, getattr(getattr(self, section), what), knobs)
        if (schedule := self.training.schedule) == "constant":
            ends = {"cosine and one-cycle": {"training": ("final_rate",)}}
            check_meaning(self, info, "schedule", schedule, ends)
        return self


def values_by_key(config: TrainingConfig) -> dict[str, Any]:
    """The values of all knobs but the transient ones, as JSON has them."""
    values = config.model_dump(mode="json")
    return {knob.key: look_up(values, knob.path) for knob in knobs_of(type(config)) if not knob.transient}


def recipe(config: TrainingConfig) -> dict[str, Any]:
    """What the result of a training depends on, by key; batch norm sees micro-batches."""
    values = values_by_key(config)
    return {key: value for key, value in values.items() if key not in RESUMABLE or key == "training.micro_batch"}


def differing(one: TrainingConfig, other: TrainingConfig) -> list[str]:
    """The keys that make two trainings different ones."""
    others = values_by_key(other)
    return [key for key, value in values_by_key(one).items() if key not in RESUMABLE and value != others[key]]
