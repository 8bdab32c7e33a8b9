"""What the shell offers on Tab; ``python -m simclrseg.cli.completion`` writes what that needs.

A script runs ``simclrseg`` with ``_SIMCLRSEG_COMPLETE=complete_<shell>`` and the words typed so far in the variables
that Typer's own scripts use. The answer comes from ``knobs.json``, where the commands and their knobs are written down:
to import Typer and the config models takes longer than a shell should wait.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simclrseg.cli.help import SHARED
from simclrseg.cli.shells import FILES, SCRIPTS
from simclrseg.registry import Registry, declared, imported
from simclrseg.text import printable

if TYPE_CHECKING:
    from simclrseg.knobs.knob import Knob

TABLE = Path(__file__).with_name("knobs.json")
"""What ``table`` gives; a test holds it fresh."""
_OF_SHELLS = frozenset(" \"'`$&|;<>()[]{}*?!~#^%\\")


class Item(NamedTuple):
    """One offer."""

    value: str
    help: str = ""


class Option(NamedTuple):
    """A knob, as far as a completion needs it."""

    key: str
    help: str
    spellings: Sequence[str] = ()
    negation: str | None = None
    flag: bool = False
    many: bool = False
    argument: bool = False  # it can be typed without a name
    transient: bool = False
    choices: Iterable[object] | str = ()  # or where the table of them is, as module:name
    completes: str = ""  # a key of COMPLETERS

    @classmethod
    def of(cls, knob: Knob) -> Option:
        from simclrseg.knobs.knob import attribute_docstring
        from simclrseg.knobs.values import Completes

        return cls(
            knob.key,
            attribute_docstring(knob.section, knob.name),  # without names of a table, which are offered themselves
            knob.spellings,
            knob.negation,
            knob.is_flag,
            knob.values.many,
            knob.argument is not None,
            knob.transient,
            knob.marker(Registry) or knob.values.choices,
            getattr(knob.marker(Completes), "what", ""),
        )


def options_of(command: str) -> list[Option]:
    """The knobs of a command; none where there is no such command."""
    if declared("[simclrseg."):  # another package may bring knobs of its own
        return _read_models(command)
    _, *rows = json.loads(TABLE.read_text(encoding="utf-8")).get(command, [""])
    return [Option(**row) for row in rows]


def _read_models(command: str) -> list[Option]:
    from simclrseg.config import CONFIGS
    from simclrseg.knobs.knob import knobs_of

    return [Option.of(knob) for knob in knobs_of(CONFIGS[command])] if command in CONFIGS else []


def respond(environment: Mapping[str, str]) -> str:
    """The answer to a shell, whose environment says what was typed; empty where it should offer files."""
    shell = environment["_SIMCLRSEG_COMPLETE"].removeprefix("complete_")
    words, incomplete = _words(shell, environment)
    items = complete(words, incomplete)
    if shell == "zsh":  # the parts of `_describe`
        return "\n".join(f"{i.value.replace(':', chr(92) + ':')}:{i.help}" for i in items)
    if shell == "fish":
        return "\n".join(f"{i.value}\t{i.help}" for i in items)
    if shell in {"powershell", "pwsh"}:
        return "\n".join(f"{i.value}:::{i.help or ' '}" for i in items)
    return "\n".join(i.value for i in items)


def _words(shell: str, environment: Mapping[str, str]) -> tuple[list[str], str]:
    """The whole words after the program's name, and the one being typed."""
    if shell == "bash":
        words = _split(environment.get("COMP_WORDS", ""))
        number = environment.get("COMP_CWORD", "")
        at = int(number) if re.fullmatch(r"[0-9]{1,6}", number) else len(words)
        before, incomplete = words[1:at], words[at] if at < len(words) else ""
        # bash cuts `--option=value` in three
        return [word for word in before if word != "="], "" if incomplete == "=" else incomplete
    line = environment.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    if shell in {"powershell", "pwsh"}:
        incomplete = environment.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
        return (words[:-1] if incomplete else words), incomplete
    if words and not line.endswith(" "):
        return words[:-1], words[-1]
    return words, ""


