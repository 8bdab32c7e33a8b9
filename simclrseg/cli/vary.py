"""`--vary KEY=VALUE,VALUE`: a training for each combination of values, one after the other, and their table."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclrseg.charts.chart import read_table
from simclrseg.cli import console
from simclrseg.cli.launch import LAUNCHER, handed_on
from simclrseg.cli.words import config_from
from simclrseg.config.smaller import command_line
from simclrseg.errors import GateError, Interrupted, RunError, TrainingError, UsageError
from simclrseg.knobs.knob import command_of, knobs_of
from simclrseg.knobs.parsing import config_of_run
from simclrseg.runs.names import ENVIRONMENT, LONGEST_NAME, TEST_FILE
from simclrseg.runs.run import Run
from simclrseg.scores.wording import duration
from simclrseg.system.content import read_json
from simclrseg.system.signals import INTERRUPTED
from simclrseg.training.knobs import RESUMABLE, differing, values_by_key

if TYPE_CHECKING:
    from simclrseg.config.finetune import FinetuneConfig
    from simclrseg.config.pretrain import PretrainConfig
    from simclrseg.knobs.sections import Section

log = logging.getLogger("simclrseg.vary")

SEED = "seed"
STOPPED = (129, INTERRUPTED, 143)
"""Exit codes of a training that was asked to stop, and has saved its state."""

_wrong = partial(UsageError, option="vary")

Start = Callable[[Sequence[str], bool], tuple[int, str]]
"""Runs a command line to its end; gives its exit code and, where it is to be caught, its output."""


@dataclass(frozen=True)
class Variant:
    """One of the trainings.

    Attributes:
        values: as they were typed, by key.
    """

    config: PretrainConfig | FinetuneConfig
    values: Mapping[str, str]

    @property
    def run(self) -> Run:
        """Its run, which need not be there."""
        config = self.config
        return Run(Path(config.console.runs) / command_of(type(config)) / str(config.run.name))

    @property
    def but_seed(self) -> tuple[tuple[str, str], ...]:
        """Its values but for that of a seed."""
        return tuple((key, value) for key, value in self.values.items() if key.rpartition(".")[2] != SEED)

    def is_trained(self) -> bool:
        """Tell whether there is nothing left to do; a RunError says that another training bears its name."""
        run = self.run
        if self.config.run.overwrite or not run.holds(ENVIRONMENT):
            return False
        if keys := differing(config_of_run(type(self.config), run.folder), self.config):
            raise RunError(
                f"--vary: {run.folder} was trained with other values of {', '.join(keys)}",
                "pass another --name, or --overwrite",
                path=run.folder,
                option="vary",
            )
        return run.finished is not None

    def words(self) -> list[str]:
        """The command that trains it: of a run that has begun, the one that resumes it, with what may differ by now."""
        config, run = self.config, self.run
        if run.started and not run.finished and not config.run.overwrite:
            words = [run.kind, "--resume", run.name, "--runs", config.console.runs]
            now, before = (values_by_key(one) for one in (config, config_of_run(type(config), run.folder)))
            for knob in (knob for knob in knobs_of(type(config)) if knob.key in RESUMABLE - {"console.runs"}):
                if now[knob.key] not in (before[knob.key], knob.info.get_default(call_default_factory=True)):
                    words += knob.typed(now[knob.key])
            return words
        return [*command_line(config), *(["--overwrite"] if run.folder.exists() else [])]

    def row(self) -> dict[str, Any]:
        """What its run found: its values, its test scores, else the figures of its last epoch, and its time."""
        folder = self.run.folder
        last = read_table(folder / "metrics.csv")[-1]
        seconds = sum(float(row["seconds"]) for row in read_table(folder / "timing.csv"))
        figures = {name: int(text) if text.isdecimal() else float(text) for name, text in last.items() if text}
        found = {name.removeprefix("val_").replace("train_", "training "): value for name, value in figures.items()}
        if (folder / TEST_FILE).exists():
            scores = read_json(folder / TEST_FILE)
            at = next((scores[name] for name in ("original", "training") if name in scores), scores)
            found = {"epoch": figures["epoch"], **{f"test {name}": value for name, value in at["metrics"].items()}}
        return {"name": self.run.name, **self.values, **found, "time": duration(seconds)}


def vary(model: type[Section], words: Mapping[str, Any], texts: Sequence[str], *, start: Start | None = None) -> None:
    """Train what is not trained yet, print what came of all.

    Each training is a command of its own, so that it computes as if it were the only one, and its end is not that of
    the others: those that have failed are named when all are through.

    Args:
        words: of the command line, as for ``config_from``.
        texts: ``key=value,value``, of which every combination is trained, and of seeds the first with all others first.
        start: in place of new processes.
    """
    if processes := os.environ.get("WORLD_SIZE"):
        raise _wrong(
            f"--vary starts its trainings itself, and was itself started in {processes} processes",
            f"leave torchrun out, and pass --devices {processes}",
        )
    start = start or _in_a_process
    variants = list(_variants(model, words, texts))
    first = variants[0].config
    with console.session(quiet=first.console.quiet):
        left = [one for one in variants if not one.is_trained()]
        forecast(variants, left, start)
        if first.run.dry_run:
            return
        failed = []
        for number, one in enumerate(left, start=1):
            log.info(f"{number} of {len(left)}: {one.run.name}")
            code, _ = start([*one.words(), *(["--quiet"] if first.console.quiet else [])], False)
            if one.run.finished and not code:
                shutil.rmtree(one.run.folder / "checkpoints", ignore_errors=True)
            if code in STOPPED:
                then = "goes on, and leaves out what is finished"
                if first.run.overwrite:  # which finished runs are new, it cannot know
                    again = one.run.command(f"{one.run.kind} --resume")
                    then = f"begins anew, and `{again}` goes on with this one alone"
                raise Interrupted(f"stopped in {one.run.name}; the same command {then}", signum=code - 128)
            if code:
                failed.append(one.run.name)
                log.warning(f"{one.run.name} ended with exit code {code}")
    _show([one for one in variants if one.run.finished and one.run.name not in failed], start)
    if failed:
        again = "the same command without --overwrite" if first.run.overwrite else "the same command"
        raise GateError(
            f"{len(failed)} of {len(variants)} trainings failed: {', '.join(failed)}",
            f"the lines above say why; {again} tries these again",
            option="vary",
        )


def forecast(variants: Sequence[Variant], left: Sequence[Variant], start: Start) -> None:
    """Check each combination by a dry run, and say how many trainings there are, how long they take, and how much disk.

    Seeds cost the same, so that one of them is tried.
    """
    tried: dict[tuple[tuple[str, str], ...], Mapping[str, Any]] = {}
    for one in left:
        if (key := one.but_seed) not in tried:
            log.info(f"trying {', '.join('='.join(pair) for pair in key) or one.run.name}")
            code, found = start([*command_line(one.config), "--dry-run", "--json", "--quiet"], True)
            if code in STOPPED:
                raise Interrupted("stopped; nothing was written", signum=code - 128)
            if code:
                raise TrainingError(f"{one.run.name} cannot be trained", "mend it, or leave its values out of --vary")
            tried[key] = json.loads(found)
    done = len(variants) - len(left)
    finished = f", {done} of them finished" if done else ""
    line = f"{len(variants)} trainings{finished}"
    if left:
        costs = [tried[one.but_seed] for one in left]
        seconds = sum(cost["seconds"] for cost in costs)
        size = sum(cost["bytes"] for cost in costs) + max(cost["bytes_while_training"] for cost in costs)
        line += f": about {duration(seconds)}, validation aside, and {size / 1e9:.2g} GB of disk"
    log.info(line)


def _variants(model: type[Section], words: Mapping[str, Any], texts: Sequence[str]) -> Iterator[Variant]:
    """Every combination, checked; the values of a seed change last."""
    if words.get("resume"):
        raise _wrong("--vary begins and resumes runs by itself", "leave out --resume, and type it as it was")
    if words.get("as_json") and words.get("dry_run"):
        raise _wrong("--vary prints its dry run as lines", "leave out --json")
    if words.get("print_config"):
        raise _wrong("--vary has a configuration for each of its runs", "leave out --print-config, or --vary")
    values: dict[str, list[str]] = {}
    for text in texts:
        key, equals, given = text.partition("=")
        found = [word.strip() for word in given.split(",")]
        if not equals or not key.strip() or not all(found):
            raise _wrong(f"--vary {text} is not a key and its values, such as seed=0,1,2", value=text)
        if key.strip() in values or len({*found}) < len(found):
            raise _wrong(f"--vary {text} names a value or a key twice", "leave one out", value=text)
        values[key.strip()] = found
    if own := [key for key in values if key.rpartition(".")[2] in ("name", "runs")]:
        raise _wrong(f"--vary {own[0]}: each run gets a name of its own", "leave it out")
    seeds = [key for key in values if key.rpartition(".")[2] == SEED]
    order = sorted(values, key=lambda key: key not in seeds)
    configs: dict[str, Any] = {}
    for combination in product(*(values[key] for key in order)):
        chosen = dict(zip(order, combination, strict=True))
        chosen = {key: chosen[key] for key in values}
        config: Any = config_from(model, words, [f"{key}={value}" for key, value in chosen.items()])
        parts = [_base(config, chosen), *(f"{key.rpartition('.')[2]}-{_plain(value)}" for key, value in chosen.items())]
        name = "-".join(parts)
        if name in configs:
            raise _wrong(f"--vary: two runs would be called {name}", "give their files other names")
        if same := [other for other, known in configs.items() if known == config]:
            raise _wrong(f"--vary: {name} would be the same as {same[0]}", "leave one out")
        if len(name) > LONGEST_NAME:
            raise _wrong(
                f"--vary: a run's name would have {len(name)} characters, and {LONGEST_NAME} are possible",
                "pass a short --name",
            )
        configs[name] = config
        run = config.run.model_copy(update={"name": name})
        yield Variant(config.model_copy(update={"run": run}), chosen)


def _base(config: Any, varied: Iterable[str]) -> str:
    """What the names of all runs begin with, without what varies."""
    if config.run.name:
        return str(config.run.name)
    if command_of(type(config)) == "pretrain":
        return str(config.run_name)
    fields, names = type(config.data).model_fields, {key.rpartition(".")[2] for key in varied} - {"dataset"}
    usual = {name: fields[name].get_default(call_default_factory=True) for name in names & fields.keys()}
    plain = config.model_copy(update={"data": config.data.model_copy(update=usual)})
    return str(plain.run_name(config.model.pretrained))


def _plain(value: str) -> str:
    """A value as a run's name can hold it."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", value).strip("-") or "empty"


