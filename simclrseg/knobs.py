"""What the fields of a config model allow, a config read from a file, and a config written to one.

The command line and the recipes read configs through here, so a wrong value gives the same line wherever it stood.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError

from simclrseg.config.values import BEGUN_IN, OF_A_RUN, Completes, Flag, Positional, Transient
from simclrseg.errors import RunError, UsageError
from simclrseg.presets import find_preset, load_preset
from simclrseg.registry import Registry
from simclrseg.runs import Run

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

Config = TypeVar("Config", bound=BaseModel)
KeyPath = tuple[str, ...]

_SCALARS = {int: "int", float: "float", str: "text", Path: "path", bool: "true|false"}
_WORDS = {"int": "a whole number", "float": "a number", "text": "text", "path": "a path", "true|false": "true or false"}
_SHOWN = {
    "datasets": "name|folder",
    "pretrained": "name|path",
    "models": "run|file",
    "files": "path",
    "folders": "folder",
}


@dataclass
class Values:
    """What a field's type allows."""

    kinds: list[str] = field(default_factory=list)  # int, float, text, path
    choices: list[Any] = field(default_factory=list)
    facts: list[Any] = field(default_factory=list)  # bounds and markers, of the field and of its items
    optional: bool = False
    many: bool = False
    length: int | None = None  # of a tuple

    @property
    def range(self) -> str:
        """The bounds as an inequality: ``0 < x <= 1``; empty when there are none."""
        low, high = "", ""
        for fact in self.facts:
            match fact:
                case Ge(ge=bound):
                    low = f"{bound} <= "
                case Gt(gt=bound):
                    low = f"{bound} < "
                case Le(le=bound):
                    high = f" <= {bound}"
                case Lt(lt=bound):
                    high = f" < {bound}"
        if low and not high:
            bound, sign = low.split()
            return f"x {sign.replace('<', '>')} {bound}"
        return f"{low}x{high}" if low or high else ""

    def in_words(self) -> str:
        """What is allowed, to follow ``must be``."""
        parts = [_WORDS[kind] for kind in self.kinds]
        if parts and self.range:
            parts[-1] += f" with {self.range}"
        if self.choices:
            parts.append(f"{'one of ' if len(self.choices) > 1 else ''}{', '.join(map(str, self.choices))}")
        text = " or ".join(parts)
        if self.length is not None:
            return f"{self.length} values, each {text}"
        return f"a list, each item {text}" if self.many else text


@dataclass(frozen=True)
class Knob:
    """One leaf of a config model."""

    path: KeyPath  # ("training", "learning_rate")
    info: FieldInfo
    section: type[BaseModel]

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def key(self) -> str:
        """Its place in a YAML file: ``training.learning_rate``."""
        return ".".join(self.path)

    @property
    def panel(self) -> str:
        """Title of its section in ``--help``."""
        return (inspect.getdoc(self.section) or "Options").splitlines()[0]

    @property
    def help(self) -> str:
        """What the docstring below the field says."""
        return self.info.description or attribute_docstring(self.section, self.name)

    @cached_property
    def values(self) -> Values:
        values = Values()
        _collect(values, self.info.annotation, self.info.metadata)
        return values

    def marker(self, kind: type[Any]) -> Any:
        """The outermost marker of a kind, such as ``Completes``, or None."""
        return next((fact for fact in self.values.facts if isinstance(fact, kind)), None)

    @property
    def transient(self) -> bool:
        return self.marker(Transient) is not None

    @property
    def is_flag(self) -> bool:
        return self.values.kinds == ["true|false"] and not self.values.many

    @property
    def is_argument(self) -> bool:
        return self.marker(Positional) is not None

    @property
    def metavar(self) -> str:
        """What ``--help`` shows as the value: choices, or a type and its range."""
        if self.is_argument:
            return str(self.marker(Positional).metavar)
        values = self.values
        parts = [*values.kinds, *map(str, values.choices)]
        if parts == ["text"] and (completes := self.marker(Completes)):
            parts = [_SHOWN.get(completes.what, "name")]
        if values.optional and not self.transient and "none" not in parts:
            parts.append("none")
        text = " ".join([f"<{'|'.join(parts)}>"] * (values.length or 1))
        return f"{text} {values.range.replace(' ', '')}".rstrip()

    @property
    def spellings(self) -> list[str]:
        """Names on the command line, the long one first; none for an argument."""
        if self.is_argument:
            return []
        other: tuple[str, ...] = self.marker(Flag).names if self.marker(Flag) else ()
        if any(name.startswith("--") for name in other):
            return sorted(other, key=lambda name: not name.startswith("--"))
        return [f"--{self.name.replace('_', '-')}", *other]

    @property
    def negation(self) -> str | None:
        """``--no-name``, for a flag that a file may have set."""
        return f"--no-{self.spellings[0].removeprefix('--')}" if self.is_flag and not self.transient else None

    def typed(self, value: Any) -> list[str]:
        """The words of a command line that give it this value."""
        if isinstance(value, bool):
            return [self.flag if value else str(self.negation)]
        if isinstance(value, list):
            return [word for item in value or [0] for word in (self.flag, str(item))]  # 0 is an empty one
        items = value if isinstance(value, tuple) else ["none" if value is None else value]
        return [self.flag, *map(str, items)]

    @property
    def flag(self) -> str:
        """How messages call it: ``--learning-rate``, or ``INPUT`` for an argument."""
        return self.metavar.strip("[].") if self.is_argument else self.spellings[0]