def _split(line: str) -> list[str]:
    """Words as a shell splits them; a quote that is still open does no harm."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str | None] = []
    try:
        words.extend(iter(lexer.get_token, None))
    except ValueError:
        words.append(lexer.token)
    return [word for word in words if word is not None]


def complete(words: Sequence[str], incomplete: str) -> list[Item]:
    """Words that may stand where the cursor is.

    Args:
        words: those before the cursor, without the program's name.
        incomplete: what is typed of the next one.
    """
    offers: dict[str, Item] = {}
    for item in _offers(words, incomplete):
        if item.value.startswith(incomplete):
            offers.setdefault(item.value, item)  # a run may bear a published name
    return list(offers.values())


def _offers(words: Sequence[str], incomplete: str) -> Iterable[Item]:
    if not words:
        return _top_level()
    if words[-1] == "--show-completion":
        return map(Item, SCRIPTS)
    line = Line(words)
    option, equals, start = incomplete.partition("=")
    if equals and option.startswith("--"):
        return _behind(f"{option}=", line.values(option, start))
    if words[-2:-1] in (["--set"], ["--vary"]) and "=" not in words[-1]:  # bash cuts key=value in three
        return line.values_of_key(words[-1], incomplete, several=words[-2] == "--vary")
    if incomplete.startswith("-") and incomplete != "-" and words[-1] not in ("--set", "--vary"):
        return line.options()
    if line.takes_value(words[-1]):
        return line.values(words[-1], incomplete)
    argument = next((knob for knob in line.knobs if knob.argument), None)
    return line.options() if argument is None else line.values_of(argument, incomplete)


class Line:
    """The words before the cursor, and the knobs of their command."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.knobs = options_of(words[0])

    def options(self) -> Iterator[Item]:
        """All options, but for those that are given and take one value."""
        if not self.knobs:
            return
        for knob in self.knobs:
            if not knob.spellings or (not knob.many and any(name in self.words for name in knob.spellings)):
                continue
            yield Item(knob.spellings[0], knob.help)
            if knob.negation:
                yield Item(knob.negation, knob.help)
        trains = any(knob.key.startswith("training.") for knob in self.knobs)
        for name, text in SHARED.items():
            if name == "--set" or (name == "--vary" and trains) or name not in (*self.words, "--vary"):
                yield Item(name, text)
        yield Item("--help", "Show this message and exit.")

    def takes_value(self, word: str) -> bool:
        shared = word in {"--config", "-c", "--set", "--vary"}
        return shared or any(word in knob.spellings and not knob.flag for knob in self.knobs)

    def values(self, option: str, incomplete: str) -> Iterable[Item]:
        """Values of an option: behind ``--set`` and ``--vary`` a file's ``section.key=``, then values of the key."""
        if option in {"--config", "-c"}:
            return _presets(self.words, incomplete)
        if option not in ("--set", "--vary"):
            knob = next((knob for knob in self.knobs if option in knob.spellings), None)
            return self.values_of(knob, incomplete)
        key, equals, start = incomplete.partition("=")
        if equals:
            return _behind(f"{key}=", self.values_of_key(key, start, several=option == "--vary"))
        return (Item(f"{knob.key}=", knob.help) for knob in self.knobs if not knob.transient)

    def values_of_key(self, key: str, incomplete: str, *, several: bool = False) -> Iterable[Item]:
        begun, comma, last = incomplete.rpartition(",")
        if several and comma:
            return _behind(begun + comma, self.values_of_key(key, last))
        knob = next((knob for knob in self.knobs if key in (knob.key, knob.key.rpartition(".")[2])), None)
        if knob is not None and knob.flag:
            return map(Item, ("true", "false"))
        return self.values_of(knob, incomplete)

    def values_of(self, knob: Option | None, incomplete: str) -> Iterable[Item]:
        if knob is None:
            return ()
        if choices := imported(knob.choices) if isinstance(knob.choices, str) else knob.choices:
            return map(Item, map(str, choices))
        return COMPLETERS[knob.completes](self.words, incomplete) if knob.completes else ()


def _behind(typed: str, items: Iterable[Item]) -> Iterator[Item]:
    return (Item(typed + item.value, item.help) for item in items)


def _top_level() -> Iterator[Item]:
    for command, (sentence, *_) in json.loads(TABLE.read_text(encoding="utf-8")).items():
        yield Item(command, sentence)
    yield from (Item("--help"), Item("--version"), Item("--show-completion", "Print the completion script of a shell."))


# Completers: words before the cursor and the one being typed -> offers. Where there are none, the shell offers files.


