"""LARS against its formula, and which parameters are decayed."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from simclrseg.engine import OPTIMIZERS
from simclrseg.engine.optimizers import LARS, add_scaled, parameter_groups, sgd, stage_scales


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.GroupNorm(2, 6), nn.Linear(6, 5))


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_biases_and_norm_layers_are_neither_decayed_nor_adapted() -> None:
    model = network()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, rest = parameter_groups(model, 0.1)
    assert [names[id(p)] for p in decayed["params"]] == ["0.weight", "2.weight", "4.weight"]
    assert {names[id(p)] for p in rest["params"]} == set(names.values()) - {"0.weight", "2.weight", "4.weight"}
    assert (decayed["weight_decay"], decayed["adapt"]) == (0.1, True)
    assert (rest["weight_decay"], rest["adapt"]) == (0.0, False)


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("vit_tiny_patch16_224", {"cls_token", "pos_embed"}),
        ("tiny_vit_5m_224", {"attention_biases"}),
        ("swin_tiny_patch4_window7_224", {"relative_position_bias_table"}),
    ],
)
def test_tokens_positions_and_biases_of_attention_are_not_decayed(name: str, spared: set[str]) -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({"encoder": timm.create_model(name)})
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, rest = parameter_groups(model, 0.1)
    assert spared == {names[p].rpartition(".")[2] for p in rest["params"] if p.ndim > 1}
    assert all(names[p].endswith("weight") for p in decayed["params"])


def test_frozen_parameters_are_in_no_group() -> None:
    model = network()
    model[0].requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.1)) == 8


@pytest.mark.parametrize("weight_decay", [0.0, 1e-4])  # without decay weights are adapted all the same
def test_lars_follows_its_formula(weight_decay: float) -> None:
    model = network()
    optimizer = LARS(parameter_groups(model, weight_decay), learning_rate=0.3, weight_decay=weight_decay)
    expected = [parameter.detach().double() for parameter in model.parameters()]
    momentum = [torch.zeros_like(value) for value in expected]
    for step, rate in enumerate([0.3, 0.5, 0.1]):
        give_gradients(model, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        for i, parameter in enumerate(model.parameters()):
            gradient, scaled = parameter.grad.double(), rate
            if parameter.ndim > 1:
                gradient = gradient + weight_decay * expected[i]
                scaled = rate * 0.001 * float(expected[i].norm() / gradient.norm())
            momentum[i] = 0.9 * momentum[i] + scaled * gradient
            expected[i] = expected[i] - momentum[i]
            torch.testing.assert_close(parameter.detach().double(), expected[i], rtol=1e-5, atol=1e-7)


def test_lars_adapts_to_the_gradient_with_its_weight_decay() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))  # ‖w‖ = 5
    weight.grad = torch.tensor([[1.5, -4.0]])
    # d = g + 0.5·w = (3, -2); w - 1000·0.001·‖w‖/‖d‖·d
    LARS([{"params": [weight]}], learning_rate=1000.0, weight_decay=0.5).step()
    ratio = 5 / math.sqrt(13)
    torch.testing.assert_close(weight.detach(), torch.tensor([[3 - 3 * ratio, 4 + 2 * ratio]]))


def test_lars_takes_the_plain_rate_where_a_norm_is_zero() -> None:
    zero = nn.Parameter(torch.zeros(2, 2))
    still = nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([{"params": [zero, still]}], learning_rate=0.5).step()
    assert torch.equal(zero, torch.full((2, 2), -0.5))
    assert torch.equal(still, torch.ones(2, 2))


def test_the_update_of_lars_is_the_same_on_a_device_that_is_not_waited_for() -> None:
    directions, rates = [torch.randn(3, 4), torch.randn(5)], torch.tensor([0.3, 0.007])
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), unbind=rates.unbind)
    for where in (rates, on_gpu):
        buffers = [torch.ones(3, 4), torch.zeros(5)]
        add_scaled(buffers, directions, where)
        torch.testing.assert_close(buffers, [1 + 0.3 * directions[0], 0.007 * directions[1]])


def test_sgd_has_momentum_and_is_not_nesterovs() -> None:
    parameter = nn.Parameter(torch.zeros(1, 1))
    optimizer = sgd([{"params": [parameter]}], learning_rate=1.0)
    for _ in range(2):
        parameter.grad = torch.ones(1, 1)
        optimizer.step()
    assert parameter.item() == pytest.approx(-(1 + 1.9))


def test_momentum_of_sgd_begins_at_0_where_its_first_step_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: torch.full_like(*a, fill_value=1e30, **k))  # dirty memory
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = sgd([{"params": [parameter]}], learning_rate=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    for gradient in (math.inf, 1.0):
        scaler.scale(torch.zeros(()))
        parameter.grad = torch.full((2, 2), gradient)
        scaler.step(optimizer)
        scaler.update()
    assert parameter.detach().flatten().tolist() == [-2.0] * 4  # the scale is a half by now


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_takes_channels_last_weights_and_restores_its_state(name: str) -> None:
    model = network().to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[name](parameter_groups(model, 0.01), learning_rate=0.1, weight_decay=0.01)
    images = torch.randn(2, 3, 8, 8)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model[:4](images).sum().backward()
    optimizer.step()
    assert not torch.equal(before[0], model[0].weight)
    again = OPTIMIZERS[name](parameter_groups(model, 0.01), learning_rate=0.1, weight_decay=0.01)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twin = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.step()
    after = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), twin, strict=True):
            parameter.copy_(value)
    again.step()
    assert all(torch.equal(a, b) for a, b in zip(after, model.parameters(), strict=True))


def test_each_stage_of_an_encoder_learns_slower_than_the_one_above_it():
    stages = [[nn.Linear(2, 2)], [nn.Linear(2, 2), nn.Linear(2, 2)], [nn.Linear(2, 2)]]
    scales = stage_scales(stages, encoder_factor=0.5, layer_factor=0.1)
    assert [scales[stage[-1].weight] for stage in stages] == pytest.approx([0.5e-3, 0.5e-2, 0.5e-1])
    assert len(scales) == 8


def test_parameters_with_a_rate_of_their_own_form_their_own_groups():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    groups = parameter_groups(model, 0.1, scales=dict.fromkeys(model[0].parameters(), 0.25))
    found = {id(p): (g["lr_scale"], g["weight_decay"], g["adapt"]) for g in groups for p in g["params"]}
    assert found == {
        id(model[0].weight): (0.25, 0.1, True),
        id(model[0].bias): (0.25, 0.0, False),
        id(model[1].weight): (1.0, 0.1, True),
        id(model[1].bias): (1.0, 0.0, False),
    }
