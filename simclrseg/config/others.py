"""Configs of other tools behind ``--config``: read key by key, and said what became of each.

A file of this tool says ``command:``; any other is read here. What a file leaves open is as in the preset of the same
name, where there is one, else as by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simclrseg.config.files import PRESETS, presets_of
from simclrseg.config.other_keys import TRAININGS, Reading, dotted
from simclrseg.errors import UsageError
from simclrseg.knobs.knob import KeyPath, command_of, leaves, look_up, put, shown
from simclrseg.knobs.parsing import in_sections, read_config_file
from simclrseg.knobs.sections import Section
from simclrseg.registry import canonical


@dataclass
class Translated:
    """A config of another tool, in keys of this one.

    Attributes:
        tree: sections and keys.
        typed: what the file calls each key that it has under another name.
        notes: what was read as what, a line each.
        warnings: what has no counterpart, a line each.
    """

    tree: dict[str, Any]
    typed: dict[KeyPath, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def translate(model: type[Section], tree: Mapping[str, Any], path: Path) -> Translated:
    """Read the tree of a file that does not say which command it is for."""
    command, reading = command_of(model), Reading(model, leaves(tree))
    namesake = canonical(path.stem, PRESETS)
    if namesake in PRESETS and namesake not in presets_of(command):
        other = next(other for other in TRAININGS if namesake in presets_of(other))
        raise UsageError(
            f"{path} is named as the preset {namesake} for `simclrseg {other}`, not for `simclrseg {command}`",
            "give it another name if it is not",
            option="config",
            path=path,
        )
    reading.read()
    if not (reading.same or reading.read_as):
        first = next((name for name, _ in (*reading.unknown, *reading.needless)), "none")
        raise UsageError(
            f"{path} holds no key that {command} knows (its first is {first})",
            f"name a file with keys such as training.epochs; those of this tool begin with `command: {command}`",
            option="config",
            path=path,
        )
    if not (reading.read_as or reading.needless or reading.unknown):
        return Translated(reading.tree)  # in this tool's own words
    notes = [f"{path.name} has no `command:`, so that it is read as another tool's, for {command}"]
    if reading.same:
        notes.append(f"as they are: {', '.join(map(dotted, reading.same))}")
    notes += [f"{theirs} {shown(value)} is {ours}" for theirs, value, ours in reading.read_as]
    notes.append(_filled_in(reading.tree, model, namesake))
    notes += [f"no counterpart here for {keys}: {why}" for why, keys in _by_reason(reading.needless)]
    warnings = [f"{path.name}: left out {keys}: {why}" for why, keys in _by_reason(reading.unknown)]
    training = reading.tree.get("training") or {}
    if "learning_rate" in training and "optimizer" not in training:
        warnings.append(
            f"{path.name} gives a learning rate and names no optimizer: the default one is taken (--optimizer)"
        )
    return Translated(reading.tree, {key: f"{path}: {name}" for key, name in reading.typed.items()}, notes, warnings)


def _filled_in(tree: dict[str, Any], model: type[Section], name: str) -> str:
    """Fill in what the preset of the same name says more, and say so."""
    if name not in PRESETS:
        return "what it leaves open is as by default (--print-config shows all)"
    preset = in_sections(model, read_config_file(PRESETS[name], command_of(model)))
    added = []
    needless = set()
    if look_up(tree, ("training", "unfreeze")) == "head":  # of an encoder that stays as it is
        needless.add(("training", "encoder_lr_factor"))
    if look_up(tree, ("training", "schedule")) == "constant":
        needless.add(("training", "final_rate"))
    for path, value in leaves(preset).items():
        if path in needless:
            continue
        if look_up(tree, path) is None:
            put(tree, path, value)
            added.append(f"{dotted(path)} {shown(value)}")
    return f"what it leaves open is as in the preset {name}: {', '.join(added) or 'nothing'}"


def _by_reason(keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each reason, and the keys that share it."""
    found: dict[str, list[str]] = {}
    for key, why in keys:
        found.setdefault(why, []).append(key)
    return [(why, ", ".join(names)) for why, names in found.items()]
