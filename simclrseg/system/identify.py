"""What a path or a file plainly is, where it is not what a command wants: told by its kind and its first bytes."""

from __future__ import annotations

import errno
import os
import re
import stat
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from simclrseg.text import encodable

BAD_ARCHIVE = (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
"""All that zipfile raises of a ZIP archive that is damaged, or of a kind that it does not read."""
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
