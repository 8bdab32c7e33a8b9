"""What an ONNX file asks for, before ONNX Runtime reads it: it reserves what a graph asks for, and runs its loops.

The file is read as Protocol Buffers are laid out, past its weights, in milliseconds; importing onnx takes longer.
Field numbers are those of onnx.proto. What is not understood is left for ONNX Runtime to refuse.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path

from simclrseg.errors import ModelFileError

MOST_VALUES = 1 << 28
"""Numbers of a tensor that a graph makes by itself."""
_MOST_TIMES = 1 << 16
_DEEPEST = 50  # graphs within graphs
_FEW = 64  # numbers of a tensor that says a shape
_LOOPS = frozenset({"Loop", "Scan", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})
_SHAPES: dict[str, dict[int, int]] = {
    "ConstantOfShape": {0: MOST_VALUES},
    "Expand": {1: 1 << 26},
    "Tile": {1: _MOST_TIMES},
    "Upsample": {1: _MOST_TIMES},
    "Resize": {2: _MOST_TIMES, 3: MOST_VALUES},
    "OneHot": {1: _MOST_TIMES},
    "AffineGrid": {1: MOST_VALUES},
    "Col2Im": {1: MOST_VALUES},
    "MaxUnpool": {2: MOST_VALUES},
    "CenterCropPad": {1: MOST_VALUES},
    "HannWindow": {0: MOST_VALUES},
    "HammingWindow": {0: MOST_VALUES},
    "BlackmanWindow": {0: MOST_VALUES},
}
"""Inputs that say how large the result is, or how often it holds what comes in, and the most that is healthy."""
_STEPS = dict.fromkeys(
    ("pads", "dilations", "output_padding", "kernel_shape", "output_height", "output_width"), 1 << 16
)
_STEPS |= {"strides": 1 << 10, "sample_size": 1 << 16}
_SIZES = ("output_shape", "shape")
"""Attributes that do, each number by itself, and all together."""
_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
_WIDTHS = {1: 8, 5: 4}  # of numbers of a fixed width, by their wire type
_TEXT_LIMIT = 4096

Span = tuple[int, int]
Numbers = tuple[float, ...]


def check_graph(path: Path) -> None:
    """Refuse by ModelFileError a file whose graph would loop, reserve gigabytes, or read files of other folders."""
    with (
        suppress(struct.error, IndexError, ValueError),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        _Reader(path, content).check()


class _Reader:
    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content = path, content

    def check(self) -> None:
        for number, span in self._parts(0, len(self._content)):
            if number == 7:
                self._graph(span, {}, 0)
            elif number == 25:  # a function
                self._nodes([part for inner, part in self._parts(*span) if inner == 7], {}, 0)

    def _refuse(self, what: str) -> None:
        remedy = "`simclrseg export RUN` makes a model that does without"
        raise ModelFileError(f"{self._path} {what}", remedy, path=self._path)

    def _graph(self, span: Span, around: Mapping[str, Numbers], depth: int) -> None:
        if depth > _DEEPEST:
            self._refuse(f"holds more than {_DEEPEST} graphs within each other")
        known = dict(around)
        nodes = []
        for number, part in self._parts(*span):
            if number == 1:
                nodes.append(part)
            elif number == 5:
                name, numbers = self._tensor(part)
                if numbers is not None:
                    known[name] = numbers
            elif number == 15:
                self._sparse(part)
        self._nodes(nodes, known, depth)

    def _nodes(self, spans: list[Span], known: dict[str, Numbers], depth: int) -> None:
        for span in spans:
            kind, inputs, outputs, attributes = "", [], [], []
            for number, part in self._parts(*span):
                if number == 4:
                    kind = self._text(part)
                elif number == 1:
                    inputs.append(self._text(part))
                elif number == 2:
                    outputs.append(self._text(part))
                elif number == 5:
                    attributes.append(part)
            if kind in _LOOPS:
                self._refuse(f"holds a loop ({kind}), which may never end")
            for attribute in attributes:
                numbers = self._attribute(attribute, kind, known, depth)
                if numbers is not None and kind == "Constant":
                    known.update(dict.fromkeys(outputs, numbers))
            self._check_result(kind, [known.get(name) for name in inputs])

    def _check_result(self, kind: str, inputs: list[Numbers | None]) -> None:
        """Refuse an operator whose result is as large as its constants say."""
        for place, most in _SHAPES.get(kind, {}).items():
            if place < len(inputs) and (given := inputs[place]) is not None:
                self._check_size(kind, given, most)
        if kind == "Pad" and len(inputs) > 1 and inputs[1] is not None:
            self._check_steps(kind, inputs[1], _STEPS["pads"])
        if kind == "Range" and len(inputs) == 3 and None not in inputs and all(inputs):
            (start, *_), (end, *_), (step, *_) = inputs  # type: ignore[misc]  # none is None
            self._check_size(kind, ((end - start) / step if step else 0.0,))

    def _check_size(self, kind: str, shape: Numbers, most: int = MOST_VALUES) -> None:
        count = prod(max(1.0, abs(side)) for side in shape)
        if not count <= most:
            what = "numbers at once" if most > _MOST_TIMES else "times what comes in"
            self._refuse(f"asks for {count:,.0f} {what} ({kind})")

    def _check_steps(self, kind: str, steps: Numbers, most: int) -> None:
        if not all(abs(step) <= most for step in steps):
            self._refuse(f"asks for steps of {max(map(abs, steps)):,.0f} pixels ({kind})")

    def _attribute(self, span: Span, kind: str, known: dict[str, Numbers], depth: int) -> Numbers | None:
        """The numbers of an attribute, or of the tensor that it is; its graphs are looked at too."""
        name, numbers = "", None
        whole: list[int] = []
        for number, wire, value, end in self._fields(*span):
            part = (end - value, end)
            if wire == 0 and number in (3, 8):
                whole.append(_signed(value))
            elif wire != 2:
                continue
            elif number == 1:
                name = self._text(part)
            elif number == 5:
                _, numbers = self._tensor(part)
            elif number in (6, 11):
                self._graph(part, known, depth + 1)
            elif number == 8:
                whole += self._packed(part)
            elif number in (22, 23):
                self._sparse(part)
        if numbers is None and whole:
            numbers = tuple(map(float, whole))
            if name in _STEPS:
                self._check_steps(kind, numbers, _STEPS[name])
            elif name in _SIZES:
                self._check_size(kind, numbers)
        return numbers

    def _tensor(self, span: Span) -> tuple[str, Numbers | None]:
        """A tensor's name, and its numbers where they are few; one in another file must lie whole beside the model."""
        name, kind, dims, external = "", 0, list[int](), dict[str, str]()
        raw: Span | None = None
        numbers: list[float] = []
        for number, wire, value, end in self._fields(*span):
            part = (end - value, end)
            if wire == 0 and number == 1:
                dims.append(_signed(value))
            elif wire == 0 and number == 2:
                kind = value
            elif wire == 0 and number in (5, 7):
                numbers.append(float(_signed(value)))
            elif wire == 5 and number == 4:
                numbers += struct.unpack("<f", self._content[end - 4 : end])
            elif wire != 2:
                continue
            elif number == 1:
                dims += self._packed(part)
            elif number == 8:
                name = self._text(part)
            elif number == 9:
                raw = part
            elif number == 13:
                pair = {inner: self._text(text) for inner, text in self._parts(*part)}
                external[pair.get(1, "")] = pair.get(2, "")
            elif number in (5, 7) and part[1] - part[0] <= 10 * _FEW:
                numbers += map(float, self._packed(part))
            elif number == 4 and part[1] - part[0] <= 4 * _FEW:
                numbers += struct.unpack(f"<{(part[1] - part[0]) // 4}f", self._content[slice(*part)])
        count = prod(max(0, side) for side in dims)
        if external:
            self._check_external(name, external, count * _BYTES.get(kind, 1))
        if raw is not None and count <= _FEW and (letter := {1: "f", 6: "i", 7: "q", 11: "d"}.get(kind)):
            numbers = [*map(float, struct.unpack(f"<{count}{letter}", self._content[slice(*raw)]))]
        return name, tuple(numbers) if numbers and count <= _FEW else None

    def _check_external(self, name: str, external: Mapping[str, str], size: int) -> None:
        place, folder = external.get("location", ""), self._path.parent.resolve()
        file = (folder / place).resolve()
        if not place or Path(place).is_absolute() or not file.is_relative_to(folder):
            self._refuse(f"has weights in another folder ({place})")
        if not os.path.isfile(file):
            self._refuse(f"has weights in {place}, which is not beside it")
        if size > (there := os.path.getsize(file)):
            self._refuse(f"wants {size:,} bytes of {place} for {name}, which has {there:,}")

    def _sparse(self, span: Span) -> None:
        """A tensor of a few numbers and their places, of which ONNX Runtime makes a whole one."""
        dims: list[int] = []
        for number, wire, value, end in self._fields(*span):
            if number == 3:
                dims += self._packed((end - value, end)) if wire == 2 else [_signed(value)]
        self._check_size("a sparse tensor", tuple(map(float, dims)))

    def _text(self, span: Span) -> str:
        return self._content[span[0] : min(span[1], span[0] + _TEXT_LIMIT)].decode("utf-8", "replace")

    def _packed(self, span: Span) -> list[int]:
        at, found = span[0], []
        while at < span[1]:
            value, at = self._varint(at)
            found.append(_signed(value))
        return found

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, Span]]:
        """Number and place of each field of a message that is text, bytes or a message."""
        for number, wire, value, after in self._fields(start, end):
            if wire == 2:
                yield number, (after - value, after)

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, value or length, and end of each field of a message."""
        at = start
        while at < end:
            tag, at = self._varint(at)
            number, wire, value = tag >> 3, tag & 7, 0
            if wire in (0, 2):
                value, at = self._varint(at)
            at += value if wire == 2 else _WIDTHS.get(wire, 0)
            if at > end:
                raise ValueError("a field ends behind its message")
            yield number, wire, value, at

    def _varint(self, at: int) -> tuple[int, int]:
        value = self._content[at]
        if value < 128:
            return value, at + 1
        value = shift = 0
        while True:
            byte = self._content[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
            if shift > 63:
                raise ValueError("no whole number")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
