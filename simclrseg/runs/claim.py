"""Run folders that are written: claiming one for a new run, and holding it against other processes."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simclrseg.errors import OutputError, RunError, UsageError
from simclrseg.runs.names import CHECKPOINT, LONGEST_NAME, NAME, Kind
from simclrseg.runs.run import Run
from simclrseg.system.files import make_folder, remove_abandoned, remove_empty, writing
from simclrseg.system.identify import why_no_model

log = logging.getLogger(__name__)

_LOCKED = 1 << 30  # the byte of a lock's file that is locked on Windows
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # as Windows knows them


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
