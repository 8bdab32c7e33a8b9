"""A config as a YAML file that explains itself: what ``--print-config`` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel

from simclrseg.knobs.files import stored_knobs, stored_values
from simclrseg.knobs.knob import KeyPath, Knob, command_of, look_up

WIDTH = 100  # columns of a comment


def explained_config(config: BaseModel, *, missing: Collection[KeyPath] = ()) -> str:
    """Every key of a config with its value and what it means, as a YAML file that ``--config`` takes.

    Args:
        missing: keys that have no value yet; their lines are comments.
    """
    command = command_of(type(config))
    return "\n".join([f"# simclrseg {command} --config FILE", f"command: {command}", *_lines(config, missing)]) + "\n"


def _lines(config: BaseModel, missing: Collection[KeyPath]) -> Iterator[str]:
    values = stored_values(config)
    section: str | None = None
    for knob in stored_knobs(config):
        if knob.path[0] != section:
            section = knob.path[0]
            yield from ("", f"{section}:  # {knob.panel}")
        text = f"{knob.help} {knob.metavar.replace('|none>', '|null>')}"
        lines = textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False)
        yield from (f"  # {line}" for line in lines)
        if knob.path in missing:
            yield f"  # {knob.name}:"
        else:
            yield f"  {_assignment(knob, look_up(values, knob.path))}"


def _assignment(knob: Knob, value: Any) -> str:
    import yaml

    text = yaml.safe_dump({knob.name: value}, default_flow_style=None, allow_unicode=True, width=float("inf"))
    return text.removeprefix("{").removesuffix("}\n").rstrip()
