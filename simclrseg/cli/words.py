"""From the words of a command line, and the file that they name, to a config."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclrseg.cli import console
from simclrseg.cli.options import argument_name
from simclrseg.config.files import find_preset
from simclrseg.errors import UsageError
from simclrseg.knobs.knob import KeyPath, Knob, command_of, knobs_of, look_up, shown
from simclrseg.knobs.parsing import (
    choices,
    chosen_knobs,
    in_sections,
    key_of,
    parse_config,
    read_config_file,
    stored_knobs,
    stored_values,
)
from simclrseg.runs.lookup import find_run
from simclrseg.runs.run import Run
from simclrseg.system.surroundings import check_surroundings
from simclrseg.text import printable

if TYPE_CHECKING:
    from simclrseg.knobs.sections import Section

COMMENT_WIDTH = 100  # columns


@dataclass
class Typed:
    """A command line, read.

    Attributes:
        tree: sections of keys of its file.
        source: the file; empty where there is none.
        given: values of the command line.
        names: what was typed for each of them, as ``--epochs`` or ``--set training.epochs``.
        called: what the file calls keys that it has under another name.
        run: the one to go on with, whose file it is.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    given: dict[KeyPath, Any] = field(default_factory=dict)
    names: dict[KeyPath, str] = field(default_factory=dict)
    called: dict[KeyPath, str] = field(default_factory=dict)
    run: Run | None = None

    def config(self, model: type[Section], *, of_a_run: bool, begun_in: Path | None = None) -> Section:
        return parse_config(
            model,
            self.tree,
            source=self.source,
            given=self.given,
            names=self.called | self.names,
            of_a_run=of_a_run,
            begun_in=begun_in,
        )


def config_from(model: type[Section], words: Mapping[str, Any], varied: Sequence[str] = ()) -> Section:
    """Build the config of a command.

    Args:
        words: what Typer read, by name of the parameter; None or empty where an option was not given.
        varied: further assignments, as of ``--set``, of one combination of ``--vary``.
    """
    check_surroundings(command_of(model))
    typed = _read(model, words, varied)
    run = typed.run
    return typed.config(model, of_a_run=run is not None, begun_in=run.begun_in if run else None)


def print_config(model: type[Section], words: Mapping[str, Any]) -> str:
    """All keys of the config with their values and what they mean, as a YAML file that ``--config`` takes.

    What a command cannot do without, as the images to learn from, need not be there: its line is left for the user.
    """
    typed = _read(model, words)
    missing = {
        knob.path: [knob.flag]
        for knob in knobs_of(model)
        if knob.info.is_required() and knob.path not in typed.given and look_up(typed.tree, knob.path) is None
    }
    typed.given |= missing
    config = typed.config(model, of_a_run=bool(missing))  # which nothing is asked of
    command = command_of(model)
    return "\n".join([f"# simclrseg {command} --config FILE", f"command: {command}", *_explained(config, missing)])


def _explained(config: Section, missing: Collection[KeyPath]) -> Iterator[str]:
    """Lines of YAML with comments; those of keys that have no value yet are comments too."""
    import yaml

    values = stored_values(config)
    section: str | None = None
    for knob in stored_knobs(config):
        if knob.path[0] != section:
            section = knob.path[0]
            yield from ("", f"{section}:  # {knob.panel}")
        text = f"{knob.help} {knob.metavar.replace('|none>', '|null>')}"
        lines = textwrap.wrap(text, COMMENT_WIDTH, break_on_hyphens=False, break_long_words=False)
        yield from (f"  # {line}" for line in lines)
        if knob.path in missing:
            yield f"  # {knob.name}:"
            continue
        tree = {knob.name: look_up(values, knob.path)}
        style: dict[str, Any] = {"default_flow_style": None, "width": float("inf")}
        line = yaml.safe_dump(tree, allow_unicode=True, **style)
        if any(printable(part) != part for part in line.split("\n")):
            line = yaml.safe_dump(tree, **style)  # which writes them as YAML escapes them
        yield "  " + line.removeprefix("{").removesuffix("}\n").rstrip()


