"""Names and colours of mask classes, from a `--classes-file`.

A YAML (or JSON) mapping of names to colours, in the order of the class ids; colours as ``[r, g, b]`` or ``'#rrggbb'``:

    background: [0, 0, 0]
    road: '#804080'
    ignore: [255, 255, 255]    # optional, in upper or lower case: pixels that neither train nor count

A plain list of names does for masks that hold class ids; one that names ``ignore`` says that 255 is ignored. Where
masks hold other numbers, each class has its own, as ``road: 100``, or ``100: road``; 255 is ignored if no class has it.

Such a file that lies with the masks as ``classes.yaml`` needs no option, nor do those of labelling tools: CVAT's
``labelmap.txt`` has lines such as ``road:128,64,128::``, among which ``background`` is the first class wherever it
stands; Roboflow's ``_classes.csv`` has a number and a name in each. The ``dataset.json`` of nnU-Net names numbers too,
among them that of what is ignored.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from simclrseg.errors import DataError
from simclrseg.metadata import IGNORE
from simclrseg.system.content import BadContent, parse_yaml, read_json, read_yaml_text
from simclrseg.system.identify import why_not_a_file

log = logging.getLogger(__name__)

Colour = tuple[int, int, int]
IGNORE_NAME = "ignore"
BINARY = ("background", "foreground")
_OWN, _TABLE, _LABEL_MAP, _NNUNET = "classes.yaml", "_classes.csv", "labelmap.txt", "dataset.json"
CLASSES_FILES = (_OWN, _TABLE, _LABEL_MAP, _NNUNET)
"""Files of classes that lie with masks: the user's own, and those that labelling tools leave."""
_OF_TABLE = ["pixel value", "class"]
_OF_NNUNET = "labelsTr"  # a folder
_HEX = re.compile("#[0-9a-fA-F]{6}")
_OF_CVAT = re.compile(r"([^:#]+):(\d{1,3}),(\d{1,3}),(\d{1,3}):[^:]*:[^:]*")  # name, colour, parts, actions
_TAKEN_FOR_COMMENT = re.compile(r":\s+(#(?:[0-9a-fA-F]{3}){1,2})\s*$")
MAX_CLASSES = 254
"""Ids are bytes; 255 is ignored and 254 marks a colour that no class has."""


