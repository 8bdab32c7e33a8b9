"""Parts that begin to learn later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from simclrseg.engine import OPTIMIZERS
from simclrseg.engine.freezing import Freezing, Part
from simclrseg.errors import Interrupted
from tests.engine.small import Classification, Images, Scored, assert_same_run, network, train
from tests.observers import Watcher, stop_at


def frozen(model: nn.Sequential, *starts: float) -> Freezing:
    """First convolution and norm, and the second convolution, from their epochs."""
    return Freezing(model, [Part("all", list(model[:4]), starts[0]), Part("last", [model[3]], starts[-1])])


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


def test_a_part_inside_another_begins_on_its_own():
    model = network()
    freezing = frozen(model, 2, 1)
    seen = []
    for epoch in range(3):
        model.train()
        freezing.apply(epoch)
        seen.append([model[place].weight.requires_grad for place in (0, 1, 3, 7)])
        assert model[1].training == (epoch >= 2)
    assert seen == [[False, False, False, True], [False, False, True, True], [True, True, True, True]]


def test_a_frozen_part_keeps_its_weights_and_its_running_statistics(tmp_path):
    model = network(dropout=0.3)
    before = copied(model)
    train(tmp_path, task=Classification(model), freezing=frozen(model, math.inf))
    assert changed(model, before) == {"7.weight", "7.bias"}


def test_the_gradient_of_a_frozen_part_is_not_computed():
    model = network()
    model.train()
    frozen(model, math.inf).apply(0)
    kept: list[Tensor] = []
    images = torch.randn(4, 3, 8, 8)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        model(images).sum().backward()
    assert all(model[place].weight.grad is None for place in (0, 1, 3))
    assert max(tensor.numel() for tensor in kept) <= 4 * 8  # nothing larger than the pooled features


@pytest.mark.parametrize("optimizer", ["adam", "lars", "sgd"])
def test_a_frozen_part_has_no_state_in_the_optimizer_until_it_learns(tmp_path, optimizer):
    def states(freezing: Freezing, model: nn.Module) -> int:
        folder = tmp_path / str(freezing.parts[0].start)
        folder.mkdir()
        _, state = train(folder, task=Classification(model), freezing=freezing, optimizer=OPTIMIZERS[optimizer])
        return len(state.optimizer["state"])

    model = network()
    assert states(frozen(model, 3), model) == 2  # weight and bias of the head
    model = network()
    assert states(frozen(model, 2), model) == len(list(model.parameters()))


@pytest.mark.parametrize("step", [3, 4, 6, 8, 9])
def test_resuming_across_an_unfreezing_is_exact(tmp_path: Path, step: int) -> None:
    def run(folder: Path, observers: Sequence[Watcher] = ()) -> None:
        folder.mkdir(exist_ok=True)
        model = network(dropout=0.3)
        options = {"freezing": frozen(model, 2, 1), "optimizer": OPTIMIZERS["adam"], "clip": 1.0}
        train(folder, task=Classification(model), observers=tuple(observers), **options)

    run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", [stop_at(step=step)])
    run(tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("starts", "epochs"), [((3, 1), 5), ((1, 1), 3), ((math.inf, 1), 3), ((math.inf, math.inf), 3)]
)
def test_patience_begins_when_all_learns_that_ever_does(
    tmp_path: Path, starts: tuple[float, float], epochs: int
) -> None:
    task = Scored([0.9, *[0.1] * 7])
    options = {"validation": Images(2), "epochs": 8, "freezing": frozen(task.model, *starts)}
    result, _ = train(tmp_path, task=task, patience=2, **options)
    assert len(result.history) == epochs


def test_parameters_that_belong_to_no_module_are_frozen_too():
    model = network()
    model.token = nn.Parameter(torch.zeros(3))
    Freezing(model, [Part("tokens", [nn.ParameterList([model.token])], math.inf)]).apply(0)
    assert not model.token.requires_grad and model[0].weight.requires_grad


def test_a_module_that_was_replaced_by_another_of_its_name_is_frozen():
    model = network()
    freezing = frozen(model, math.inf)
    model[1] = nn.BatchNorm2d(8)  # as several processes do
    model.train()
    freezing.apply(0)
    assert not model[1].training and not model[1].weight.requires_grad
