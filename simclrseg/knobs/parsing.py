"""Configs in files: read with one line for each wrong value, and written so that they can be read again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from simclrseg.errors import RunError, UsageError
from simclrseg.knobs.knob import KeyPath, Knob, command_of, knobs_of, look_up, put
from simclrseg.knobs.sections import Section, alternatives
from simclrseg.knobs.values import BEGUN_IN, OF_A_RUN
from simclrseg.registry import canonical
from simclrseg.runs.run import Run
from simclrseg.system.content import BadContent, read_yaml

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Other = Callable[[dict[str, Any], Path], dict[str, Any]]
Config = TypeVar("Config", bound=Section)


def read_config_file(path: Path, command: str, *, other: Other | None = None) -> dict[str, Any]:
    """Sections of keys of a YAML file, not yet checked, without ``command``.

    Args:
        command: the command it is read for; every file of ours says which one it is for.
        other: reads the tree of a file that does not say it; None where none is expected.
    """
    wrong = partial(UsageError, path=path, option="config")
    try:
        tree = read_yaml(path)
    except BadContent as error:
        raise wrong(error.of(path)) from error
    except OSError as error:
        raise wrong(f"{path} cannot be read: {error.strerror}") from error
    if tree is not None and not isinstance(tree, dict):
        raise wrong(f"{path} must hold sections of keys, such as `data:` and below it `image_size: 224`")
    if tree and "command" not in tree and other is not None:
        return other(tree, path)
    if not tree:
        raise wrong(f"{path} holds no keys", "write some, such as `data:` and below it `image_size: 224`")
    if "command" not in tree:
        remedy = f"one for `simclrseg {command}` has the line `command: {command}`"
        raise wrong(f"{path} does not say which command it is for", remedy)
    if (meant_for := tree.pop("command")) != command:
        raise wrong(f"{path} is for `simclrseg {meant_for}`, not for `simclrseg {command}`")
    return tree


def parse_config_file(model: type[Config], path: Path) -> Config:
    """Read a YAML file; the data that it names need not be there."""
    return parse_config(model, read_config_file(path, command_of(model)), source=str(path), of_a_run=True)


def dump_config(config: Section) -> str:
    """A config as a YAML file that ``--config`` takes; transient knobs are left out."""
    import yaml

    tree = {"command": command_of(type(config)), **stored_values(config)}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def stored_values(config: Section) -> dict[str, Any]:
    """Values by section and key, of the stored knobs."""
    values = config.model_dump(mode="json")
    tree: dict[str, Any] = {}
    for knob in stored_knobs(config):
        put(tree, knob.path, look_up(values, knob.path))
    return tree


def stored_knobs(config: Section) -> list[Knob]:
    """All but the transient ones and those of what was not chosen.

    A package that brings such a section may be gone when the values are read.
    """
    chosen = look_up(config.model_dump(), config.CHOICE or ())
    others = {name for name in alternatives(type(config)) if name != chosen}
    return [knob for knob in knobs_of(type(config)) if not knob.transient and knob.path[0] not in others]


def config_of_run(model: type[Config], folder: Path) -> Config:
    """The config that a run was made with, whose data may have gone since; RunError if the folder holds none."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise RunError(
            f"{folder} holds no config.yaml, so that nobody knows what the run was", "name another run", path=folder
        )
    tree = read_config_file(file, command_of(model))
    return parse_config(model, tree, source=str(file), of_a_run=True, begun_in=Run(folder).begun_in)


