"""YAML and JSON of anybody, read to plain values; their size, depth and digits are bounded. The one reader of both."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import yaml
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

MOST_YAML = 1 << 19
"""Bytes of YAML that are read: it is written by hand, and PyYAML takes microseconds a letter."""
MOST_VALUES = 50_000
"""Values of YAML, each alias counted as all that it stands for: 439 bytes can stand for 9^9."""
DEEPEST = 100
"""Lists and mappings within each other: beyond some hundreds Python itself gives up, wherever they are handed to."""
_TOO_DEEP = f"more than {DEEPEST} lists and mappings within each other"
_LONGEST_NUMBER = 100  # letters
_NO_NUMBER = f"a number has more than {_LONGEST_NUMBER} digits"
_MANY = 1 << 64
_SHOWN = 40  # letters of a value
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_UNICODE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_TAG = "tag:yaml.org,2002:"


class BadContent(ValueError):
    """Content that cannot be read.

    Args:
        reason: to stand behind the file's name and a colon.
        place: in the file: ``line 3, column 1``; empty where it is not known.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{reason}, {place}" if place else reason)
        self.reason, self.place = reason, place

    def of(self, source: Path | str) -> str:
        """The reason behind the file's name, and the place in it."""
        return f"{source}, {self.place}: {self.reason}" if self.place else f"{source}: {self.reason}"


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file: None, True, numbers, texts, lists and dicts. A date stays text.

    Raises:
        BadContent: if it holds another thing, or more than ``MOST_YAML``, ``MOST_VALUES`` or ``DEEPEST``.
        OSError: if it cannot be opened.
    """
    return parse_yaml(read_yaml_text(path))


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file, as ``read_yaml`` takes it."""
    with path.open("rb") as file:  # a pipe has no size
        content = file.read(MOST_YAML + 1)
    if len(content) > MOST_YAML:
        raise BadContent(f"it holds more than {MOST_YAML >> 10:,} KiB of YAML: name the right file")
    return _text(content)


