"""The command line of a config, and of a smaller run for those whose run would take long."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from types import MappingProxyType
from typing import Any

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.knobs.knob import KeyPath, command_of, knobs_of, look_up, put
from simclrseg.training.knobs import LONG_RUN

SMALL_ENCODERS = ("resnet18", "cnn")
SMALLER = 0.5  # of the time at most that another encoder takes: ResNet-18 has less than half the work of ResNet-50
SMALL_SIZES = {"pretrain": 96, "finetune": 128}  # pixels
ALWAYS_SAID = ("data.dataset", "data.image_size", "training.epochs")
DECIDING = (("data", "augmentation"), ("training", "optimizer"), ("training", "schedule"))
"""Knobs that take a method's own defaults away from others, such as that of the learning rate."""


def suggested(config: PretrainConfig | FinetuneConfig, device: str) -> Callable[[float], str] | None:
    """What to suggest where a run takes long: on a ``cpu`` a smaller one, elsewhere nothing."""
    return partial(smaller_command, config) if device == "cpu" else None


def smaller_command(config: PretrainConfig | FinetuneConfig, seconds: float) -> str:
    """The command of a smaller run than this one of so many seconds: encoder and picture, then fewer epochs."""
    start = config.model.init if isinstance(config, PretrainConfig) else config.model.pretrained
    size = min(SMALL_SIZES[command_of(type(config))], config.data.image_size)
    expected = seconds * (size / config.data.image_size) ** 2
    changed: dict[KeyPath, Any] = {("data", "image_size"): size}
    if start in ("none", "imagenet") and config.model.backbone not in SMALL_ENCODERS:
        changed[("model", "backbone")] = SMALL_ENCODERS[0]
        if isinstance(config, FinetuneConfig):
            others = config.target.of_another_encoder()
            changed |= {(config.model.task, name): value for name, value in others.items()}
        expected *= SMALLER
    total = config.training.total_epochs
    epochs = min(total, max(1, int(total * LONG_RUN / expected)))
    changed[("training", "epochs")] = epochs
    if config.training.warmup_epochs is not None and config.training.warmup_epochs >= epochs:
        changed[("training", "warmup_epochs")] = None
    if isinstance(config, FinetuneConfig):
        changed[("training", "unfreeze_at")] = shares(config.training.unfreeze_at, total)
        changed[("consistency", "ramp")] = shares(config.consistency.ramp, total)
    return shlex.join(["simclrseg", *command_line(config, changed)])


def shares(ends: Sequence[float], total: int) -> tuple[float, ...]:
    """Moments of a run of so many epochs as shares of it, of which 1 would be an epoch."""
    return tuple(at if at < 1 else min(0.999, round(at / total, 3)) for at in ends)


def command_line(
    config: PretrainConfig | FinetuneConfig, changed: Mapping[KeyPath, Any] = MappingProxyType({})
) -> list[str]:
    """The words of a command for a config with some values changed: its name, and what differs from the defaults."""
    kind = "method" if isinstance(config, PretrainConfig) else "task"
    same = {"data": {"dataset": config.data.dataset}, "model": {kind: getattr(config.model, kind)}}
    own = {config.model.method: config.method} if isinstance(config, PretrainConfig) else {}
    same |= {name: knobs.model_dump() for name, knobs in own.items()}  # which may need a value that has no default
    values, words = config.model_dump(), [command_of(type(config))]
    decided = deepcopy(same)
    for path in DECIDING:
        put(decided, path, look_up(values, path))
    every_usual = [type(config).model_validate(tree).model_dump() for tree in (same, decided)]
    for usual in every_usual:
        usual |= {name: type(knobs)().model_dump() for name, knobs in own.items()}  # some have defaults of their own
        usual["model"][kind] = type(config.model).model_fields[kind].default
    for knob in knobs_of(type(config)):
        value = changed.get(knob.path, look_up(values, knob.path))
        is_usual = all(value == look_up(usual, knob.path) for usual in every_usual)
        if knob.key in ALWAYS_SAID or not (knob.transient or is_usual):
            words += knob.typed(value)
    return words
