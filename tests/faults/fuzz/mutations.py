"""Damage to bytes, texts and trees, drawn from a generator: the same seed gives the same damage."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import yaml

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 7, 127, 254, 255, 256, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64,
    -(2**31), -(2**63), 10**30, 0.5, -0.5, 1e-320, 1e30, 1e308, -1e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
WORDS = (
    "", " ", "\t", "none", "null", "true", "no", "~", ".", "..", "/", "-", "--", "=", ":", ",", "0", "-1", "1e999",
    "NaN", "inf", "1_000", "0x10", "0o17", "1e400", "٣", "²", "½", "é", "e\u0301", "\u202e", "\ufeff", "\u2028",
    "\x1b[31m", "\x00", "\x07", "\n", "\r\n", "\x85", "\udcff", "\U0001f408", "%s%n", "{}", "{0}", "$HOME", "*", "[",
    "(", "\\", "../../x", "/dev/zero", "/dev/null", "/proc/self/mem", "/", "con", "nul.png", "a" * 300, "9" * 400,
    "9" * 5000, "1" + "0" * 20, "2001-01-01", "2001-01-01 00:00:00", "12:30:45", "simclrseg", "background", "ignore",
    "hf:a/b", "shapes", "run", "a/b",
)  # fmt: skip
LINES = (
    "a: &a [1, 2]", "b: *a", "<<: *a", "? [1, 2]\n: 3", "!!python/object:os.system {}", "!!binary aGk=", "!!set {a, b}",
    "!!timestamp 2001-01-01", "!!float nan", "!!int '0b1'", "- - - - -", "%YAML 9.9", "---", "...", "\t- x", "|", ">-",
    "a: &a [*a]", "&a [&b [*a, *b], *a]", "!!omap [a: 1]", "!x y", "'", '"', "{", "[", "#", "key: {a: 1, a: 2}",
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]",
    "[" * 3000, "{a: " * 2000, "- " * 3000, "9" * 10000, "0," * 300, "x: " + "y" * 70000,
)  # fmt: skip


def bytes_of(rng: Random, data: bytes, others: Sequence[bytes] = (b"",), tokens: Sequence[bytes] = ()) -> bytes:
    """Flip, cut, double, insert and splice, once to four times."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = rng.choice(_ON_BYTES)(rng, data, others, tokens)
    return data


def _flip(rng: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    if not data:
        return bytes([rng.randrange(256)])
    place = _early(rng, len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def _value(rng: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    place, size = _early(rng, len(data) + 1), rng.choice((1, 2, 2, 4, 4, 8))
    number = rng.choice([number for number in NUMBERS if isinstance(number, int)]) % 2 ** (8 * size)
    return data[:place] + number.to_bytes(size, rng.choice(("little", "big"))) + data[place + size :]


def _cut(rng: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(rng: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    place = _early(rng, len(data) + 1)
    return data[:place] + data[place + rng.choice((1, 2, 4, 16, 100)) :]


def _double(rng: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    place, size = _early(rng, len(data) + 1), rng.choice((1, 4, 16, 100))
    return data[:place] + data[place : place + size] * rng.choice((2, 2, 3, 50)) + data[place + size :]


def _insert(rng: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    place = _early(rng, len(data) + 1)
    token = rng.choice(tokens) if tokens and rng.random() < 0.7 else rng.randbytes(rng.choice((1, 2, 4, 50)))
    return data[:place] + token + data[place + (len(token) if rng.random() < 0.5 else 0) :]


def _splice(rng: Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


_ON_BYTES: tuple[Callable[[Random, bytes, Sequence[bytes], Sequence[bytes]], bytes], ...] = (
    _flip, _flip, _value, _value, _cut, _remove, _double, _insert, _splice,
)  # fmt: skip


def _early(rng: Random, length: int) -> int:
    """A place; half of them among the first 200, where headers are."""
    return rng.randrange(min(length, 200) if rng.random() < 0.5 else length)


def text_of(rng: Random, text: str, others: Sequence[str] = ("",)) -> bytes:
    """Lines doubled, removed, swapped, indented and inserted, words replaced; and bytes damaged now and then."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                lines.insert(place, lines[place])
            case 1:
                lines.pop(place)
            case 2:
                lines.insert(rng.randrange(len(lines)), lines.pop(place))
            case 3:
                lines[place] = rng.choice(("  ", "\t", "- ", "? ", "#", "'")) + lines[place]
            case 4:
                lines.insert(place, rng.choice(LINES))
            case 5 | 6:
                words = lines[place].split(" ")
                words[rng.randrange(len(words))] = rng.choice((*WORDS, str(rng.choice(NUMBERS)), rng.choice(LINES)))
                lines[place] = " ".join(words)
            case 7:
                lines = lines[:place] + rng.choice(others).split("\n")[rng.randrange(2) :]
        text = "\n".join(lines)
    data = text.encode("utf-8", "surrogateescape")
    return bytes_of(rng, data) if rng.random() < 0.15 else data


def tree_of(rng: Random, tree: Any) -> Any:
    """A copy in which one to three values or keys are others."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not isinstance(tree, dict | list) or not tree or rng.random() < 0.02:
            return leaf(rng, tree)
        holder = tree
        while True:
            key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            inner = holder[key]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.25:
                break
            holder = inner
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(WORDS) if rng.random() < 0.8 else f"{key}x"] = holder.pop(key)
            case 2 if isinstance(holder, list):
                holder[key:key] = [inner] * rng.choice((1, 1, 5, 300))
            case _:
                holder[key] = leaf(rng, inner)
    return tree


def leaf(rng: Random, value: Any) -> Any:
    """Another value in the place of one."""
    match rng.randrange(10):
        case 0:
            return rng.choice((None, True, False))
        case 1 | 2:
            return rng.choice(NUMBERS)
        case 3 | 4:
            return rng.choice(WORDS)
        case 5:
            return rng.choice(([], {}, [None], {"": None}, [[]], [1, 2, 3], ["a", "b"], {"a": 1}, [0.5] * 3))
        case 6:
            return [value] if rng.random() < 0.5 else {"a": value}
        case 7:
            if isinstance(value, int | float):
                return value * rng.choice(NUMBERS[:20])
            return type(value).__name__ if isinstance(value, list | tuple | dict) else str(value)  # it may hold itself
        case 8 if isinstance(value, str) and value:
            place = rng.randrange(len(value))
            return value[:place] + rng.choice(WORDS) + value[place + rng.randrange(2) :]
        case 9:
            deep: Any = value
            for _ in range(rng.choice((3, 50, 2000))):
                deep = [deep]
            return deep
    return rng.choice(NUMBERS)


def json_of(rng: Random, tree: Any) -> bytes:
    """A damaged tree as JSON, whose text is damaged too now and then."""
    try:
        text = json.dumps(tree_of(rng, tree), ensure_ascii=rng.random() < 0.5)
    except RecursionError:
        text = "[" * 5000
    if rng.random() < 0.15:
        return text_of(rng, text)
    if rng.random() < 0.05:  # of a float as `1e999`, of names twice
        text = text.replace(rng.choice(("1", "0", '"')), rng.choice(("1e999", "9" * 5000, '"a":1,"a":', "-")), 1)
    return text.encode("utf-8", "surrogateescape")


def yaml_of(rng: Random, tree: Any) -> bytes:
    """A damaged tree as YAML, or its text damaged."""
    if rng.random() < 0.5:
        return json_of(rng, tree)  # is YAML too
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return text_of(rng, yaml.dump(tree, Dumper=dumper, sort_keys=False, allow_unicode=True))
