"""Keys of other tools' configs, one by one: what each is here, or why it is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from simclrseg.config import CONFIGS
from simclrseg.config.files import PRESETS, presets_of
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.config.spellings import (
    ACCUMULATION,
    COLOURS,
    CROPS,
    FLIPS,
    FREEZING,
    KEYS,
    NETWORKS,
    NOT_BY_NAME,
    NOT_HERE,
    PRECISION,
    PRECISIONS,
    STARTS,
    STEPS,
    TEST,
    TRAIN,
    VALIDATION,
    VALUES,
)
from simclrseg.knobs.knob import KeyPath, Knob, command_of, knobs_of, look_up, put, shown
from simclrseg.knobs.parsing import choices, chosen_knobs, of_another_choice, parse_config_file
from simclrseg.knobs.sections import Section
from simclrseg.knobs.values import KeyOnly
from simclrseg.models import BACKBONES
from simclrseg.registry import canonical

TRAININGS = ("pretrain", "finetune")
"""Commands that such a file may be for."""


class Reading:
    """The keys of a file, and what has become of them.

    Attributes:
        given: what is not read yet, by their path.
        same: those that are called as here.
        read_as: name and value of the others, and what they were read as.
        typed: their names by our key.
        needless: those without a counterpart that none is needed of, and why.
        unknown: those that are left out, and why.
        knobs: ours by name that mean something for the method or task, once that is known.
        elsewhere: the names of the others.
    """

    def __init__(self, model: type[Section], given: Mapping[KeyPath, Any]) -> None:
        self.model, self.given = model, dict(given)
        self.tree: dict[str, Any] = {}
        self.same: list[KeyPath] = []
        self.read_as: list[tuple[str, Any, str]] = []
        self.typed: dict[KeyPath, str] = {}
        self.needless: list[tuple[str, str]] = []
        self.unknown: list[tuple[str, str]] = []
        self.knobs: dict[str, Knob] = chosen_knobs(model)
        self.elsewhere: set[str] = set()

    def read(self) -> None:
        self._networks()
        chosen = choices(self.model, self.tree)
        self.elsewhere = of_another_choice(self.model, chosen)
        knobs = chosen_knobs(self.model, chosen)
        self.knobs = {name: knob for name, knob in knobs.items() if name not in self.elsewhere}
        rules = (self._ratios, self._start, self._freezing, self._precision, self._augmentation, self._normalization)
        for rule in rules:
            rule()
        self._own()
        for path in list(self.given):
            self._take(path, self._longest(path, _SPELLINGS) or self._bare(path), self.given[path])
        self._accumulation()
        for path, value in list(self.given.items()):
            if value is None and path[0] in self.model.model_fields and len(path) == 1:
                continue  # a section without keys
            self._refuse(path)

    def _networks(self) -> None:
        """Methods, tasks, encoders and decoders, which many keys may name."""
        tables = {
            name: knob.values.choices for name, knob in self.knobs.items() if name in ("method", "task", "decoder")
        }
        tables["backbone"] = list(BACKBONES)
        for path, value in self._found(NETWORKS):
            for name, table in tables.items():
                meant = _value(name, str(value))
                if canonical(meant, table) in table or (name == "backbone" and meant.startswith("tu-")):
                    self._take(path, name, canonical(meant, table), said=value)
                    break

    def _own(self) -> None:
        """Keys that are called as here."""
        by_path = {knob.path: knob for knob in self.knobs.values() if not knob.transient}
        for path in list(self.given):
            if (knob := by_path.get(path)) is not None:
                self._take(path, knob.name, self.given[path], knob=knob)

    def _ratios(self) -> None:
        """Shares of all photos, of which validation is one of the development photos here."""
        if "test_split" not in self.knobs:
            return
        test, validation, train = (next(self._found(names), (None, None)) for names in (TEST, VALIDATION, TRAIN))
        shares = [_share(value) for _, value in (test, validation, train)]
        if shares[0] is None and shares[1] is not None and shares[2] is not None:
            left = round(1 - shares[1] - shares[2], 6)
            shares[0] = left if 0 < left < 1 else None
        for (path, value), share, name in zip((test, validation), shares, ("test_split", "validation"), strict=False):
            if path is None or share is None:
                continue
            rest = 1 - (shares[0] or 0) if name == "validation" else 1
            if share < rest:
                self._take(path, name, round(share / rest, 4), said=value)
        if shares[0] is not None and test[0] is None and train[0] is not None:
            self._take(train[0], "test_split", shares[0], said=train[1])

    def _start(self) -> None:
        """The weights to start from: none, those of ImageNet, a file, or what a preset of that name makes."""
        name = "pretrained" if "pretrained" in self.knobs else "init"
        for path, value in self._found(STARTS):
            if not isinstance(value, str | bool | None):
                continue
            text = value if isinstance(value, str) else "imagenet" if value else "none"
            if text.lower() in ("", "random", "baseline", "scratch"):
                text = "none"
            made_by = text.partition("/")[0]
            if made_by in presets_of("pretrain") and not os.path.exists(text):
                text = parse_config_file(PretrainConfig, PRESETS[made_by]).run_name
            self._take(path, name, text, said=value)

    def _freezing(self) -> None:
        for path, value in self._found(FREEZING):
            if isinstance(value, bool) and "unfreeze" in self.knobs:
                self._take(path, "unfreeze", "head" if value else "all", said=value)

    def _precision(self) -> None:
        for path, value in self._found(PRECISION):
            if isinstance(value, bool):
                self._take(path, "precision", "auto" if value else "fp32", said=value)
            elif (meant := PRECISIONS.get(str(value), str(value))) in ("fp32", "fp16", "bf16", "auto"):
                self._take(path, "precision", meant, said=value)

    def _accumulation(self) -> None:
        """Batches that are added up before a step: here one batch in micro-batches, where its loss is a mean."""
        size = look_up(self.tree, ("training", "batch_size"))
        for path, value in self._found(ACCUMULATION):
            if "unfreeze" not in self.knobs or not (_is_count(value) and _is_count(size)):
                continue  # of contrasts, which compare a whole batch
            put(self.tree, self.knobs["batch_size"].path, size * value)
            put(self.tree, self.knobs["micro_batch"].path, size)
            self._note(path, value, f"training.batch_size {size * value} in micro-batches of {size}")

    def _augmentation(self) -> None:
        knob = self.knobs.get("augmentation")
        for path, value in self._found(STEPS):
            if knob is None or not isinstance(value, list):
                continue
            steps = [next(iter(step), "") if isinstance(step, Mapping) else str(step) for step in value]
            kinds = [_kind_of_step(step) for step in steps]
            if "color" not in knob.values.choices:  # of views, which are always coloured
                chosen = "whole" if set(kinds) <= {"flip", "color"} else None
            else:
                chosen = next((kind for kind in ("standard", "color", "flip") if kind in kinds), "none")
            if chosen and None not in kinds:
                self._take(path, "augmentation", chosen, said=", ".join(steps))
        for path, value in self._found(("augmentation",)):
            if look_up(self.tree, ("data", "augmentation")) is not None:
                self._note(path, value, "what its steps say")
            elif knob is not None and canonical(str(value), knob.values.choices) in knob.values.choices:
                self._take(path, "augmentation", value)

    def _normalization(self) -> None:
        found = {}
        for name in ("mean", "std"):
            for path, value in self._found((f"normalization.{name}", f"normalize.{name}", name)):
                if isinstance(value, list):
                    found[name] = path, value
        if "normalization" in self.knobs and len(found) == 2:
            knob = self.knobs["normalization"]
            put(self.tree, knob.path, json.dumps({name: value for name, (_, value) in found.items()}))
            for name, (path, value) in found.items():
                self._note(path, value, f"the {name} of {knob.key}")

    def _found(self, spellings: Sequence[str]) -> Iterator[tuple[KeyPath, Any]]:
        """What is left of the keys that end so."""
        names = {_folded(spelling): spelling for spelling in spellings}
        for path in list(self.given):
            if self._longest(path, names):
                yield path, self.given[path]

    @staticmethod
    def _longest(path: KeyPath, names: Mapping[KeyPath, str]) -> str | None:
        tail = _folded(".".join(path))
        return next((names[tail[start:]] for start in range(len(tail)) if tail[start:] in names), None)

    def _bare(self, path: KeyPath) -> str:
        """The knob that is called as the last name."""
        name = canonical(path[-1], self.knobs)
        knob = self.knobs.get(name)
        if knob is None or knob.transient or knob.marker(KeyOnly) is not None or name in NOT_BY_NAME:
            return ""
        return name

    def _take(self, path: KeyPath, name: str, value: Any, *, said: Any = None, knob: Knob | None = None) -> None:
        """Give a knob a value, if there is such a knob and that is one of its choices."""
        said = value if said is None else said
        if isinstance(value, str):
            value = _value(name, value)
        if name == "image_size" and isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        knob = knob or self.knobs.get(name)
        if knob is None or not _fits(knob, value):
            return
        self.given.pop(path)
        if look_up(self.tree, knob.path) not in (None, value):
            self.unknown.append((dotted(path), f"{knob.key} is given already"))
            return
        put(self.tree, knob.path, value)
        ours = f"{knob.key} {shown(knob.values.canonical(value))}"
        if path == knob.path and said == value:
            self.same.append(path)
        else:
            self.read_as.append((dotted(path), said, ours))
            self.typed[knob.path] = dotted(path)

    def _note(self, path: KeyPath, value: Any, ours: str) -> None:
        self.given.pop(path)
        self.read_as.append((dotted(path), value, ours))

    def _refuse(self, path: KeyPath) -> None:
        value, reasons = self.given.pop(path), {_folded(name): why for name, why in NOT_HERE.items()}
        name = self._longest(path, _SPELLINGS) or self._bare(path)
        if name in self.knobs:
            why = f"{shown(value)} is not {self.knobs[name].values.in_words()}"
        elif known := self._longest(path, reasons):
            self.needless.append((dotted(path), known))
            return
        elif self.model.CHOICE is not None and {name, path[-1]} & self.elsewhere:
            why = f"it is for another {self.model.CHOICE[1]}"
        elif other := self._another_commands(path):
            why = f"it is for `simclrseg {other}`"
        else:
            close = get_close_matches(path[-1], [knob.name for knob in self.knobs.values() if not knob.transient], n=1)
            why = "it is not known" + (f"; the nearest key is {self.knobs[close[0]].key}" if close else "")
        self.unknown.append((dotted(path), why))

    def _another_commands(self, path: KeyPath) -> str | None:
        """The command that has a knob of this key where this one has none."""
        shares = dict.fromkeys(map(_folded, (*TEST, *VALIDATION)), "test_split")
        name = self._longest(path, _SPELLINGS | shares) or path[-1]
        if name in NOT_BY_NAME:
            return None
        for command in TRAININGS:
            known = {knob.name for knob in knobs_of(CONFIGS[command]) if not knob.transient}
            if command != command_of(self.model) and name in known:
                return command
        return None


def _folded(dotted: str) -> KeyPath:
    return tuple(name.casefold().replace("_", "").replace("-", "") for name in dotted.split("."))


_SPELLINGS = {_folded(spelling): name for name, spellings in KEYS.items() for spelling in spellings}


def dotted(path: KeyPath) -> str:
    return ".".join(path)


def _value(name: str, value: str) -> str:
    table = VALUES.get(name, {})
    return table.get(canonical(value, table), value)


def _fits(knob: Knob, value: Any) -> bool:
    """Tell whether a value may be the knob's, as far as names go; numbers are checked with all others."""
    values = knob.values
    if value is None:
        return values.optional
    if not isinstance(value, str) or {"text", "path"} & set(values.kinds):
        return not isinstance(value, Mapping)
    names = list(map(str, values.choices))
    return canonical(value, names) in names or (bool(values.kinds) and _is_number(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _share(value: Any) -> float | None:
    """A share of the photos; None for what is none, as a number of them."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not _is_number(str(value)):
        return None
    return float(value) if 0 < float(value) < 1 else None


def _kind_of_step(step: str) -> str | None:
    for kind, names in (("flip", FLIPS), ("color", COLOURS), ("standard", CROPS)):
        if canonical(step, names) in names:
            return kind
    return None