def _collect(values: Values, annotation: Any, facts: Collection[Any]) -> None:
    values.facts.extend(facts)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        _collect(values, inner[0], inner[1:])
    elif origin is Union or origin is types.UnionType:
        for member in inner:
            _collect(values, member, ())
    elif origin is Literal:
        values.choices.extend(inner)
    elif origin is list:
        values.many = True
        _collect(values, inner[0], ())
    elif origin is tuple:
        values.length = None if Ellipsis in inner else len(inner)
        values.many = Ellipsis in inner
        _collect(values, inner[0], ())
    elif annotation is type(None):
        values.optional = True
    elif tables := [fact for fact in facts if isinstance(fact, Registry)]:
        values.choices.extend(tables[0])
    else:
        values.kinds.append(_SCALARS.get(annotation, "text"))


def knobs_of(model: type[BaseModel], path: KeyPath = ()) -> Iterator[Knob]:
    """Walk a config model depth first, in the order its fields are written."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from knobs_of(info.annotation, (*path, name))
        else:
            yield Knob((*path, name), info, model)


def attribute_docstring(owner: type, name: str) -> str:
    """The string that follows a class attribute in the source, of the class or of a base.

    Pydantic can keep these (``use_attribute_docstrings``), but reads the source anew for each class, at import:
    a fifth of the time in which a completion has to be there.
    """
    for base in owner.__mro__:
        if text := _docstrings(base.__module__).get((base.__qualname__, name)):
            return text
    return ""


@cache
def _docstrings(module: str) -> dict[tuple[str, str], str]:
    """All attribute docstrings of a module, by class and attribute."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}  # no source, such as a builtin's
    found = {}
    for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for attribute, below in pairwise(owner.body):
            match attribute, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[owner.name, name] = " ".join(text.split())
    return found


def command_of(model: type[BaseModel]) -> str:
    """The command a config model belongs to: ``pretrain`` for ``PretrainConfig``."""
    return model.__name__.removesuffix("Config").lower()


def dump_config(config: BaseModel) -> str:
    """A config as a YAML file that ``--config`` takes; transient knobs are left out."""
    import yaml

    tree = {"command": command_of(type(config)), **stored_values(config)}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def stored_values(config: BaseModel) -> dict[str, Any]:
    """The values of a config by section and key, without those of transient knobs."""
    values = config.model_dump(mode="json")
    tree: dict[str, Any] = {}
    for knob in knobs_of(type(config)):
        if not knob.transient:
            put(tree, knob.path, look_up(values, knob.path))
    return tree


def parse_config_file(model: type[Config], name_or_path: str) -> Config:
    """Read a preset or a YAML file; the data that it names need not be there.

    Raises:
        UsageError: if it cannot be read or holds a wrong key or value.
    """
    tree = load_preset(name_or_path, command_of(model))
    return parse_config(model, tree, source=str(find_preset(name_or_path)), of_a_run=True)


