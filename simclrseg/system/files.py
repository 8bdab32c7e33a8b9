"""Files written safely, a whole one or none, with one line where the disk is full; and what is no file to read."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import stat
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from simclrseg.errors import OutputError, SimclrsegError

FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
"""Error numbers of a disk that takes no more."""
UNWRITABLE = FULL | {errno.EROFS}
"""Error numbers of writing only, whatever was being done."""
_ASKING = threading.Lock()  # the system tells the umask only to those who change it
_RUST = re.compile(r"\(os error (\d+)\)")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
CHECKPOINT = "is a pickled checkpoint"
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
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
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
    if what := next((what for signature, what in _SIGNATURES.items() if start.startswith(signature)), ""):
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


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: temporary file, fsync, rename. Names in other bytes than UTF-8 are escaped."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; what is not finite as null."""
    write_text(path, json.dumps(finite(value), indent=1) + "\n")


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
    """NaN and infinity as None: JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block ends well, and is gone when not.

    Raises:
        OutputError: if it cannot be written; what ``path`` held before stands.
    """
    with writing(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=path.suffix)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "r+b") as file:  # Windows syncs none that is open for reading alone
                os.fsync(file.fileno())
            with _ASKING:
                mask = os.umask(0)
                os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            os.replace(temporary, path)
        except (SimclrsegError, OSError):
            raise
        except Exception as error:
            _raise_os_error(error, temporary)
            raise
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line why a file or folder cannot be written: raise OutputError in the place of an OSError."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path | str, error: OSError) -> OutputError:
    """The error for a file that cannot be written."""
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
