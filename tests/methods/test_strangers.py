"""The strangers' methods are what their papers say: each against its definition, spelled out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from tests.methods.small import make_task, one_batch


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def spelled_out_vicreg(embeddings: Tensor, *, invariance: float, variance: float, covariance: float) -> float:
    total = invariance * mean([(a - b) ** 2 for pair in embeddings.tolist() for a, b in zip(*pair, strict=True)])
    for view in embeddings.unbind(1):
        columns = view.T.tolist()
        centred = [[value - mean(column) for value in column] for column in columns]
        size, features = len(view), len(columns)

        def product(i: int, j: int, centred: list[list[float]] = centred, size: int = size) -> float:
            return sum(a * b for a, b in zip(centred[i], centred[j], strict=True)) / (size - 1)

        hinges = [max(0.0, 1 - math.sqrt(product(i, i) + 1e-4)) for i in range(features)]
        total += variance * mean(hinges) / 2
        apart = [product(i, j) ** 2 for i in range(features) for j in range(features) if i != j]
        total += covariance * sum(apart) / features
    return total


def test_vicreg_is_its_definition() -> None:
    weights = {"invariance": 3.0, "variance": 5.0, "covariance": 2.0}
    task = make_task("vicreg", **weights)
    embeddings = torch.randn(7, 2, 5, dtype=torch.float64) * torch.tensor([0.1, 0.5, 1, 2, 3])
    loss, logs = task.batch_loss(embeddings, 0)
    assert loss.item() == pytest.approx(spelled_out_vicreg(embeddings, **weights), rel=1e-12)
    assert float(logs["variance"]) > 0


def test_byol_is_its_definition() -> None:
    task, batch = make_task("byol"), one_batch("byol", 5)
    task.after_step(0, 4)
    for parameter in task.teacher.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))  # no longer the student's
    task.train(False)
    loss, logs = task.training_loss(batch)
    first, second = (task.normalize(batch["image"][:, view]) for view in range(2))
    total = 0.0
    for one, other in ((first, second), (second, first)):
        predictions = task.model.predictor(task.model.student(one)).double().tolist()
        answers = task.model.teacher(other).double().tolist()
        for prediction, answer in zip(predictions, answers, strict=True):
            lengths = [math.sqrt(sum(value**2 for value in vector)) for vector in (prediction, answer)]
            total += sum((p / lengths[0] - a / lengths[1]) ** 2 for p, a in zip(prediction, answer, strict=True))
    assert loss.item() == pytest.approx(total / 5, rel=1e-5)
    assert float(logs["agreement"]) == pytest.approx(1 - total / 5 / 4, rel=1e-4)


def test_byols_teacher_is_the_average_of_its_student_that_slows_down_to_the_end() -> None:
    task = make_task("byol", teacher_decay=0.9)
    expected = [parameter.double() for parameter in task.teacher.parameters()]
    start = copy.deepcopy(expected)
    for step in range(5):
        with torch.no_grad():
            for parameter in task.model.student.parameters():
                parameter.add_(torch.randn_like(parameter))
            task.after_step(step, 4)
        decay = 1 - 0.1 * (math.cos(math.pi * step / 4) + 1) / 2
        for place, parameter in enumerate(task.model.student.parameters()):
            expected[place] = decay * expected[place] + (1 - decay) * parameter.double()
    for parameter, value, first in zip(task.teacher.parameters(), expected, start, strict=True):
        torch.testing.assert_close(parameter.double(), value.detach(), rtol=1e-5, atol=1e-6)
        assert not torch.equal(value, first)
