"""Files written safely, a whole one or none, with one line where the disk is full."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from simclrseg.errors import OutputError, SimclrsegError
from simclrseg.text import encodable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]

FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
"""Error numbers of a disk that takes no more."""
LONGEST_ON_WINDOWS = 259
"""Characters of a path, unless long ones were allowed in its registry."""
UNWRITABLE = FULL | {errno.EROFS}
"""Error numbers of writing only, whatever was being done."""
_ASKING = threading.Lock()  # the system tells the umask only to those who change it
_TEMPORARY = ".simclrseg-"  # how names of temporary folders begin
_SUFFIX = re.compile(r"\.\w{1,15}", re.ASCII)
_LONGEST_WRITE = 24 * 3600  # seconds after which nobody writes into a folder where that cannot be seen
_CLEARED: set[Path] = set()  # folders in which this process has looked for what killed ones have left
_RUST = re.compile(r"\(os error (\d+)\)")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: temporary file, fsync, rename. Names in other bytes than UTF-8 are escaped."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; what is not finite as null."""
    write_text(path, json_text(value, indent=1))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A line of JSON, or several, with the end of the last: what is not finite is null, and all names are UTF-8."""
    return json.dumps(finite(value), indent=indent, default=lambda other: encodable(str(other))) + "\n"


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns as CSV."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def finite(value: Any) -> Any:
    """What JSON can hold: NaN and infinity are None, and names and paths have whole characters only."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | Path):
        return encodable(str(value))
    if isinstance(value, Mapping):
        return {encodable(str(key)): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of ``path`` when the block ends well, and is gone when not.

    It lies in a folder of its own beside it, and its name has the same suffix if that is a usual one: any library can
    write it, whatever the name of ``path``.

    Raises:
        OutputError: if it cannot be written; what ``path`` held before stands.
    """
    with writing(path), temporary_folder(path.parent) as folder:
        temporary = folder / f"new{path.suffix if _SUFFIX.fullmatch(path.suffix) else ''}"
        try:
            yield temporary
            with open(temporary, "r+b") as file:  # Windows syncs none that is open for reading alone
                os.fsync(file.fileno())
            with _ASKING:
                mask = os.umask(0)
                os.umask(mask)
            with suppress(PermissionError):  # on a share that is mounted as another user's, who gave modes to all
                temporary.chmod(0o666 & ~mask)
            os.replace(temporary, path)
        except (SimclrsegError, OSError):
            raise
        except Exception as error:
            _raise_os_error(error, temporary)
            raise


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder for the block, which removes it with all that is in it.

    Those of processes that were killed are removed too, once for each ``parent``.
    """
    if parent not in _CLEARED:
        _CLEARED.add(parent)
        remove_abandoned(parent)
    folder, held = _make_temporary(parent)
    try:
        yield folder
    finally:
        try:
            folder.rmdir()  # as a rule it is empty by now
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def remove_abandoned(parent: Path) -> None:
    """Remove the temporary folders of processes that were killed, and none of a living one."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            if entry.name.startswith(_TEMPORARY) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _make_temporary(parent: Path) -> tuple[Path, int | None]:
    """A new folder, and the handle by which this process holds it as long as it lives; None where there is no way."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
        if fcntl is None:
            return folder, None
        try:
            held = os.open(folder, os.O_RDONLY)
        except OSError:
            folder.rmdir()
            raise
        with suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():  # else another process has removed it before it was held
            return folder, held
        os.close(held)


def _remove_if_abandoned(folder: str) -> None:
    """Raise OSError where a process holds the folder, or is likely to where that cannot be seen."""
    if fcntl is None:
        if time.time() - os.stat(folder).st_mtime > _LONGEST_WRITE:
            shutil.rmtree(folder, ignore_errors=True)
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line why a file or folder cannot be written: raise OutputError in the place of an OSError."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path | str, error: OSError) -> OutputError:
    """The error for a file that cannot be written."""
    if sys.platform == "win32" and len(os.path.abspath(path)) > LONGEST_ON_WINDOWS:  # which calls it not found
        reason = f"its path is longer than the {LONGEST_ON_WINDOWS} characters that Windows takes"
        return OutputError(str(path), reason, remedy="choose a folder with a shorter path")
    remedy = "free some space or choose another folder" if error.errno in FULL else "choose another folder"
    return OutputError(str(path), error.strerror or str(error), remedy=remedy)


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and those above it.

    Returns:
        Those that were missing, the deepest first: what ``remove_empty`` takes. If one cannot be created, there is none
        of them then.
    """
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    try:
        for path in reversed(missing):
            with writing(path):
                path.mkdir(exist_ok=True)
    except OutputError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that hold nothing; give the deepest first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _raise_os_error(error: Exception, path: Path) -> None:
    """Raise the OSError behind an error of a library's own, if there is one: its number, or a write that fails too."""
    if number := _RUST.search(str(error)):  # safetensors
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    with open(path, "ab") as file:  # torch hides the number
        file.write(bytes(1 << 16))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def held_back(stream: int) -> Iterator[list[str]]:
    """Keep what libraries in C++ write to stdout (1) or stderr (2) meanwhile, which Python's ``sys`` does not see.

    Yields:
        A list that holds the text when the context has ended.
    """
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        original = os.dup(stream)
        os.dup2(file.fileno(), stream)
        try:
            yield said
        finally:
            os.dup2(original, stream)
            os.close(original)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