def _in_a_process(words: Sequence[str], caught: bool) -> tuple[int, str]:
    """A command line as a process of its own, whose results go where its messages go, or are caught.

    Signals are handed on to it, its end is waited for, and it ends with this process.
    """
    output = subprocess.PIPE if caught else subprocess.DEVNULL if "--quiet" in words else sys.stderr.fileno()
    processes: list[subprocess.Popen[str]] = []
    with handed_on(processes) as came:
        process = subprocess.Popen(
            [sys.executable, "-m", "simclrseg", *words],
            stdout=output,
            text=True,
            env={**os.environ, LAUNCHER: str(os.getpid())},
            start_new_session=True,  # or a terminal would send each Ctrl-C a second time
        )
        processes.append(process)
        found, _ = process.communicate()
    return 128 + came[0] if came else process.returncode, found or ""


def _show(finished: Sequence[Variant], start: Start) -> None:
    """Print the table: of models that answer for the same images their evaluation, of others what each run found."""
    if not finished:
        return
    first = finished[0].config
    hashes = {one.run.environment.get("test_hash") for one in finished}
    if len(finished) > 1 and len(hashes) == 1 and None not in hashes:
        names = [one.run.name for one in finished]
        words = ["evaluate", *names, "--runs", first.console.runs, "--device", first.hardware.device]
        words += [
            flag for flag, asked in (("--json", first.console.as_json), ("--quiet", first.console.quiet)) if asked
        ]
        folded = sys.stdout.isatty() and not (first.console.as_json or first.console.quiet)  # to the terminal's width
        code, table = start(words, not folded)
        if code in STOPPED:
            raise Interrupted("stopped; all are trained, and the same command compares them", signum=code - 128)
        if code:
            again = finished[0].run.command("evaluate")
            raise GateError("the trainings are finished, but could not be compared", f"try `{again}`")
        if not folded:
            console.print_result(table.rstrip("\n"))
        return
    console.print_result({"runs": [one.row() for one in finished]}, as_json=first.console.as_json)
