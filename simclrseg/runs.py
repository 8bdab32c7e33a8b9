"""Run folders: their names, claiming, locks, finished or not, lookup (design §7)."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from simclrseg.errors import OutputError, RunError, UsageError, suggestion
from simclrseg.system.content import BadContent, read_json
from simclrseg.system.files import make_folder, remove_abandoned, remove_empty, why_no_model, write_json, writing
from simclrseg.text import decoded

log = logging.getLogger(__name__)

Kind = Literal["pretrain", "finetune", "evaluate"]

ENVIRONMENT = "environment.json"
CHECKPOINT = Path("checkpoints", "last", "state.pt")
"""File of a run that has something to lose, and can be resumed."""
BACKBONE_FILE = "backbone.safetensors"
MODEL_FILE = "model.safetensors"
ONNX_FILE = "model.onnx"
"""File names of the models of a run."""
PICKLES = (".ckpt", ".pth", ".pt", ".bin", ".pth.tar")
WEIGHTS = (".safetensors", *PICKLES)
"""How the names of weights files end: those of torch.save, and all."""
RESERVED = ("none", "imagenet", "dinov2", "dinov3")
"""Names that ``--pretrained`` takes for other weights than a run's; a name with a suffix is a file's."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
LONGEST_NAME = 200
"""Characters of a run's name: a number may follow, and names of files are made of it."""
LONGEST_LABEL = 80
"""Characters of each part of a name that is derived."""


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
_LOCKED = 1 << 30  # the byte of a lock's file that is locked on Windows
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # as Windows knows them


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
        return f"simclrseg {words} {self.word}{option(self.root)}"

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


def option(root: Path) -> str:
    """The option with which a printed command finds the runs: `` --runs ROOT``, or nothing for the usual folder."""
    return "" if os.path.abspath(root) == os.path.abspath("runs") else f" --runs {shlex.quote(str(root))}"


def claim(root: Path, kind: Kind, name: str, *, overwrite: bool = False) -> Run:
    """Create the folder of a new run below that of all runs; a name that is taken gets ``-2``, ``-3``, ….

    Args:
        overwrite: delete the run of that name first.

    Raises:
        UsageError: if the name cannot be a folder's.
        RunError: if the folder cannot be created, or the run to overwrite is being written.
    """
    if not NAME.fullmatch(name):
        remedy = "use letters, digits and . _ + - only, beginning with a letter or digit"
        raise UsageError(f"--name {name!r}", remedy, option="name", value=name)
    if len(name) > LONGEST_NAME:
        raise UsageError(
            f"--name {name} has {len(name)} characters, and {LONGEST_NAME} are possible",
            "choose a shorter one",
            option="name",
            value=name,
        )
    if unfit := why_no_model(root):
        raise UsageError(f"--runs {root}: {unfit}", "rename it, or name another", option="runs", path=root)
    if sys.platform == "win32" and (_DEVICES.fullmatch(name) or name.endswith(".")):
        raise UsageError(
            f"--name {name!r} cannot be a folder's on Windows", "choose another", option="name", value=name
        )
    folder = root / kind / name
    created: list[Path] = []
    try:
        if overwrite and folder.exists():
            with lock(Run(folder)):
                shutil.rmtree(folder, ignore_errors=True)  # Windows keeps the lock's file as long as it is open
                left = folder.exists()
            if left:
                shutil.rmtree(folder)
        created = make_folder(folder.parent)
        number = 1
        while True:
            try:
                folder.mkdir()  # two processes cannot both succeed
                return Run(folder, tuple(created))
            except FileExistsError:
                number += 1
                folder = root / kind / f"{name}-{number}"
    except (OSError, OutputError) as error:
        remove_empty(created)
        reason = error.cause if isinstance(error, OutputError) else error.strerror
        raise RunError(f"cannot create {folder}: {reason}", "choose another folder with --runs") from error


def record(run: Run, **facts: Any) -> None:
    """Add facts to the run's ``environment.json``, atomically."""
    run.__dict__.pop("environment", None)  # what was read before is stale now
    write_json(run.folder / ENVIRONMENT, {**run.environment, **facts})
    run.__dict__.pop("environment", None)


