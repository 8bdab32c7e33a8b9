"""Checks that what a file holds fits what it is to become: the same keys, types and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_origin, get_type_hints

from torch import Tensor
from torch.optim import Optimizer


class Misfit(Exception):
    """A value that does not fit; the message says why."""


def require_fit(stored: Any, own: Any, name: str) -> None:
    """Raise Misfit where a stored value differs, down to the leaves, from the one whose place it is to take.

    Args:
        own: a mapping for its keys, a tensor for its shape, a type for its values, anything else for its type.
    """
    if isinstance(own, Mapping) and isinstance(stored, Mapping):
        if lacking := [key for key in own if key not in stored]:
            raise Misfit(f"{name} lacks {lacking[0]}")
        if strange := [key for key in stored if key not in own]:
            raise Misfit(f"{name} has {strange[0]}, which does not belong there")
        for key, value in own.items():
            require_fit(stored[key], value, f"{name}.{key}")
    elif isinstance(own, Tensor) and isinstance(stored, Tensor):
        if stored.shape != own.shape:
            raise Misfit(f"{name} is {tuple(stored.shape)}, and should be {tuple(own.shape)}")
    elif not isinstance(stored, own if isinstance(own, type | UnionType) else type(own)):
        raise Misfit(f"{name} is of type {type(stored).__name__}")


def kinds(of: type) -> dict[str, Any]:
    """The types of a dataclass's fields by their names, as ``require_fit`` takes them."""
    return {name: get_origin(kind) or kind for name, kind in get_type_hints(of).items()}


def require_numbers(stored: Any, name: str) -> None:
    """Raise Misfit unless it is a dict of numbers."""
    require_fit(stored, dict.fromkeys(stored, int | float) if isinstance(stored, dict) else {}, name)


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer the state of one that was built alike, of which torch looks at little."""
    require_fit(state, {"state": dict, "param_groups": list}, "optimizer")
    stored = [group.get("params") if isinstance(group, dict) else None for group in state["param_groups"]]
    numbers = [len(params) if isinstance(params, list) else 0 for params in stored]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if numbers != own:
        raise Misfit(f"optimizer has groups of {numbers} parameters, and should have {own}")
    parameters = dict(enumerate(parameter for group in optimizer.param_groups for parameter in group["params"]))
    require_fit(state["state"], dict.fromkeys(parameters.keys() & state["state"].keys(), dict), "optimizer.state")
    for number, values in state["state"].items():
        shaped = {key: isinstance(value, Tensor) and value.ndim > 0 for key, value in values.items()}
        expected = {key: parameters[number] if tensor else object for key, tensor in shaped.items()}
        require_fit(values, expected, f"optimizer.state.{number}")
    needed = set(optimizer.defaults)  # loading adds to them, and gives the groups what newer versions of torch have
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        if lacking := sorted(needed - group.keys()):
            raise Misfit(f"optimizer lacks {lacking[0]}")
