"""A teacher follows in after_step, and is no part of anything else but the state."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.engine.batch_norm import SynchronizedBatchNorm, synchronized
from simclrseg.engine.footprint import measure_footprint
from simclrseg.engine.gradients import Passes
from simclrseg.engine.optimizers import adamw, parameter_groups
from simclrseg.engine.task import Batch, Logs
from tests.engine.small import CPU, Classification, Images, accuracy, network, pixels, train


class Taught(Classification):
    """A student learns from labels and from its teacher, which is the mean of its past; a queue counts the steps."""

    def __init__(self) -> None:
        student = network(dropout=0.3)
        teacher = copy.deepcopy(student).requires_grad_(False)
        super().__init__(nn.ModuleDict({"student": student, "teacher": teacher}))
        self.model.register_buffer("queue", torch.zeros(12))
        self.teacher = teacher
        self.seen: list[tuple[int, int]] = []

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        assert self.model["student"].training and not self.teacher.training
        logits, target = self.model["student"](pixels(batch)), self.teacher(pixels(batch))
        loss = F.cross_entropy(logits, batch["label"]) + F.cross_entropy(logits, target.softmax(1))
        return loss, {"accuracy": accuracy(logits, batch)}

    def evaluate(self, batches):
        assert not self.model.training
        return {"accuracy": sum(accuracy(self.model["student"](pixels(b)), b).item() for b in batches)}

    def after_step(self, step: int, steps: int) -> None:
        self.seen.append((step, steps))
        self.model.queue[step] = step + 1
        for theirs, ours in zip(self.teacher.parameters(), self.model["student"].parameters(), strict=True):
            theirs.lerp_(ours, 0.5)


def test_it_is_told_of_each_step_and_the_state_holds_what_it_did(tmp_path: Path) -> None:
    task = Taught()
    before = task.teacher[0].weight.clone()
    _, state = train(tmp_path, task=task, validation=Images(2), keep="last", average=0.9)
    assert task.seen == [(step, 12) for step in range(12)]
    assert not torch.equal(state.model["teacher.0.weight"], before)
    assert state.model["queue"].tolist() == list(range(1, 13))
    # the average has taken the place of the student's weights, and left the teacher's alone
    assert state.average and not any(name.startswith("teacher.") for name in state.average)
    assert torch.equal(task.teacher[0].weight, state.model["teacher.0.weight"])
    assert torch.equal(task.model["student"][0].weight, state.average["student.0.weight"])


def test_it_is_not_optimized() -> None:
    task = Taught()
    optimizer = adamw(parameter_groups(task.model, 0.1), learning_rate=0.1, weight_decay=0.1)
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in task.model["student"].parameters()}


def test_its_batch_norm_is_not_synchronized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    task = Taught()
    with synchronized(task.model, task.teacher):
        assert isinstance(task.model["student"][1], SynchronizedBatchNorm)
        assert not isinstance(task.teacher[1], SynchronizedBatchNorm)


def test_it_computes_as_in_evaluation_while_memory_is_measured() -> None:
    fields = {"image": ((8, 8, 3), np.uint8), "label": ((), np.int64)}
    measure_footprint(Taught(), fields, batch_size=4, passes=Passes(CPU, "fp32", 0))  # its loss looks at the modes