@dataclass(frozen=True)
class Classes:
    """Names and colours of mask classes, by id."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()  # empty where the file gives none
    ignored: Colour | None = None  # of pixels that are ignored; white, which is 255 in grey, where ids are
    numbered: bool = False  # the colours are the greys of numbers that the file gives

    @property
    def text(self) -> str:
        """The text that ``read_classes`` takes in the place of a file."""
        ignored = {} if self.ignored is None else {IGNORE_NAME: self.ignored}
        colours = dict(zip(self.names, self.colours, strict=True)) if self.colours else dict.fromkeys(self.names)
        if self.numbered:
            numbers = {name: colour[0] for name, colour in {**colours, **ignored}.items() if colour}
            return json.dumps(numbers, ensure_ascii=False)
        return json.dumps({**colours, **ignored}, ensure_ascii=False)  # YAML takes no pairs of surrogates

    @property
    def ids(self) -> dict[Colour, int]:
        """Colour -> class id."""
        ids = {colour: index for index, colour in enumerate(self.colours)}
        return ids if self.ignored is None else {**ids, self.ignored: IGNORE}

    @property
    def numbers(self) -> dict[int, int]:
        """Number in masks -> class id, where a file gives numbers; 255 is ignored if it has no other meaning."""
        given = {colour[0]: index for colour, index in self.ids.items()}
        return given if self.ignored is not None else {IGNORE: IGNORE, **given}


def numbered_classes(count: int) -> Classes:
    """Classes that have a number and no name: ``class_0``, ``class_1``, ..."""
    return Classes(BINARY if count == 2 else tuple(f"class_{index}" for index in range(count)))


def classes_beside(file: Path) -> Classes | None:
    """The classes of one of CLASSES_FILES that lies with masks; None for one of another kind."""
    if file.name == _OWN:
        try:
            return read_classes(str(file))
        except DataError as error:
            log.warning(f"{error.reason}: it is left aside")
            return None
    if file.name == _LABEL_MAP:
        text = _text_of(str(file))
        return None if _from_cvat(text) == text else read_classes(str(file))
    if file.name == _NNUNET:
        return _from_nnunet(file)
    try:
        head, *rows = csv.reader(file.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as a table of classes ({error})", path=file) from error
    if [name.strip().lower() for name in head] != _OF_TABLE:
        return None
    names: dict[int, str] = {}
    for row in filter(None, rows):
        number, name = (*(cell.strip() for cell in row), "")[:2]
        if not number.isdecimal() or len(number) > 3 or int(number) >= MAX_CLASSES or not name or len(row) > 2:
            remedy = f"write a number from 0 to {MAX_CLASSES - 1} and a name in each line"
            raise DataError(f"{file} has the line {', '.join(row)!r}", remedy, path=file)
        if int(number) in names or name in names.values():
            raise DataError(f"{file} has two lines for {number} or {name!r}", "keep one", path=file)
        if name.lower() == IGNORE_NAME:
            reason = f"{file} names {number} {IGNORE_NAME!r}, as pixels are called that do not count"
            raise DataError(reason, f"give it another name, or store {IGNORE} in these pixels", path=file)
        names[int(number)] = name
    if max(names, default=0) < 1:
        raise DataError(f"{file} names no class but the background: there is nothing to learn", path=file)
    numbered = (BINARY[0], *(f"class_{number}" for number in range(1, max(names) + 1)))
    return Classes(tuple(names.get(number, name) for number, name in enumerate(numbered)))


def read_classes(path: str) -> Classes:
    """Read a classes file, or what one would hold, in braces."""
    text = _from_cvat(path if path.startswith("{") else _text_of(path))
    try:
        node = parse_yaml(text, nodes=True)
    except BadContent as error:
        raise DataError(f"classes file {error.of(path)}", path=path) from error
    if isinstance(node, yaml.MappingNode):
        # names as written: a plain loader turns `no` into False and merges what is named twice
        pairs = [(key.value, value) for key, value in node.value]
        lines = text.splitlines()
        for key, value in node.value:
            line = "".join(lines[key.end_mark.line : key.end_mark.line + 1])  # it may end beyond the last one
            if value.tag.endswith(":null") and (match := _TAKEN_FOR_COMMENT.search(line)):
                reason = f"classes file {path} gives {key.value!r} no colour, for YAML takes {match[1]} for a comment"
                digits = match[1][1:] if len(match[1]) == 7 else "".join(2 * digit for digit in match[1][1:])
                raise DataError(reason, f"put it in quotes, as '#{digits}'", path=path)
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(item.value, None) for item in node.value]
    else:
        raise DataError(f"classes file {path} must map names to colours, such as `road: [128, 64, 128]`", path=path)
    if not all(isinstance(name, str) and name for name, _ in pairs):
        raise DataError(f"classes file {path} must have plain names, such as `road: [128, 64, 128]`", path=path)
    pairs = [(IGNORE_NAME if name.lower() == IGNORE_NAME else name, colour) for name, colour in _names_first(pairs)]
    numbered = all(_number(colour) is not None for _, colour in pairs)
    colours = {name: _colour(colour, name, path) for name, colour in pairs}
    ignored = (colours.pop(IGNORE_NAME) or (IGNORE,) * 3) if IGNORE_NAME in colours else None
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise DataError(f"classes file {path} names {twice[0]!r} twice", "give each class one line", path=path)
    if not 2 <= len(colours) <= MAX_CLASSES:
        raise DataError(f"classes file {path} names {len(colours)} classes: 2 to {MAX_CLASSES} are possible", path=path)
    given = [colour for colour in colours.values() if colour is not None]
    if given and len(given) < len(colours):
        bare = next(name for name, colour in colours.items() if colour is None)
        raise DataError(f"classes file {path} gives {bare!r} no colour", "give all classes one, or none", path=path)
    every = given + ([ignored] if ignored is not None else [])
    if len(set(every)) < len(every):
        colour, _ = Counter(every).most_common(1)[0]
        what = f"number {colour[0]}" if numbered else f"colour {list(colour)}"
        raise DataError(f"classes file {path} gives the {what} to two classes", path=path)
    return Classes(tuple(colours), tuple(given), ignored, numbered)


def _text_of(path: str) -> str:
    if reason := why_not_a_file(path):
        remedy = "name the file that holds the classes"
        raise DataError(f"classes file {path} cannot be read ({reason})", remedy, path=path)
    try:
        return read_yaml_text(Path(path))
    except BadContent as error:
        raise DataError(f"classes file {error.of(path)}", path=path) from error
    except OSError as error:
        raise DataError(f"classes file {path} cannot be read: {error.strerror}", path=path) from error


def _from_cvat(text: str) -> str:
    """The text of CVAT's ``labelmap.txt`` as YAML; other texts stay."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = [match.groups() for line in lines if (match := _OF_CVAT.fullmatch(line))]
    if not found or len(found) < len(lines):
        return text
    found.sort(key=lambda parts: parts[0].lower() != BINARY[0])
    return "\n".join(
        f"{json.dumps(name, ensure_ascii=False)}: [{int(r)}, {int(g)}, {int(b)}]" for name, r, g, b in found
    )