def parse_config(
    model: type[Config],
    tree: dict[str, Any],
    *,
    source: str = "",
    given: Mapping[KeyPath, Any] | None = None,
    names: Mapping[KeyPath, str] | None = None,
    of_a_run: bool = False,
    begun_in: Path | None = None,
) -> Config:
    """Build a config from the sections and keys of a file and the values of the command line.

    Args:
        source: the file that the tree came from, for messages.
        given: values of the command line; they win.
        names: what was typed for them, where it is not the flag.
        of_a_run: the tree is what a run was made with, and folders and files that it names need not exist any more.
        begun_in: the folder that the run was begun in, where it is known.

    Raises:
        UsageError: one line that names each wrong key or flag, says what is allowed and offers the nearest name.
    """
    given = given or {}
    knobs = {knob.path: knob for knob in knobs_of(model)}
    merged = in_sections(model, tree, source=source)
    for path, knob in knobs.items():
        if path in given:
            put(merged, path, given[path])
        elif knob.values.many and isinstance(value := look_up(merged, path), str):
            put(merged, path, [value])  # `dataset: shapes` is a list of one
        if (value := look_up(merged, path)) is not None:
            put(merged, path, knob.values.canonical(value))
        for depth in range(1, len(path)):
            if look_up(merged, path[:depth]) is None:
                put(merged, path[:depth], {})  # a section without keys, so that a missing key is named
    try:
        return model.model_validate(merged, context={OF_A_RUN: of_a_run, BEGUN_IN: begun_in})
    except ValidationError as error:
        typed = {path: knobs[path].flag for path in given} | dict(names or {})
        problems = _problems(error, knobs, source, typed)
        first = problems[0]
        raise UsageError("; ".join(map(str, problems)), option=first.option, value=first.value) from error


def chosen_knobs(model: type[Section], *values: Mapping[str, Any]) -> dict[str, Knob]:
    """Every knob by its name; where several alternatives have one of that name, that of the one that is chosen.

    Args:
        values: by name of the knob; the first that holds a choice is right, else the default is.
    """
    chosen = _chosen(model, *values)
    knobs: dict[str, Knob] = {}
    for knob in knobs_of(model):
        if knob.name not in knobs or knob.path[0] == chosen:
            knobs[knob.name] = knob
    return knobs


def of_another_choice(model: type[Section], *values: Mapping[str, Any]) -> set[str]:
    """The names of knobs that mean nothing for what is chosen, as the loss does for another task.

    Args:
        values: as for ``chosen_knobs``.
    """
    others = {name for name in alternatives(model) if name != _chosen(model, *values)}
    return {name for name, knob in chosen_knobs(model, *values).items() if knob.path[0] in others}


def _chosen(model: type[Section], *values: Mapping[str, Any]) -> str | None:
    """The alternative that is chosen; None for a model without any."""
    if model.CHOICE is None:
        return None
    default = next(knob.info.get_default() for knob in knobs_of(model) if knob.path == model.CHOICE)
    names = alternatives(model)
    words = (canonical(str(some.get(model.CHOICE[1])), names) for some in values)
    return next((word for word in words if word in names), default)


