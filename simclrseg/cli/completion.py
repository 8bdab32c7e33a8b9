"""What the shell offers on Tab; ``python -m simclrseg.cli.completion`` writes the scripts that ask for it.

A script runs ``simclrseg`` with ``_SIMCLRSEG_COMPLETE=complete_<shell>`` and the words typed so far in the variables
that Typer's own scripts use. The answer comes from the config models alone: importing Typer too would double the wait.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simclrseg.cli.help import SHARED
from simclrseg.cli.shells import FILES, SCRIPTS

if TYPE_CHECKING:
    from simclrseg.knobs.knob import Knob


class Item(NamedTuple):
    """One offer."""

    value: str
    help: str = ""


def respond(environment: Mapping[str, str]) -> str:
    """The answer to a shell; empty where it should offer files.

    Args:
        environment: holds ``_SIMCLRSEG_COMPLETE`` and the words typed so far.
    """
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
        at = int(environment.get("COMP_CWORD") or len(words))
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
    if not words:
        return _matching(_top_level(), incomplete)
    if words[-1] == "--show-completion":
        return _matching(map(Item, SCRIPTS), incomplete)
    knobs = _knobs(words[0])
    option, equals, start = incomplete.partition("=")
    if option == "--set" and equals:
        return [Item(f"--set={item.value}", item.help) for item in _assignments(knobs, words, start)]
    if words[-1] == "--set":
        return _assignments(knobs, words, incomplete)
    if words[-2:-1] == ["--set"] and "=" not in words[-1]:  # bash cuts key=value in three
        return _matching(_values_of_key(words[-1], knobs, words, incomplete), incomplete)
    if equals and option.startswith("--"):
        offers = _matching(_values(option, knobs, words, start), start)
        return [Item(f"{option}={item.value}", item.help) for item in offers]
    if incomplete.startswith("-") and incomplete != "-":
        return _matching(_options(knobs, words), incomplete)
    if _takes_value(words[-1], knobs):
        return _matching(_values(words[-1], knobs, words, incomplete), incomplete)
    arguments = [knob for knob in knobs if knob.argument is not None]
    if arguments:
        return _matching(_offers(arguments[0], words, incomplete), incomplete)
    return _matching(_options(knobs, words), incomplete)


def _matching(items: Iterable[Item], incomplete: str) -> list[Item]:
    offers: dict[str, Item] = {}
    for item in items:
        offers.setdefault(item.value, item)  # a run may bear a published name
    return [item for item in offers.values() if item.value.startswith(incomplete)]


def _top_level() -> Iterator[Item]:
    from simclrseg.cli.app import app

    for command in app.registered_commands:
        yield Item(command.name or "", command.help or "")
    yield from (Item("--help"), Item("--version"), Item("--show-completion", "Print the completion script of a shell."))


def _knobs(command: str) -> list[Knob]:
    from simclrseg.config import CONFIGS
    from simclrseg.knobs.knob import knobs_of

    return list(knobs_of(CONFIGS[command])) if command in CONFIGS else []


def _options(knobs: Sequence[Knob], words: Sequence[str]) -> Iterator[Item]:
    """All options, but for those that are given and take one value."""
    if not knobs:
        return
    for knob in knobs:
        if knob.is_argument or (not knob.values.many and any(name in words for name in knob.spellings)):
            continue
        yield Item(knob.spellings[0], knob.help)
        if knob.negation:
            yield Item(knob.negation, knob.help)
    for name, text in SHARED.items():
        if name == "--set" or name not in words:
            yield Item(name, text)
    yield Item("--help", "Show this message and exit.")


def _takes_value(word: str, knobs: Sequence[Knob]) -> bool:
    return word in {"--config", "-c"} or any(word in knob.spellings and not knob.is_flag for knob in knobs)


def _assignments(knobs: Sequence[Knob], words: Sequence[str], incomplete: str) -> list[Item]:
    """``section.key=`` of a file, or behind it the values of the key."""
    key, equals, start = incomplete.partition("=")
    if equals:
        offers = _matching(_values_of_key(key, knobs, words, start), start)
        return [Item(f"{key}={item.value}", item.help) for item in offers]
    return _matching((Item(f"{knob.key}=", knob.help) for knob in knobs if not knob.transient), incomplete)


def _values_of_key(key: str, knobs: Sequence[Knob], words: Sequence[str], incomplete: str) -> Iterable[Item]:
    knob = next((knob for knob in knobs if key in (knob.key, knob.name)), None)
    if knob is not None and knob.is_flag:
        return map(Item, ("true", "false"))
    return () if knob is None else _offers(knob, words, incomplete)


def _values(option: str, knobs: Sequence[Knob], words: Sequence[str], incomplete: str) -> Iterable[Item]:
    if option in {"--config", "-c"}:
        return _presets(words, incomplete)
    return next((_offers(knob, words, incomplete) for knob in knobs if option in knob.spellings), ())


def _offers(knob: Knob, words: Sequence[str], incomplete: str) -> Iterable[Item]:
    from simclrseg.knobs.values import Completes

    if choices := knob.values.choices:
        return map(Item, map(str, choices))
    completes = knob.marker(Completes)
    return COMPLETERS[completes.what](words, incomplete) if completes else ()


# Completers: words before the cursor and the one being typed -> offers. Where there are none, the shell offers files.


def _nothing(words: Sequence[str], incomplete: str) -> Iterable[Item]:
    return ()


def _presets(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.config.files import PRESETS, presets_of

    for name in presets_of(words[0]):
        with open(PRESETS[name], encoding="utf-8") as file:
            yield Item(name, file.readline().removeprefix("#").strip())
    yield from _files(incomplete, ".yaml", ".yml")


def _datasets(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.data.datasets import DATASETS

    yield from map(Item, DATASETS)
    yield from _folders(incomplete)


def _backbones(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.models import BACKBONES

    return map(Item, BACKBONES)


def _losses(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    """One loss, or one more of a sum."""
    from simclrseg.losses import LOSSES

    begun, plus, _ = incomplete.rpartition("+")
    return (Item(begun + plus + name) for name in LOSSES if name not in begun.split("+"))


def _runs(kind: str) -> Callable[[Sequence[str], str], Iterator[Item]]:
    def completer(words: Sequence[str], incomplete: str) -> Iterator[Item]:
        from simclrseg import runs

        root = words[words.index("--runs") + 1] if "--runs" in words[:-1] else "runs"
        for run in runs.list_runs(Path(root), kind or words[0]):  # type: ignore[arg-type]
            yield Item(run.name, f"finished {run.finished[:10]}" if run.finished else "unfinished")

    return completer


def _published(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.hub.table import PUBLISHED

    return (Item(entry.name, f"{entry.encoder}, {entry.method} on {entry.dataset}") for entry in PUBLISHED.values())


def _pretrained(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    from simclrseg.metadata import WEIGHTS

    yield Item("none", "from scratch")
    yield from _runs("pretrain")(words, incomplete)
    yield from _published(words, incomplete)
    yield from _files(incomplete, *WEIGHTS)


def _models(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    yield from _runs("finetune")(words, incomplete)
    yield from _files(incomplete, ".onnx")


def _folders(incomplete: str) -> Iterator[Item]:
    folder, slash, begun = incomplete.rpartition("/")
    for path in sorted(Path(folder + slash or ".").glob("*/")):
        if begun.startswith(".") or not path.name.startswith("."):
            yield Item(f"{folder}{slash}{path.name}/")


def _files(incomplete: str, *suffixes: str) -> Iterator[Item]:
    folder, slash, _ = incomplete.rpartition("/")
    for path in sorted(Path(folder + slash or ".").glob("*")):
        if path.suffix in suffixes and path.is_file():
            yield Item(folder + slash + path.name)


COMPLETERS: dict[str, Callable[[Sequence[str], str], Iterable[Item]]] = {
    "backbones": _backbones,
    "losses": _losses,
    "datasets": _datasets,
    "files": _nothing,
    "finetune_runs": _runs("finetune"),
    "folders": _nothing,
    "models": _models,
    "presets": _presets,
    "pretrain_runs": _runs("pretrain"),
    "pretrained": _pretrained,
    "published": _published,
    "runs": _runs(""),  # of the command that is typed
}


def main(folder: str = "completions") -> None:
    """Write the four scripts into a folder."""
    for shell, name in FILES.items():
        Path(folder, name).write_text(SCRIPTS[shell], encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