def config_of_run(model: type[Config], folder: Path, *, given: Mapping[KeyPath, Any] | None = None) -> Config:
    """What a run was made with, whose data may have gone since.

    Args:
        given: values of the command line; they win.

    Raises:
        RunError: if the folder holds no configuration.
        UsageError: if it has a wrong key or value, or is another command's.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise RunError(f"{folder} holds no config.yaml, so that nobody knows what the run was: name another run")
    tree = load_preset(str(file), command_of(model))
    return parse_config(model, tree, source=str(file), given=given, of_a_run=True, begun_in=Run(folder).begun_in)


def parse_config(
    model: type[Config],
    tree: dict[str, Any],
    *,
    source: str = "",
    given: Mapping[KeyPath, Any] | None = None,
    of_a_run: bool = False,
    begun_in: Path | None = None,
) -> Config:
    """Build a config from the sections and keys of a file and the values of the command line.

    Args:
        source: the file that the tree came from, for messages.
        given: values of the command line; they win.
        of_a_run: the tree is what a run was made with, and folders and files that it names need not exist any more.
        begun_in: the folder that the run was begun in, where it is known.

    Raises:
        UsageError: one line that names each wrong key or flag, says what is allowed and offers the nearest name.
    """
    given = given or {}
    knobs = {knob.path: knob for knob in knobs_of(model)}
    merged: dict[str, Any] = _copy(tree)
    for path, knob in knobs.items():
        if path in given:
            put(merged, path, given[path])
        elif knob.values.many and isinstance(value := look_up(merged, path), str):
            put(merged, path, [value])  # `dataset: shapes` is a list of one
        for depth in range(1, len(path)):
            if look_up(merged, path[:depth]) is None:
                put(merged, path[:depth], {})  # a section without keys, so that a missing key is named
    try:
        return model.model_validate(merged, context={OF_A_RUN: of_a_run, BEGUN_IN: begun_in})
    except ValidationError as error:
        raise UsageError("; ".join(_problems(error, knobs, source, given))) from error


def _problems(
    error: ValidationError, knobs: Mapping[KeyPath, Knob], source: str, given: Mapping[KeyPath, Any]
) -> list[str]:
    lines: dict[Any, str] = {}  # by knob: a union reports each of its members
    prefix = f"{source}: " if source else ""
    for problem in error.errors(include_url=False):
        place = tuple(str(part) for part in problem["loc"])
        path = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in knobs), None)
        if path is not None:
            knob = knobs[path]
            name = knob.flag if path in given else f"{prefix}{knob.key}"
            if path not in lines or problem["type"] == "value_error":  # our own validators say it best
                lines[path] = _wrong_value(name, knob, problem)
        elif problem["type"] == "extra_forbidden":
            lines[place] = f"{prefix}unknown key {'.'.join(place)!r}: {_nearest_key(place, knobs)}"
        elif problem["type"] in {"model_type", "model_attributes_type"}:
            keys = ", ".join(path[-1] for path in knobs if path[:-1] == place)
            lines[place] = f"{prefix}{'.'.join(place)} must hold keys: {keys}"
        else:
            lines[place] = ("" if given else prefix) + _own_words(problem)  # a rule across several knobs
    missing = [path for path in lines if path in knobs and lines[path] == _missing(knobs[path])]
    return [lines[path] for path in sorted(lines, key=missing.__contains__)]  # a misspelt key says more


def _wrong_value(name: str, knob: Knob, problem: ErrorDetails) -> str:
    if problem["type"] == "missing":
        return _missing(knob)
    value = problem["input"]
    if problem["type"] == "value_error" and not knob.values.choices:
        return f"{name}: {_own_words(problem)}"
    hint = ""
    if isinstance(value, str) and (close := get_close_matches(value, [str(c) for c in knob.values.choices], n=1)):
        hint = f"; did you mean {close[0]!r}?"
    elif problem["type"] == "string_type" and not isinstance(value, list | dict):
        hint = "; put it in quotes"
    return f"{name} {value!r}: must be {knob.values.in_words()}{hint}"


def _missing(knob: Knob) -> str:
    remedy = "" if knob.is_argument else " (or --config)"
    names = ""
    completes = knob.marker(Completes)
    if completes and completes.what == "datasets":
        from simclrseg.data.datasets import DATASETS

        names = f"; names are {', '.join(DATASETS)}"
    return f"{knob.flag} is needed{remedy}: {knob.help[:1].lower()}{knob.help[1:].rstrip('.')}{names}"


def _own_words(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Value error, ")


def _nearest_key(place: KeyPath, knobs: Mapping[KeyPath, Knob]) -> str:
    keys = {knob.key: knob for knob in knobs.values()}
    sections = {".".join(path[:depth]) for path in knobs for depth in range(1, len(path))}
    moved = [key for key, knob in keys.items() if knob.name == place[-1]]  # right name, wrong section
    siblings = [".".join(path) for path in knobs if path[:-1] == place[:-1]]
    close = (
        moved
        or get_close_matches(".".join(place), siblings, n=1)
        or get_close_matches(".".join(place), [*keys, *sections], n=1)
        or [knobs[path].key for path in knobs if path[-1] in get_close_matches(place[-1], [p[-1] for p in knobs], n=1)]
    )
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose from {', '.join(siblings or sorted(sections))}"


def look_up(tree: Any, path: KeyPath) -> Any:
    """The value at a path of keys, or None where the path ends early."""
    for name in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(name)
    return tree


def put(tree: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set the value at a path of keys, making sections on the way."""
    *sections, name = path
    for section in sections:
        if not isinstance(tree.get(section), dict):
            if tree.get(section) is not None:
                return  # the file holds a value where a section belongs: validation says so
            tree[section] = {}
        tree = tree[section]
    tree[name] = value


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