def parse_yaml(text: str, *, nodes: bool = False) -> Any:
    """The same of a text, or PyYAML's nodes, in which names are as they are written; None of an empty one."""
    import yaml  # which takes longer than a shell that completes waits

    loader = None
    try:
        loader = _loader()(text)
        return loader.get_single_node() if nodes else loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        remedy = ": indent with spaces, not with a tab" if "'\\t'" in str(error.problem) else ""
        raise BadContent(f"not YAML ({error.problem}){remedy}", _place(error.problem_mark)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadContent(f"not YAML (it holds the letter U+{error.character:04X})", f"line {line}") from error
    except (OverflowError, ValueError) as error:
        if isinstance(error, BadContent):
            raise
        raise BadContent("not YAML (it holds a letter that is none)") from error  # as \UFFFFFFFF
    finally:
        if loader is not None:
            loader.dispose()


def read_json(path: Path) -> Any:
    """The values of a JSON file; errors are those of ``read_yaml``, but that it may be of any size."""
    return parse_json(_text(path.read_bytes()))


def parse_json(text: str) -> Any:
    """The same of a text. Numbers may be NaN, as Python writes it."""
    try:
        content = json.loads(text)
        if _ESCAPED.search(text):
            _check_letters(json.dumps(content, ensure_ascii=False))
    except json.JSONDecodeError as error:
        raise BadContent(f"not JSON ({error.msg})", f"line {error.lineno}, column {error.colno}") from error
    except ValueError as error:  # as from an int of 5,000 digits
        raise BadContent(str(error) if isinstance(error, BadContent) else _NO_NUMBER) from error
    except RecursionError as error:
        raise BadContent(_TOO_DEEP) from error
    if _may_be_deep(text) and _is_deep(content):
        raise BadContent(_TOO_DEEP)
    return content


def fitting(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Values of strangers as a pydantic model.

    Raises:
        BadContent: if they do not fit it; the reason gives the first that does not: key, value, and what it must be.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise BadContent(f"{key} is missing") from error
        shown = json.dumps(first["input"], default=str)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        must = re.sub(r"^Input should (be|have)", r"it must \1", first["msg"].removeprefix("Value error, "))
        raise BadContent(f"{key} is {shown}: {must}") from error


def _text(content: bytes) -> str:
    if content.startswith(_UNICODE):
        raise BadContent("it is text in UTF-16 or UTF-32: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"no UTF-8 text (byte 0x{content[error.start]:02x}): save it as UTF-8"
        raise BadContent(reason, f"line {line}") from error


def _check_letters(text: str) -> None:
    """Refuse halves of letters, but those of which Python makes the bytes of a file's name."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BadContent(f"a text holds half a letter (U+{ord(text[error.start]):X})") from error


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _may_be_deep(text: str) -> bool:
    """Tell whether the brackets of a JSON text may go deeper than ``DEEPEST``; those of names in it count too."""
    brackets = text.encode("utf-8", "surrogatepass").translate(None, _NO_BRACKETS)
    for _ in range(DEEPEST):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(DEEPEST):
        level = [
            value
            for part in level
            for value in (part.values() if isinstance(part, dict) else part)
            if isinstance(value, dict | list)
        ]
        if not level:
            return False
    return True


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


@cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml
    from yaml.constructor import ConstructorError

    class Loader(yaml.SafeLoader):
        """PyYAML's, for plain values alone, which gives up in time."""

        def __init__(self, text: str) -> None:
            super().__init__(text)
            self._depth = self._count = 0
            self._whole: dict[yaml.Node, tuple[int, int]] = {}  # of finished nodes: values in it, and its depth

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            event, before = self.peek_event(), self._count  # type: ignore[no-untyped-call]
            known = self.anchors.get(event.anchor) if isinstance(event, yaml.AliasEvent) else None
            if known is not None and known not in self._whole:
                raise self._refused(f"{event.anchor!r} holds itself", event)
            values, depth = self._whole[known] if known is not None else (1, 1)
            self._count += values
            if self._count > MOST_VALUES:
                raise self._refused(f"it stands for more than {MOST_VALUES:,} values", event)
            if self._depth + depth > DEEPEST:
                raise self._refused(_TOO_DEEP, event)
            self._depth += 1
            node = super().compose_node(parent, index)
            self._depth -= 1
            if known is None and node is not None:
                self._whole[node] = self._count - before, 1 + max(self._depths(node), default=0)
                self._check(node, event)
            return node

        def _depths(self, node: yaml.Node) -> list[int]:
            if isinstance(node, yaml.MappingNode):
                return [self._whole[part][1] for pair in node.value for part in pair]
            return [self._whole[part][1] for part in node.value] if isinstance(node, yaml.SequenceNode) else []

        def _check(self, node: yaml.Node, event: yaml.Event) -> None:
            if isinstance(node, yaml.ScalarNode):
                _check_letters(node.value)
            elif isinstance(node, yaml.MappingNode):
                nodes = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
                keys = [(key.tag, key.value) for key in nodes]
                if len(set(keys)) < len(keys):
                    twice = next(number for number, key in enumerate(keys) if key in keys[:number])
                    raise self._refused(f"it names {keys[twice][1]!r} twice", nodes[twice])

        def _refused(self, reason: str, at: yaml.Event | yaml.Node) -> BadContent:
            return BadContent(reason, _place(at.start_mark))

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            if node.tag == f"{_TAG}value":  # a lone =
                return node.value
            if node.tag.removeprefix(_TAG) not in _PLAIN:
                kind = "!!" + node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
                raise ConstructorError(None, None, f"{kind} is none of {', '.join(_PLAIN)}", node.start_mark)
            number = node.tag.removeprefix(_TAG) in ("int", "float", "bool")
            if number and len(node.value) > _LONGEST_NUMBER:
                raise ConstructorError(None, None, _NO_NUMBER, node.start_mark)
            try:
                value = super().construct_object(node, deep)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                kind = node.tag.removeprefix(_TAG)
                raise ConstructorError(None, None, f"{str(node.value)[:40]!r} is no {kind}", node.start_mark) from error
            if isinstance(value, int) and not -_MANY <= value < _MANY:
                raise ConstructorError(None, None, "a whole number needs more than 64 bits", node.start_mark)
            return value

    timestamps = f"{_TAG}timestamp"
    Loader.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != timestamps]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
