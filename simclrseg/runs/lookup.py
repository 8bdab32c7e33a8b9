"""Finding a run again: by its name, the newest, and the one to start from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from simclrseg.errors import RunError, suggestion
from simclrseg.runs.names import BACKBONE_FILE, CHECKPOINT, ENVIRONMENT, Kind
from simclrseg.runs.run import Run, runs_option


def list_runs(root: Path, kind: Kind) -> list[Run]:
    """List all runs of a kind, the newest finished one first, unfinished ones last."""
    folder = root / kind
    runs = [Run(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return sorted((run for run in runs if run.holds(ENVIRONMENT)), key=lambda run: run.finished or "", reverse=True)


def newest_run(root: Path, kind: Kind, *, holding: str, remedy: str) -> Run:
    """Find the newest finished run that holds a file, or raise RunError; ``remedy`` says how to make one."""
    for run in list_runs(root, kind):
        if run.finished and run.holds(holding):
            return run
    if (root / kind).is_dir():
        _refuse_closed((root / kind).iterdir())
    raise RunError(f"no finished run under {root / kind} holds {holding}", remedy)


def line_of_newer(run: Run, kind: Kind, *, holding: str) -> str:
    """A line on the newest of ``NAME-2``, ``NAME-3``, … where it finished after the run NAME, else nothing.

    Args:
        holding: a file that it must have.
    """
    if run.folder.parent.name != kind:  # it lies apart from others
        return ""
    numbered = re.compile(re.escape(run.name) + r"-\d+")
    others = (other for other in list_runs(run.root, kind) if numbered.fullmatch(other.name))
    latest = next((other for other in others if other.finished and other.holds(holding)), None)
    if latest is None or (latest.finished or "") <= (run.finished or ""):
        return ""
    return f"{latest.name} is newer than {run.name}: it is taken where it is named"


def _refuse_closed(folders: Iterable[Path]) -> None:
    """Raise RunError for the first run that is there but cannot be read, as another user's."""
    for folder in folders:
        try:
            with open(folder / ENVIRONMENT, "rb"):
                pass
        except PermissionError as error:
            reason = f"run {folder} cannot be read ({error.strerror})"
            raise RunError(reason, "ask its owner for access, or name another", path=folder) from error
        except OSError:  # no run
            pass


def find_run(root: Path, kind: Kind, name: str) -> Run:
    """Find a run by its name or its folder, finished or not.

    Raises:
        RunError: if there is none, it is of another kind or cannot be read; the message names the folder that was
            searched.
    """
    for run in (Run(root / kind / name), Run(Path(name))):
        _refuse_closed([run.folder])
        if run.holds(ENVIRONMENT):
            if run.kind != kind and run.kind in get_args(Kind):
                reason = f"{run.folder} is {_a(run.kind)} run, and {_a(kind)} run is needed"
                raise RunError(reason, _remedy(kind, run), path=run.folder)
            return run
    for other in get_args(Kind):
        run = Run(root / other / name)
        if other != kind and run.holds(ENVIRONMENT):
            raise RunError(f"no such run {name!r} in {root / kind}, only {_a(other)} run", _remedy(kind, run))
    if Path(name).is_file() and not name.endswith((".onnx", ".pt2")):
        folder = Path(name).parent
        held = f"name its folder, {folder}" if Run(folder).holds(ENVIRONMENT) else "name a run"
        raise RunError(f"{name} is a file, and no run", held, path=name)
    known = [run.name for run in list_runs(root, kind)]
    hint = suggestion(name, known) if known else "there are no runs there yet; --runs names another folder"
    raise RunError(f"no such run {name!r} in {root / kind}", hint)


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "evaluate" else f"a {kind}"


def _remedy(kind: str, run: Run) -> str:
    """Advice on how to come from a run of another kind to one of this."""
    if kind == "finetune" and run.kind == "pretrain":
        return f"make one with `simclrseg finetune --dataset FOLDER --pretrained {run.as_start}{runs_option(run.root)}`"
    if scored := run.environment.get("scored"):
        return f"name the run that was scored, {scored}"
    return f"make one with `simclrseg {kind} --dataset FOLDER{runs_option(run.root)}`, or name another"


def find_pretraining(root: Path, name: str, *, allow_unfinished: bool = False) -> Run | None:
    """Find the newest finished pretraining run among ``name``, ``name-2``, …; None when no run bears the name.

    Args:
        allow_unfinished: take the run with the newest checkpoint where none is finished.

    Raises:
        RunError: if no run that bears it is finished and holds a backbone, or one cannot be read; the message gives the
            command that helps.
    """
    folder, numbered = root / "pretrain", re.compile(re.escape(name) + r"(-\d+)?")
    runs = [run for run in list_runs(root, "pretrain") if numbered.fullmatch(run.name)]
    for run in runs:
        if run.finished and run.holds(BACKBONE_FILE):
            return run
    if folder.is_dir():
        _refuse_closed(path for path in sorted(folder.iterdir()) if numbered.fullmatch(path.name))
    started = [run for run in runs if run.started and not run.finished]
    if started:
        run = max(started, key=lambda run: (run.folder / CHECKPOINT).stat().st_mtime)
        if allow_unfinished:
            return run
        resume = f"simclrseg pretrain --resume {run.word}{runs_option(root)}"
        remedy = f"resume it with `{resume}`, or take it as it is with --allow-unfinished"
        raise RunError(f"run {run.name!r} in {folder} is not finished", remedy)
    if runs:
        run = runs[0]
        lack = f"is finished but lacks {BACKBONE_FILE}" if run.finished else "has no checkpoint"
        config = f" --config {shlex.quote(str(run.folder))}" if run.holds("config.yaml") else ""
        command = f"simclrseg pretrain{config} --name {run.word}{runs_option(root)}"
        raise RunError(f"run {run.name!r} in {folder} {lack}", f"start it again with `{command}`")
    return None