def _read(model: type[Section], words: Mapping[str, Any], varied: Sequence[str] = ()) -> Typed:
    assignments = [_assignment(text) for text in words.get("assignments") or ()]
    others = [_assignment(text, "--vary") for text in varied]
    file: str | None = words["config_file"]
    typed = Typed()
    if run := words.get("resume"):
        if file is not None:
            raise UsageError("--resume takes the run's own configuration", "leave out --config", option="resume")
        (default,) = (knob.info.default for knob in knobs_of(model) if knob.name == "runs")
        root = Path(words.get("runs") or default)
        typed.run = find_run(root, command_of(model), run)  # type: ignore[arg-type]
        file = str(typed.run.folder / "config.yaml")
    if file is not None:
        path = find_preset(file)
        typed.source = str(path)
        read = partial(_translated, model, typed) if "training" in model.model_fields else None
        typed.tree = in_sections(model, read_config_file(path, command_of(model), other=read), source=typed.source)
    keys = {key.rpartition(".")[2]: value for key, value in [*assignments, *others]}
    chosen = [words, keys, choices(model, typed.tree)]
    given = [*_options(chosen_knobs(model, *chosen), words), *_set(model, assignments, chosen)]
    for knob, value, name in [*given, *_set(model, others, chosen, option="--vary")]:
        before = typed.given.setdefault(knob.path, value)
        first = typed.names.setdefault(knob.path, name)
        if before is not value and before != value:  # from Python one may be nan, which no value equals
            raise UsageError(
                f"{first} {shown(before)} and {name} {shown(value)} are not the same",
                "leave one out",
                option=knob.name,
                value=value,
            )
    return typed


def _translated(model: type[Section], typed: Typed, tree: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file of another tool in keys of this one, and say what was read as what."""
    from simclrseg.config.others import translate

    found = translate(model, tree, path)
    typed.called = found.typed
    for line in found.notes:
        console.note(line)
    for line in found.warnings:
        console.note(line, level=logging.WARNING)
    return found.tree


def _options(knobs: Mapping[str, Knob], words: Mapping[str, Any]) -> Iterator[tuple[Knob, Any, str]]:
    """Options and arguments that were given: knob, value, and how messages call it."""
    for knob in knobs.values():
        argument = {argument_name(knob): knob.argument} if knob.argument else {}
        names = argument | {knob.name: knob.flag}
        for name, called in names.items():
            if (word := words.get(name)) not in (None, (), []):
                yield knob, _value(knob, word), called.strip("[].")


def _value(knob: Knob, word: Any) -> Any:
    """The value that a word stands for; ``none`` undoes a value of the file where the knob may have none."""
    if word == "none" and knob.may_be_none:
        return None
    return list(word) if isinstance(word, tuple) else word


def _assignment(text: str, option: str = "--set") -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        reason = f"{option} {text} is not a key and its value, such as training.epochs=5"
        raise UsageError(reason, option=option.strip("-"), value=text)
    return key.strip(), value.strip()


def _set(
    model: type[Section],
    assignments: Sequence[tuple[str, str]],
    chosen: Sequence[Mapping[str, Any]],
    *,
    option: str = "--set",
) -> Iterator[tuple[Knob, Any, str]]:
    """The values of ``--set``; of a key that is set more than once the last value holds, and a list gets them all."""
    found: dict[KeyPath, tuple[Knob, Any, str]] = {}
    for key, text in assignments:
        knob = key_of(model, key, *chosen, source=f"{option} {key}")
        if knob.transient:
            reason = f"{option} {key}: is no key of a file but belongs to one call"
            raise UsageError(reason, f"type {knob.flag}", option=option.strip("-"), value=key)
        value: Any = text.replace(",", " ").split() if knob.values.length else text
        if knob.values.many:
            value = [*(found[knob.path][1] if knob.path in found else ()), text]
        found[knob.path] = knob, _value(knob, value), f"{option} {key}"
    yield from found.values()
