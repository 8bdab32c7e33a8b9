"""What `--unfreeze` makes of the number of epochs, and what is said of it."""

from __future__ import annotations

import logging
from itertools import chain

import pytest
from torch import nn

from simclrseg.config.finetune import FinetuneConfig
from simclrseg.errors import UsageError
from simclrseg.knobs.parsing import parse_config
from simclrseg.models.backbones import build_backbone, stages
from simclrseg.training.knobs import FinetuneTraining
from simclrseg.training.unfreezing import freezing_of


def progressive(epochs: int, *at: float) -> FinetuneTraining:
    return FinetuneTraining(epochs=epochs, unfreeze="progressive", **({"unfreeze_at": at} if at else {}))


def learning(training: FinetuneTraining) -> str:
    """A letter an epoch for what learns: the head, the encoder's last stage too, all; ! for anything else."""
    model = nn.ModuleDict({"encoder": build_backbone("cnn"), "head": nn.Linear(512, 2)})
    freezing = freezing_of(training, model, model["encoder"])
    assert freezing is not None
    *others, last = stages(model["encoder"])
    letters = ""
    for epoch in range(training.total_epochs):
        model.train()
        freezing.apply(epoch)
        (first,), (second,) = (
            {parameter.requires_grad for module in part for parameter in module.parameters()}
            for part in (chain(*others), last)
        )
        letters += {(False, False): "h", (False, True): "s", (True, True): "a"}[first, second]
        assert model["head"].weight.requires_grad
    return letters


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [
        (1, "a"),
        (2, "ha"),
        (3, "hsa"),
        (4, "hsaa"),
        (5, "hsaaa"),
        (6, "hsaaaa"),
        (7, "hsaaaaa"),
        (8, "hsaaaaaa"),
        (9, "hsaaaaaaa"),
        (10, "hsaaaaaaaa"),
        (11, "hsaaaaaaaaa"),
        (12, "hsaaaaaaaaaa"),
        (20, "hhss" + 16 * "a"),
    ],
)
def test_each_step_of_progressive_has_an_epoch_where_there_are_three(epochs, steps):
    assert learning(progressive(epochs)) == steps


@pytest.mark.parametrize(
    ("at", "epochs", "steps"),
    [
        ((0.5, 0.9), 3, "hsa"),
        ((0.5, 0.9), 4, "hhsa"),
        ((0.2, 0.2), 3, "haa"),
        ((0, 0.5), 4, "ssaa"),
        ((0, 0), 2, "aa"),
        ((1, 2), 3, "hsa"),
        ((2, 4), 6, "hhssaa"),
        ((0.5, 4), 6, "hhhsaa"),
        ((2, 0.9), 4, "hhsa"),
    ],
)
def test_steps_come_when_they_are_asked_for(at, epochs, steps):
    assert learning(progressive(epochs, *at)) == steps


@pytest.mark.parametrize(
    ("training", "level", "line"),
    [
        (progressive(1), "WARNING", "everything learns from epoch 1: too few epochs for the 3 steps of"),
        (progressive(2), "WARNING", "all but the encoder learns from epoch 1, everything from epoch 2: too few epochs"),
        (
            progressive(3),
            "INFO",
            "all but the encoder learns from epoch 1, the encoder's last stage from epoch 2, everything from epoch 3",
        ),
        (progressive(2, 0.5, 0.5), "INFO", "all but the encoder learns from epoch 1, everything from epoch 2"),
        (
            progressive(4, 0, 2),
            "INFO",
            "all but the encoder's first stages learns from epoch 1, everything from epoch 3",
        ),
        (
            FinetuneTraining(unfreeze="head", epochs=3),
            "INFO",
            "the encoder stays frozen and computes as in evaluation; all else learns",
        ),
    ],
)
def test_what_is_said_is_what_happens(caplog, training, level, line):
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        learning(training)
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith(line) and ("too few" in line or record.getMessage() == line)


@pytest.mark.parametrize(
    ("at", "says"),
    [([5, 2], "must not come first"), ([0.3, 0.2], "must not come first"), ([1, 10], "before the end")],
)
@pytest.mark.parametrize("epochs", [3, 10])
def test_steps_that_cannot_be_are_refused_with_ones_that_can(at, says, epochs):
    training = {"unfreeze": "progressive", "unfreeze_at": at, "epochs": epochs}
    with pytest.raises(UsageError, match=f"{says}.*such as 0.1 0.2"):
        parse_config(FinetuneConfig, {"training": training})


def test_a_share_of_an_epoch_is_no_number_of_epochs():
    training = {"unfreeze": "progressive", "unfreeze_at": [1, 2.5], "epochs": 10}
    with pytest.raises(UsageError, match="nor a whole number of epochs"):
        parse_config(FinetuneConfig, {"training": training})


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"unfreeze_at": [2, 4]}, "unfreeze_at is for unfreeze progressive .* give 0.1 0.2"),
        ({"unfreeze": "head", "unfreeze_at": [2, 4]}, "unfreeze_at is for unfreeze progressive"),
        ({"unfreeze": "head", "encoder_lr_factor": 0.1}, "encoder_lr_factor is for unfreeze all and progressive"),
        ({"unfreeze": "head", "layer_lr_factor": 0.5}, "no meaning for unfreeze head: leave it out"),
    ],
)
def test_a_rate_or_a_time_for_what_never_begins_to_learn_is_refused(training, says):
    with pytest.raises(UsageError, match=says):
        parse_config(FinetuneConfig, {"training": training})
    assert parse_config(FinetuneConfig, {"training": training}, of_a_run=True)  # older runs can be read