def choices(model: type[Section], tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section of a file that holds the choice between alternatives."""
    found = tree.get(model.CHOICE[0]) if model.CHOICE else None
    return found if isinstance(found, Mapping) else {}


def in_sections(model: type[Section], tree: Mapping[str, Any], *, source: str = "") -> dict[str, Any]:
    """A copy with keys of older files where they belong now, and keys that stand in no section in theirs."""
    copy = deepcopy(dict(tree))
    for old, new in model.MOVED.items():
        section, _, name = old.partition(".")
        if isinstance(copy.get(section), dict) and name in copy[section]:
            put(copy, tuple(new.split(".")), copy[section].pop(name))
    names = {knob.name for knob in knobs_of(model)}
    for key in [key for key in copy if key not in model.model_fields and key in names]:
        knob = key_of(model, key, copy, choices(model, copy), source=f"{source}: {key}" if source else key)
        put(copy, knob.path, copy.pop(key))
    return copy


def key_of(model: type[Section], key: str, *values: Mapping[str, Any], source: str) -> Knob:
    """The knob of a key, ``training.epochs``, or ``epochs`` where one section has it or that of the chosen alternative.

    Args:
        values: which alternative is chosen, as for ``chosen_knobs``.
        source: what messages begin with.
    """
    knobs = {knob.path: knob for knob in knobs_of(model)}
    path = tuple(model.MOVED.get(key, key).split("."))
    if path in knobs:
        return knobs[path]
    if path[0] in model.model_fields and len(path) == 1:
        first = next(knob.key for knob in knobs.values() if knob.path[0] == key)
        raise UsageError(f"{source}: is a section", f"name one of its keys, as {first}", option=key)
    named = [knob for knob in knobs.values() if knob.name == key]
    if not named:
        raise UsageError(f"{source}: no such key", _nearest_key(path, knobs), option=key)
    knob = chosen_knobs(model, *values)[key]
    if len(named) > 1 and knob.path[0] != _chosen(model, *values):
        keys = " or ".join(knob.key for knob in named)
        raise UsageError(f"{source}: could be {keys}", "write the whole key", option=key)
    return knob


def _problems(
    error: ValidationError, knobs: Mapping[KeyPath, Knob], source: str, typed: Mapping[KeyPath, str]
) -> list[UsageError]:
    found: dict[Any, UsageError] = {}  # by knob: a union reports each of its members
    missing: set[Any] = set()
    prefix = f"{source}: " if source else ""
    for problem in error.errors(include_url=False):
        place = tuple(str(part) for part in problem["loc"])
        path = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in knobs), place)
        if path in knobs:
            knob = knobs[path]
            if _is_missing(problem, knob):
                missing.add(path)
            if path not in found or problem["type"] == "value_error":  # our own validators say it best
                line = _wrong_value(typed.get(path, f"{prefix}{knob.key}"), knob, problem)
                found[path] = UsageError(line, option=knob.name, value=problem["input"])
        elif problem["type"] == "extra_forbidden":
            line = f"{prefix}unknown key {'.'.join(place)!r}: {_nearest_key(place, knobs)}"
            found[place] = UsageError(line, option=place[-1], value=problem["input"])
        elif problem["type"] in {"model_type", "model_attributes_type"}:
            keys = ", ".join(path[-1] for path in knobs if path[:-1] == place)
            line = f"{prefix}{'.'.join(place)} must hold keys: {keys}"
            found[place] = UsageError(line, option=place[-1], value=problem["input"])
        elif problem["type"] == "invalid_key":
            found[place] = UsageError(
                f"{prefix}{place[0]} is no name of a key: put it in quotes, or correct it", option=str(place[0])
            )
        else:  # a rule across several knobs, which begins with the name of one
            line = _own_words(problem)
            about = next((knob.name for knob in knobs.values() if re.match(rf"{knob.name}\b", line)), None)
            found[place] = UsageError(("" if typed else prefix) + line, option=about)
    return [found[path] for path in sorted(found, key=missing.__contains__)]  # a misspelt key says more


def _wrong_value(name: str, knob: Knob, problem: ErrorDetails) -> str:
    if _is_missing(problem, knob):
        remedy = "" if knob.is_argument else " (or --config)"
        return f"{knob.flag} is needed{remedy}: {knob.help[:1].lower()}{knob.help[1:].rstrip('.')}"
    value = problem["input"]
    if problem["type"] == "value_error" and not knob.values.choices:
        return f"{name}: {_own_words(problem)}"
    hint = ""
    parts = value.split(",") if isinstance(value, str) and knob.values.many else []
    if len(parts) > 1 and {part.strip() for part in parts} <= {*map(str, knob.values.choices)}:
        hint = f"; give each its own {name}"
    elif isinstance(value, str) and (close := get_close_matches(value, [str(c) for c in knob.values.choices], n=1)):
        hint = f"; did you mean {close[0]!r}?"
    elif problem["type"] == "string_type" and not isinstance(value, list | dict):
        hint = "; put it in quotes"
    return f"{name} {value!r}: must be {knob.values.in_words()}{' or none' * knob.may_be_none}{hint}"


def _is_missing(problem: ErrorDetails, knob: Knob) -> bool:
    """Tell whether a knob is not given at all; of several numbers one may be missing too."""
    return problem["type"] == "missing" and len(problem["loc"]) == len(knob.path)


def _own_words(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Value error, ")


def _nearest_key(place: KeyPath, knobs: Mapping[KeyPath, Knob]) -> str:
    sections = {".".join(path[:depth]) for path in knobs for depth in range(1, len(path))}
    siblings = [".".join(path) for path in knobs if path[:-1] == place[:-1]]

    def named(name: str) -> list[str]:
        return [knob.key for knob in knobs.values() if knob.name == name]

    close = (
        named(place[-1])  # right name, wrong section
        or get_close_matches(".".join(place), siblings, n=1)
        or get_close_matches(".".join(place), [*map(".".join, knobs), *sections], n=1)
        or [key for name in get_close_matches(place[-1], [path[-1] for path in knobs], n=1) for key in named(name)]
    )
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose from {', '.join(siblings or sorted(sections))}"