def _from_nnunet(file: Path) -> Classes | None:
    """The classes of nnU-Net's ``dataset.json`` beside its folders; None for others, and for regions of several."""
    if not (file.parent / _OF_NNUNET).is_dir():
        return None
    try:
        content = read_json(file)
    except (BadContent, OSError):
        return None
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        return None
    if all(str(key).isdecimal() for key in labels):  # as its first version has them
        names = [name for name in labels.values() if isinstance(name, str)]
        labels = {name: key for key, name in labels.items()} if len({*names}) == len(labels) else {}
    numbers = {name: int(number) for name, number in labels.items() if str(number).isdecimal()}
    if not numbers or len(numbers) < len(labels):
        return None
    if 0 not in numbers.values():
        numbers[BINARY[0]] = 0
    in_order = sorted(numbers, key=lambda name: numbers[name])
    if len(in_order) < 2 or len({*numbers.values()}) < len(numbers):
        return None
    if sorted(numbers.values()) == [*range(len(numbers))] and IGNORE_NAME not in map(str.lower, numbers):
        return Classes(tuple(in_order))
    return read_classes(json.dumps({name: numbers[name] for name in in_order}))


def _names_first(pairs: Sequence[tuple[str, yaml.Node | None]]) -> Sequence[tuple[str, yaml.Node | None]]:
    """Names and numbers, where all were given the other way round, as ``100: road``."""
    turned = [
        (str(node.value), yaml.ScalarNode("tag:yaml.org,2002:int", name))
        for name, node in pairs
        if name.isdecimal()
        and isinstance(node, yaml.ScalarNode)
        and node.tag.endswith(":str")
        and not _HEX.fullmatch(node.value)
    ]
    return turned if len(turned) == len(pairs) else pairs


def _number(node: yaml.Node | None) -> int | None:
    """The number of a class; None where something else stands."""
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and re.fullmatch(r"\d{1,3}", node.value):
        return int(node.value) if int(node.value) <= IGNORE else None
    return None


def _colour(node: yaml.Node | None, name: str, path: str) -> Colour | None:
    if node is None:
        return None
    if (number := _number(node)) is not None:
        return number, number, number
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith(":null"):
            return None
        if _HEX.fullmatch(node.value):
            return int(node.value[1:3], 16), int(node.value[3:5], 16), int(node.value[5:7], 16)
    items = node.value if isinstance(node, yaml.SequenceNode) else []
    whole = [item for item in items if isinstance(item, yaml.ScalarNode) and item.tag.endswith(":int")]
    levels = [int(item.value) for item in whole if re.fullmatch(r"\d{1,4}", item.value)]
    if len(levels) == len(items) == 3 and max(levels) <= 255:
        return levels[0], levels[1], levels[2]
    raise DataError(
        f"classes file {path}: the colour of {name!r} must be [r, g, b] from 0 to 255, '#rrggbb', or a number in masks "
        "of numbers",
        path=path,
    )
