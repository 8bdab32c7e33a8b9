"""Run folders: their names, claiming, locks, finished or not, lookup (design §7)."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from simclrseg.errors import RunError, UsageError, suggestion
from simclrseg.files import write_text

Kind = Literal["pretrain", "finetune", "evaluate"]

ENVIRONMENT = "environment.json"
CHECKPOINT = Path("checkpoints", "last")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def kind(self) -> str:
        return self.folder.parent.name

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Facts about the run that are not its configuration; empty when it never got that far."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / ENVIRONMENT).read_text())
        except (OSError, json.JSONDecodeError):
            return {}
        return facts

    @property
    def finished(self) -> str | None:
        """When the run finished (ISO 8601, UTC), or None."""
        return self.environment.get("finished")

    def holds(self, file: str) -> bool:
        return (self.folder / file).is_file()


def claim(root: Path, kind: Kind, name: str, *, overwrite: bool = False) -> Run:
    """Create the folder of a new run; a name that is taken gets ``-2``, ``-3``, ….

    Args:
        root: the folder of all runs.
        overwrite: delete the run of that name first.

    Raises:
        UsageError: if the name cannot be a folder's.
        RunError: if the folder cannot be created, or the run to overwrite is being written.
    """
    check_name(name)
    folder = root / kind / name
    try:
        if overwrite and folder.exists():
            with lock(Run(folder)):
                pass
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            try:
                folder.mkdir()  # two processes cannot both succeed
                return Run(folder)
            except FileExistsError:
                number += 1
                folder = root / kind / f"{name}-{number}"
    except OSError as error:
        raise RunError(f"cannot create {folder}: {error.strerror}; choose another folder with --runs") from error


def check_name(name: str) -> None:
    """Raise UsageError unless the name can be a run's folder."""
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: use letters, digits and . _ + - only, beginning with a letter or digit")


def record(run: Run, **facts: Any) -> None:
    """Add facts to the run's ``environment.json``, atomically."""
    run.__dict__.pop("environment", None)  # what was read before is stale now
    write_text(run.folder / ENVIRONMENT, json.dumps({**run.environment, **facts}, indent=2) + "\n")
    run.__dict__.pop("environment", None)


def finish(run: Run) -> None:
    """Mark the run finished, now."""
    record(run, finished=datetime.now(UTC).isoformat(timespec="microseconds"))


def discard_unless_started(run: Run) -> None:
    """Remove the folder of a run that failed before it had anything to lose."""
    if not (run.folder / CHECKPOINT).exists():
        shutil.rmtree(run.folder, ignore_errors=True)


@contextmanager
def lock(run: Run) -> Iterator[None]:
    """Hold the run for writing; it is released when the process ends, however it ends.

    Raises:
        RunError: if another process holds it.
    """
    with open(run.folder / ".lock", "a+") as file:
        try:
            _lock_file(file.fileno())
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunError(
                f"{run.folder} is being written by {holder}: wait for it, or choose another --name"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def _lock_file(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def list_runs(root: Path, kind: Kind) -> list[Run]:
    """All runs of a kind, the newest finished one first, unfinished ones last."""
    folder = root / kind
    runs = [Run(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    return sorted(runs, key=lambda run: run.finished or "", reverse=True)


def newest(root: Path, kind: Kind, *, holding: str, remedy: str) -> Run:
    """The newest finished run that holds a file.

    Raises:
        RunError: if there is none; ``remedy`` says how to make one.
    """
    for run in list_runs(root, kind):
        if run.finished and run.holds(holding):
            return run
    raise RunError(f"no finished run under {root / kind} holds {holding}: {remedy}")


def find(root: Path, kind: Kind, name: str) -> Run:
    """A run by its name or its folder, finished or not.

    Raises:
        RunError: if there is none; the message names the folder that was searched.
    """
    for folder in (root / kind / name, Path(name)):
        if folder.is_dir() and (folder / ENVIRONMENT).is_file():
            return Run(folder)
    known = [run.name for run in list_runs(root, kind)]
    hint = suggestion(name, known) if known else "there are no runs there yet; --runs names another folder"
    raise RunError(f"no such run {name!r} in {root / kind}: {hint}")


def find_finished(root: Path, kind: Kind, name: str, *, holding: str, allow_unfinished: bool = False) -> Run | None:
    """The newest finished run among ``name``, ``name-2``, …; None when no run bears the name.

    Raises:
        RunError: if only unfinished runs bear it, with the command that resumes.
    """
    numbered = re.compile(re.escape(name) + r"(-\d+)?")
    runs = [run for run in list_runs(root, kind) if numbered.fullmatch(run.name) and run.environment]
    exact = [run for run in runs if run.finished and run.holds(holding)]
    if exact:
        return exact[0]
    started = [run for run in runs if (run.folder / CHECKPOINT).exists()]
    if allow_unfinished and started:
        return max(started, key=lambda run: (run.folder / CHECKPOINT).stat().st_mtime)
    if runs:
        run = runs[0]
        raise RunError(
            f"run {run.name!r} in {root / kind} is not finished: "
            f"resume it with `simclrseg {kind} --resume {run.name}`, or take it as it is with --allow-unfinished"
        )
    return None
