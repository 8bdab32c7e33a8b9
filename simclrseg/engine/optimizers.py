"""Optimizers: parameter groups, LARS, and torch's own under one signature.

To add one: a function of (groups, learning_rate, weight_decay) and its line in OPTIMIZERS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def parameter_groups(
    model: nn.Module, weight_decay: float, *, scales: Mapping[nn.Parameter, float] | None = None
) -> list[dict[str, Any]]:
    """Split parameters into weights and the rest, which is not decayed.

    The rest are biases and the scales of norm layers, which have at most one axis, and what a network of timm's names
    itself: tokens, positions and biases of attention. LARS does not adapt it either (``adapt``), whatever the weight
    decay is. Parameters that learn at another rate have groups of their own.

    Args:
        scales: factors of the learning rate (``lr_scale``), 1 for parameters that are not named.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    spared = _spared(model)
    weights = {parameter for parameter in parameters if parameter.ndim > 1 and parameter not in spared}
    for parameter in sorted(parameters, key=lambda parameter: parameter not in weights):  # weights first
        scale, weight = (scales or {}).get(parameter, 1.0), parameter in weights
        group = {"params": [], "weight_decay": weight_decay if weight else 0.0, "adapt": weight, "lr_scale": scale}
        groups.setdefault((scale, weight), group)["params"].append(parameter)
    return list(groups.values())


def _spared(model: nn.Module) -> set[nn.Parameter]:
    """What the networks within a model say is not to be decayed, by timm's ``no_weight_decay``."""
    spared: set[nn.Parameter] = set()
    for module in model.modules():
        if callable(named := getattr(module, "no_weight_decay", None)):
            parameters = dict(module.named_parameters())
            spared |= {parameters[name] for name in named() if name in parameters}
    return spared


def stage_scales(
    stages: Sequence[Sequence[nn.Module]], *, encoder_factor: float, layer_factor: float
) -> dict[nn.Parameter, float]:
    """Factors of an encoder's learning rate: ``encoder_factor`` times ``layer_factor`` once for each stage down.

    Layers near the pixels are the more general ones and should change less (Howard & Ruder 2018, §3.2). Stages go from
    the first layers to the last, which is one below the head, whose factor is 1.
    """
    return {
        parameter: encoder_factor * layer_factor**depth
        for depth, stage in enumerate(reversed(stages), start=1)
        for module in stage
        for parameter in module.parameters()
    }


Groups = Iterable[dict[str, Any]]


def sgd(groups: Groups, *, learning_rate: float, weight_decay: float = 0.0) -> Optimizer:
    """SGD with momentum 0.9, not Nesterov's."""
    return _SGD(groups, lr=learning_rate, momentum=0.9, weight_decay=weight_decay, fused=True)


def adam(groups: Groups, *, learning_rate: float, weight_decay: float = 0.0) -> Optimizer:
    """Adam; weight decay is part of the gradient."""
    return torch.optim.Adam(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)


def adamw(groups: Groups, *, learning_rate: float, weight_decay: float = 0.0) -> Optimizer:
    """AdamW; weight decay is apart from the gradient."""
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)


class _SGD(torch.optim.SGD):
    """torch's, with a momentum that begins at 0.

    The fused kernel fails where parameters of a group join after others, and where the first step is skipped, as of an
    infinite gradient under fp16, it leaves the momentum to what the memory held.
    """

    def step(self) -> None:  # type: ignore[override]  # nobody gives a closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and self.state[parameter].get("momentum_buffer") is None:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        super().step()


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017) as in SimCLR's tf2/lars_optimizer.py.

    For a weight w with gradient g: d = g + weight_decay·w, v = momentum·v + (lr·η·‖w‖/‖d‖)·d, w = w - v. The
    learning rate is inside v. In a group without ``adapt``, or where a norm is 0, the factor is lr. Momentum is 0.9; η,
    the trust coefficient, is 0.001.
    """

    def __init__(self, groups: Groups, *, learning_rate: float, weight_decay: float = 0.0) -> None:
        defaults = {"lr": learning_rate, "momentum": 0.9, "weight_decay": weight_decay, "eta": 0.001, "adapt": True}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        directions = [parameter.grad for parameter in parameters if parameter.grad is not None]  # d
        if group["weight_decay"]:
            directions = list(torch._foreach_add(directions, parameters, alpha=group["weight_decay"]))
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]  # v
        torch._foreach_mul_(buffers, group["momentum"])
        if group["adapt"]:
            weights = torch.stack(torch._foreach_norm(parameters))  # ‖w‖, which stay on the device
            updates = torch.stack(torch._foreach_norm(directions))  # ‖d‖
            ratios = torch.where((weights > 0) & (updates > 0), group["eta"] * weights / updates, 1.0)
            add_scaled(buffers, directions, group["lr"] * ratios)
        else:
            torch._foreach_add_(buffers, directions, alpha=group["lr"])
        torch._foreach_sub_(parameters, buffers)


def add_scaled(buffers: list[Tensor], directions: list[Tensor], rates: Tensor) -> None:
    """Add each direction times its rate, in place."""
    if rates.device.type == "cpu":  # nothing to wait for: read the rates, and save a pass over the memory
        for buffer, direction, rate in zip(buffers, directions, rates.tolist(), strict=True):
            buffer.add_(direction, alpha=rate)
    else:
        torch._foreach_add_(buffers, torch._foreach_mul(directions, list(rates.unbind())))