def _presets(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.config.files import PRESETS, presets_of

    for name in presets_of(words[0]):
        with open(PRESETS[name], encoding="utf-8") as file:
            yield Item(name, file.readline().removeprefix("#").strip())
    yield from _files(incomplete, ".yaml", ".yml")


def _datasets(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.data.datasets import DATASETS, LABEL_SUFFIXES

    yield from map(Item, DATASETS)
    folder, slash, begun = incomplete.rpartition("/")
    for path in sorted(Path(folder + slash or ".").glob("*/")):
        if _typable(path.name) and (begun.startswith(".") or not path.name.startswith(".")):
            yield Item(f"{folder}{slash}{path.name}/")
    yield from _files(incomplete, *LABEL_SUFFIXES)


def _backbones(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.models import BACKBONES

    return map(Item, BACKBONES)


def _losses(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.losses import LOSSES

    return _one_more(LOSSES, incomplete)


def _mask_rules(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.labels import NAMING, RULES

    behind = {name: ":" if name in NAMING else ":128" for name, what in RULES.items() if what}
    return _one_more([name + behind.get(name, "") for name in RULES], incomplete)


def _one_more(names: Iterable[str], incomplete: str) -> Iterator[Item]:
    """One name, or one more of a sum."""
    begun, plus, _ = incomplete.rpartition("+")
    return (Item(begun + plus + name) for name in names if name not in begun.split("+"))


def _runs(words: Sequence[str], kind: str) -> Iterator[Item]:
    from simclrseg.runs.lookup import list_runs

    root = words[words.index("--runs") + 1] if "--runs" in words[:-1] else "runs"
    for run in list_runs(Path(root), kind):  # type: ignore[arg-type]
        if _typable(run.name):
            yield Item(run.name, f"finished {run.finished[:10]}" if run.finished else "unfinished")


def _published(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.hub.table import PUBLISHED

    return (Item(entry.name, f"{entry.encoder}, {entry.how} on {entry.dataset}") for entry in PUBLISHED.values())


def _pretrained(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.runs.names import WEIGHTS

    yield Item("none", "from scratch")
    yield from _runs(words, "pretrain")
    yield from _published(words, incomplete)
    yield from _files(incomplete, *WEIGHTS)


def _models(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.weights.shipped import PETS

    yield from _runs(words, "finetune")
    if words[0] == "predict":
        yield Item(PETS.name, f"comes with simclrseg: it {PETS.does}")
    yield from _files(incomplete, ".onnx")


def _files(incomplete: str, *suffixes: str) -> Iterator[Item]:
    folder, slash, _ = incomplete.rpartition("/")
    for path in sorted(Path(folder + slash or ".").glob("*")):
        if path.name.endswith(suffixes) and _typable(path.name) and path.is_file():
            yield Item(folder + slash + path.name)


def _typable(name: str) -> bool:
    """Tell whether a shell takes a name as it stands; others are left to its own completion, which quotes them."""
    return _OF_SHELLS.isdisjoint(name) and printable(name) == name


COMPLETERS: dict[str, Callable[[Sequence[str], str], Iterable[Item]]] = {
    "backbones": _backbones,
    "losses": _losses,
    "mask_rules": _mask_rules,
    "datasets": _datasets,
    "files": lambda words, incomplete: (),
    "finetune_runs": lambda words, incomplete: _runs(words, "finetune"),
    "folders": lambda words, incomplete: (),
    "models": _models,
    "pretrained": _pretrained,
    "published": _published,
    "runs": lambda words, incomplete: _runs(words, words[0]),
}


def table() -> str:
    """The text of ``knobs.json``: the sentence of each command, and its knobs, a line each, without what is empty.

    What tables hold is not in it, but where they are: a new line in one is offered at once.
    """
    from simclrseg.cli.app import app

    blocks = []
    for name, sentence in ((command.name or "", command.help) for command in app.registered_commands):
        knobs = ({key: value for key, value in knob._asdict().items() if value} for knob in _read_models(name))
        rows = ",\n".join(json.dumps(row, ensure_ascii=False, default=_address) for row in (sentence, *knobs))
        blocks.append(f'"{name}": [{rows}]')
    return "{" + ",\n".join(blocks) + "}\n"


def _address(table: Registry) -> str:
    """Where a table is: in the ``__init__`` of a package of ours, which is imported."""
    ours = [(name, vars(module)) for name, module in sys.modules.items() if name.startswith("simclrseg.")]
    packages = [(name, held) for name, held in ours if "__path__" in held]
    return next(f"{name}:{key}" for name, held in packages for key, value in held.items() if value is table)


def main(folder: str = "completions", knobs: str | Path = TABLE) -> None:
    """Write the four scripts into a folder, and the commands' knobs into a file."""
    texts = {Path(folder, name): SCRIPTS[shell] for shell, name in FILES.items()} | {Path(knobs): table()}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