def finish(run: Run) -> None:
    """Mark the run finished, now."""
    record(run, finished=datetime.now(UTC).isoformat(timespec="microseconds"))


@contextmanager
def discarded_unless_started(run: Run) -> Iterator[None]:
    """Remove the folder of a run whose block ends before it has anything to lose."""
    try:
        yield
    finally:
        if not (run.started or run.finished):
            shutil.rmtree(run.folder, ignore_errors=True)
            remove_empty(run.created)


@contextmanager
def lock(run: Run) -> Iterator[None]:
    """Hold the run for writing; it is released when the process ends, however it ends.

    On a file system without locks, as Lustre often is mounted, nothing is held, and a warning says so.

    Raises:
        RunError: if another process holds it.
        OutputError: if its file cannot be written.
    """
    path = run.folder / ".lock"
    with writing(path):
        file = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115
    with file:
        try:
            _lock_file(file.fileno())
        except (BlockingIOError, PermissionError):  # what is locked already; the latter on NFS and Windows
            file.seek(0)
            holder = file.read().strip() or "another process"
            reason = f"{run.folder} is being written by {holder}"
            raise RunError(reason, "wait for it, or choose another --name", path=run.folder) from None
        except OSError as error:
            log.warning(
                f"{run.folder} cannot be locked ({error.strerror}): make sure that no second command writes this run"
            )
        with writing(path):
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()}".encode())  # unbuffered: closing would try once more
        for folder in (run.folder, *(run.folder / CHECKPOINT.parts[0]).glob("*/")):
            remove_abandoned(folder)
        yield


def _lock_file(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        # a place that all agree on, and behind what is read: nobody can read what is locked there
        os.lseek(descriptor, _LOCKED, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def list_runs(root: Path, kind: Kind) -> list[Run]:
    """List all runs of a kind, the newest finished one first, unfinished ones last."""
    folder = root / kind
    runs = [Run(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return sorted((run for run in runs if run.holds(ENVIRONMENT)), key=lambda run: run.finished or "", reverse=True)


def newest(root: Path, kind: Kind, *, holding: str, remedy: str) -> Run:
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


def find(root: Path, kind: Kind, name: str) -> Run:
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
    known = [run.name for run in list_runs(root, kind)]
    hint = suggestion(name, known) if known else "there are no runs there yet; --runs names another folder"
    raise RunError(f"no such run {name!r} in {root / kind}", hint)


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "evaluate" else f"a {kind}"


def _remedy(kind: str, run: Run) -> str:
    """Advice on how to come from a run of another kind to one of this."""
    if kind == "finetune" and run.kind == "pretrain":
        return f"make one with `simclrseg finetune --dataset FOLDER --pretrained {run.as_start}{option(run.root)}`"
    if scored := run.environment.get("scored"):
        return f"name the run that was scored, {scored}"
    return f"make one with `simclrseg {kind} --dataset FOLDER{option(run.root)}`, or name another"


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
        resume = f"simclrseg pretrain --resume {run.word}{option(root)}"
        remedy = f"resume it with `{resume}`, or take it as it is with --allow-unfinished"
        raise RunError(f"run {run.name!r} in {folder} is not finished", remedy)
    if runs:
        run = runs[0]
        lack = f"is finished but lacks {BACKBONE_FILE}" if run.finished else "has no checkpoint"
        config = f" --config {shlex.quote(str(run.folder))}" if run.holds("config.yaml") else ""
        command = f"simclrseg pretrain{config} --name {run.word}{option(root)}"
        raise RunError(f"run {run.name!r} in {folder} {lack}", f"start it again with `{command}`")
    return None


def dataset_label(dataset: str) -> str:
    """A dataset's part of a run's derived name: its name, or its folder's as far as a run's name can hold it."""
    path = Path(dataset).resolve()
    if path.is_file():  # of labels, whose own name says little
        path = path.parents[1] if path.parent.name == "annotations" else path.parent
    name = path.name if path.is_dir() else dataset
    label = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("._+-") or "photos"
    if len(label) <= LONGEST_LABEL:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]  # long names may differ at their ends only
    return f"{label[: LONGEST_LABEL - 9]}-{digest}"


def source_commit() -> str | None:
    """The commit of the source tree that runs, or None when it was installed as a package."""
    folder = Path(__file__).parents[1]
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
