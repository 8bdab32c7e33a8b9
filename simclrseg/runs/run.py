"""A run's folder, and the facts that it records beside its configuration."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from simclrseg.errors import RunError
from simclrseg.runs.names import CHECKPOINT, ENVIRONMENT, RESERVED, Kind
from simclrseg.system.content import BadContent, read_json
from simclrseg.system.files import write_json
from simclrseg.text import decoded


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _is_lengthening(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and _is_count(one.get("epochs"))
        and ("from_step" in one and (one["from_step"] is None or _is_count(one["from_step"])))
        for one in value
    )


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


_FITS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("kind", "folder", "encoder", "encoder_prefix"), _is_text),
    **dict.fromkeys(("test_hash", "photos_hash", "truth_hash", "fingerprint"), _is_text),
    **dict.fromkeys(("started", "finished"), _is_moment),
    **dict.fromkeys(("photos", "epochs", "batch_size", "micro_batch", "threads", "processes"), _is_count),
    "learning_rate": _is_rate,
    "prolonged": _is_lengthening,
    "precision": lambda value: value in ("fp32", "bf16", "fp16"),
}
"""Facts that are used again, as when a run is resumed or scored, and what they must be."""


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path
    created: tuple[Path, ...] = field(default=(), compare=False, repr=False)
    """Folders above it that were made for it, the deepest first."""

    @property
    def name(self) -> str:
        return os.path.basename(os.path.abspath(self.folder))  # which of the current folder is no dot

    @property
    def word(self) -> str:
        """Its name as a shell takes it, for a folder may have been renamed; its folder where no name finds it."""
        return shlex.quote(os.path.abspath(self.folder) if self._is_apart else self.name)

    @property
    def as_start(self) -> str:
        """Its name for ``--pretrained``, as a shell takes it: its folder where its name means something else there."""
        return shlex.quote(str(self.folder)) if self.name in RESERVED or "." in self.name else self.word

    def command(self, words: str) -> str:
        """A command about it as people type it: its name behind ``export`` or ``pretrain --resume``."""
        return f"simclrseg {words} {self.word}{runs_option(self.root)}"

    @property
    def kind(self) -> str:
        """The command that made it, also where its folder was moved."""
        if "kind" in self.environment:
            kind: str = self.environment["kind"]
            return kind
        with suppress(OSError, UnicodeDecodeError):  # one from before that was recorded
            if found := re.match(r"command: (\w+)$", (self.folder / "config.yaml").read_text("utf-8"), re.MULTILINE):
                return found[1]
        return self.folder.parent.name

    @property
    def root(self) -> Path:
        """The folder of all runs that it lies in; the usual one where it lies in none."""
        return Path("runs") if self._is_apart else Path(os.path.abspath(self.folder)).parents[1]

    @property
    def _is_apart(self) -> bool:
        """Tell whether it lies in no folder of all runs, as a copy may."""
        return Path(os.path.abspath(self.folder)).parent.name not in get_args(Kind)

    @property
    def begun_in(self) -> Path | None:
        """The folder that its command was typed in, which its relative paths start from; None if it is not known."""
        folder = self.environment.get("folder")
        return None if folder is None else Path(decoded(folder))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Facts about the run that are not its configuration; empty when it never got that far, or they are garbled.

        A single fact that is garbled is left out too.
        """
        try:
            facts = read_json(self.folder / ENVIRONMENT)
        except (OSError, BadContent):
            return {}
        if not isinstance(facts, dict):
            return {}
        return {name: value for name, value in facts.items() if name not in _FITS or _FITS[name](value)}

    def recorded(self, name: str) -> Any:
        """A fact of the environment without which the run is of no use; a RunError names one that is not there."""
        if name not in self.environment:
            reason = f"{self.folder / ENVIRONMENT} does not say the {name.replace('_', ' ')} of the run"
            raise RunError(reason, "restore it, or start a new run", path=self.folder / ENVIRONMENT)
        return self.environment[name]

    @property
    def finished(self) -> str | None:
        """When the run finished (ISO 8601, UTC), or None."""
        finished: str | None = self.environment.get("finished")
        return finished

    @property
    def started(self) -> bool:
        """Tell whether it has a checkpoint, so that it can be resumed."""
        return self.holds(str(CHECKPOINT))

    def holds(self, file: str) -> bool:
        """Tell whether it has a file; one that is out of reach, as of another user's run, is none."""
        return os.path.isfile(self.folder / file)


def runs_option(root: Path) -> str:
    """The option with which a printed command finds the runs: `` --runs ROOT``, or nothing for the usual folder."""
    return "" if os.path.abspath(root) == os.path.abspath("runs") else f" --runs {shlex.quote(str(root))}"


def record_facts(run: Run, **facts: Any) -> None:
    """Add facts to the run's ``environment.json``, atomically."""
    run.__dict__.pop("environment", None)  # what was read before is stale now
    write_json(run.folder / ENVIRONMENT, {**run.environment, **facts})
    run.__dict__.pop("environment", None)


def finish(run: Run) -> None:
    """Mark the run finished, now."""
    record_facts(run, finished=datetime.now(UTC).isoformat(timespec="microseconds"))


def source_commit() -> str | None:
    """The commit of the source tree that runs, or None when it was installed as a package."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    import subprocess  # which a shell that completes need not wait for

    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
