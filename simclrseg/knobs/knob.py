"""Knobs: the fields of a config model, their names, and the values that they allow."""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from simclrseg.knobs.values import Common, Completes, Flag, KeyOnly, Positional, Tells, Transient
from simclrseg.registry import Registry, canonical

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

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
    """The values that a field's type allows."""

    kinds: list[str] = field(default_factory=list)  # int, float, text, path
    choices: list[Any] = field(default_factory=list)
    facts: list[Any] = field(default_factory=list)  # bounds and markers, of the field and of its items
    optional: bool = False
    many: bool = False
    length: int | None = None  # of a tuple

    def canonical(self, value: Any) -> Any:
        """A value with its choices spelled as they are known; others are left as they are."""
        if isinstance(value, list | tuple):
            return type(value)(map(self.canonical, value))
        if not isinstance(value, str) or {"text", "path"} & set(self.kinds):
            return value
        return canonical(value, map(str, self.choices))

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
        """The allowed values in words, to follow ``must be``."""
        parts = [_WORDS[kind] for kind in self.kinds]
        if parts and self.range:
            parts[-1] += f" with {self.range}"
        if self.choices:
            parts.append(("one of " if len(self.choices) > 1 else "") + ", ".join(map(str, self.choices)))
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
        """The key in a YAML file: ``training.learning_rate``."""
        return ".".join(self.path)

    @property
    def panel(self) -> str:
        """Title of its section in ``--help``."""
        return (inspect.getdoc(self.section) or "Options").splitlines()[0]

    @property
    def help(self) -> str:
        """The docstring below the field, and what tables add."""
        return self._help(lambda tells: tells.words())

    @property
    def brief(self) -> str:
        """The same as ``--help`` has room for."""
        return self._help(lambda tells: tells.words() if tells.briefly is None else tells.briefly)

    def _help(self, words: Callable[[Tells], str]) -> str:
        text = attribute_docstring(self.section, self.name)
        return " ".join([text, *(words(fact) for fact in self.values.facts if isinstance(fact, Tells))]).rstrip()

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
    def is_key_only(self) -> bool:
        return self.marker(KeyOnly) is not None

    @property
    def is_argument(self) -> bool:
        """Tell whether it has no option but an argument."""
        mark = self.marker(Positional)
        return mark is not None and not mark.named

    @property
    def argument(self) -> str | None:
        """How the help shows the argument that gives it a value, as ``INPUT...``; None where only an option does."""
        mark = self.marker(Positional)
        return None if mark is None else str(mark.metavar)

    @property
    def is_common(self) -> bool:
        return self.argument is not None or self.marker(Common) is not None

    @property
    def may_be_none(self) -> bool:
        """Tell whether ``none`` may stand in a file or be typed, to undo what the file has."""
        return self.values.optional and not self.transient and "none" not in self.values.choices

    @property
    def metavar(self) -> str:
        """The value in ``--help``: choices, or a type and its range."""
        if self.is_argument:
            return str(self.argument)
        values = self.values
        parts = [*values.kinds, *map(str, values.choices)]
        if parts == ["text"] and (completes := self.marker(Completes)):
            parts = [_SHOWN.get(completes.what, "name")]
        if self.may_be_none:
            parts.append("none")
        text = " ".join([f"<{'|'.join(parts)}>"] * (values.length or 1))
        return f"{text} {values.range.replace(' ', '')}".rstrip()

    @property
    def spellings(self) -> list[str]:
        """Names on the command line, the long one first; none for an argument and what is a key only."""
        if self.is_argument or self.is_key_only:
            return []
        other: tuple[str, ...] = self.marker(Flag).names if self.marker(Flag) else ()
        if any(name.startswith("--") for name in other):
            return sorted(other, key=lambda name: not name.startswith("--"))
        return [f"--{self.name.replace('_', '-')}", *other]

    @property
    def negation(self) -> str | None:
        """``--no-name``, for a flag that a file may have set."""
        able = self.is_flag and not self.transient and not self.is_key_only
        return f"--no-{self.spellings[0].removeprefix('--')}" if able else None

    def typed(self, value: Any) -> list[str]:
        """The words of a command line that give it this value."""
        if self.is_key_only:
            parts = value if isinstance(value, tuple) else [value]
            return ["--set", f"{self.key}={','.join(map(str, parts))}"]
        if isinstance(value, bool):
            return [self.flag if value else str(self.negation)]
        if isinstance(value, list):
            return [word for item in value or [0] for word in (self.flag, str(item))]  # 0 is an empty one
        items = value if isinstance(value, tuple) else ["none" if value is None else value]
        return [self.flag, *map(str, items)]

    @property
    def flag(self) -> str:
        """How messages call it: ``--learning-rate``, ``INPUT`` for an argument, or its key."""
        if self.is_key_only:
            return self.key
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


def knobs_of(model: type[BaseModel]) -> tuple[Knob, ...]:
    """Knobs of a config model, depth first, in the order its fields are written."""
    return _knobs_below(model, ())


@cache
def _knobs_below(model: type[BaseModel], path: KeyPath) -> tuple[Knob, ...]:
    found: list[Knob] = []
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found += _knobs_below(info.annotation, (*path, name))
        else:
            found.append(Knob((*path, name), info, model))
    return tuple(found)


def attribute_docstring(owner: type, name: str) -> str:
    """The string that follows a class attribute in the source, of the class or of a base.

    Pydantic can keep these (``use_attribute_docstrings``), but reads the source anew for each class, at import, in
    every command.
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


def shown(value: Any) -> str:
    """A value as people type it."""
    if value is None or value in ([], ""):
        return "none"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def look_up(tree: Any, path: KeyPath) -> Any:
    """The value at a path of keys, or None where the path ends early."""
    for name in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(name)
    return tree


def leaves(tree: Mapping[Any, Any], above: KeyPath = ()) -> dict[KeyPath, Any]:
    """All values of nested mappings by their paths of keys."""
    found: dict[KeyPath, Any] = {}
    for key, value in tree.items():
        path = (*above, str(key))
        found |= leaves(value, path) if isinstance(value, Mapping) else {path: value}
    return found


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
