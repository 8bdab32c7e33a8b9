"""Files written safely, a whole one or none, with one line where the disk is full; and what is no file to read."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
import zipfile
import zlib
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
BAD_ARCHIVE = (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
"""All that zipfile raises of a ZIP archive that is damaged, or of a kind that it does not read."""
_TEMPORARY = ".simclrseg-"  # how names of temporary folders begin
_SUFFIX = re.compile(r"\.\w{1,15}", re.ASCII)
_LONGEST_WRITE = 24 * 3600  # seconds after which nobody writes into a folder where that cannot be seen
_CLEARED: set[Path] = set()  # folders in which this process has looked for what killed ones have left
_RUST = re.compile(r"\(os error (\d+)\)")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
CHECKPOINT = "is a pickled checkpoint"
_MOST_TIMES = 20
"""How much smaller files of an archive may be than they are: weights shrink by a tenth, texts to a tenth."""
_SMALL = 1 << 24  # bytes that are unpacked anyway
_PACKED = "is a packed archive: unpack it first"
_TO_WRITE = "load it there, and write its tensors with safetensors"
TENSORS_ALONE = "where it was made, write its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
"""What helps with a file whose tensors cannot be read without running it, or by torch."""
POINTER = "is only a pointer of Git LFS: fetch the file itself with `git lfs pull`"
_MSGPACK = f"is a msgpack file, as of Flax: {_TO_WRITE}"
_SIGNATURES = {
    b"\x89HDF\r\n\x1a\n": f"is an HDF5 file, as of Keras: {_TO_WRITE}",
    b"\x12\x01" + bytes(6): f"is a file of MXNet: {_TO_WRITE}",
    b"\x93NUMPY": "is a NumPy array",
    b"GGUF": "is a GGUF file, of a language model",
    b"{": "is a JSON file: where it is the index of a model in several files, these are to be joined first",
    b"\x1f\x8b": _PACKED,
    b"BZh": _PACKED,
    b"\xfd7zXZ": _PACKED,
    b"7z\xbc\xaf\x27\x1c": _PACKED,
    b"Rar!": _PACKED,
    b"(\xb5/\xfd": _PACKED,
}
"""First bytes of files that people take for weights."""
_NAMES = {
    r"\.caffemodel$": f"is a model of Caffe: {_TO_WRITE}",
    r"\.msgpack$": _MSGPACK,
    r"\.(index|data-\d+-of-\d+)$": f"is a part of a TensorFlow checkpoint: {_TO_WRITE}",
}
"""The same by their names, where their bytes say too little."""
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_OF_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a number that torch.save wrote first, before 1.6
_FLAX = re.compile(rb"[\x81-\x8f][\xa1-\xbf]\w")  # a short dict whose first key is a short word
_TEXT = re.compile(r"[^\0-\x08\x0b\x0c\x0e-\x1f\x7f]+")
_ANSWER = re.compile(rb"(<\?xml[^>]*>\s*)?<(?:(error>)|!doctype html|html)", re.IGNORECASE)


def why_not_a_file(path: Path | str) -> str:
    """Why a path is no regular file, which alone can be read again and again and comes to an end; empty if it is one.

    Links are followed.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "it is a link to nothing" if os.path.islink(path) else "no such file"
    except OSError as error:
        return "it is a link back to itself" if error.errno == errno.ELOOP else str(error.strerror)
    kind = stat.S_IFMT(mode)
    return "" if kind == stat.S_IFREG else f"it is {_KINDS.get(kind, 'something else')}, not a file"


def why_no_model(path: Path | str) -> str:
    """Why libraries of weights and models, which take names in UTF-8 alone, cannot open a file; empty if they can."""
    text = str(path)
    return "" if encodable(text) == text else "its path holds bytes that are no UTF-8, which libraries of models refuse"


def what_it_is(path: Path) -> str:
    """What a file plainly is by its content, as the end of a sentence with what helps; empty where nothing tells.

    ``CHECKPOINT`` is said of a pickle or an archive of torch.save; of safetensors and ONNX files nothing is.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "is empty"
    text = start.removeprefix(b"\xef\xbb\xbf").strip()
    if what := _why_not_fetched(text):
        return what
    if start.startswith(b"PK\x03\x04"):
        with suppress(*BAD_ARCHIVE), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if all(name.endswith(".npy") for name in names):
                return "is a NumPy archive (.npz): load its arrays, and write them as tensors with safetensors"
            if not any(name.endswith("data.pkl") for name in names):
                return f"is a ZIP archive (of {names[0]}, ...): unpack it first"
        return CHECKPOINT
    if start[257:262] == b"ustar":
        return _PACKED
    if _PICKLE.match(start):
        another = "is a pickle of another kind than torch.save's, as of pickle.dump or PaddlePaddle"
        return CHECKPOINT if _OF_TORCH in start[:64] else f"{another}: {TENSORS_ALONE}"
    signed = start if b"\0" not in start[:8] else start.removeprefix(b"{")  # safetensors' length may begin with a brace
    if what := next((what for signature, what in _SIGNATURES.items() if signed.startswith(signature)), ""):
        return what
    if what := next((what for name, what in _NAMES.items() if re.search(name, path.name)), ""):
        return what
    if _FLAX.match(start) and start[8:9] != b"{":  # of safetensors the first eight bytes are a length
        return _MSGPACK
    if text.startswith(b"<?xml"):
        return "is an XML file: where it is a model of OpenVINO, name the weights that this was made from"
    words = text.decode(errors="ignore")
    if _TEXT.fullmatch(words) and len(text) - len(words.encode()) < 4:  # the last letter may be cut
        return f"is text ({words.splitlines()[0][:40]}): name the file that holds the weights"
    return "" if start.strip(b"\0") else "holds nothing but zeros: fetch it again"


def why_not_unpacked(archive: zipfile.ZipFile) -> str:
    """Why an archive is not unpacked, as the end of a sentence: its files would be far larger than it is itself."""
    entries = archive.infolist()
    packed, whole = (sum(getattr(entry, size) for entry in entries) for size in ("compress_size", "file_size"))
    packed = min(
        packed, os.fstat(archive.fp.fileno()).st_size if archive.fp else packed
    )  # they may lie over each other
    too_large = whole > _MOST_TIMES * packed + _SMALL
    return f"would unpack to {whole / 1e6:,.0f} MB from {packed / 1e6:,.1f}" if too_large else ""


def why_not_fetched(path: Path) -> str:
    """What a file holds in place of its content, as the end of a sentence with what helps; empty where nothing tells.

    ``POINTER`` is said of a pointer of Git LFS, and others of what servers send in place of files.
    """
    with path.open("rb") as file:
        return _why_not_fetched(file.read(512).removeprefix(b"\xef\xbb\xbf").strip())


def _why_not_fetched(text: bytes) -> str:
    if text.startswith(b"version https://git-lfs"):
        return POINTER
    answer = _ANSWER.match(text)
    what = "a server's error in XML" if answer and answer[2] else "a web page"
    return f"is {what}: the download went wrong" if answer else ""


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
