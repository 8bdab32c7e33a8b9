"""The cache of fetched files, which are checked; nothing here makes a request.

huggingface_hub's own cache is read first and never written. What is fetched here lies beside its checksum in
``$HF_HOME/simclrseg/<owner>/<repo>/<commit>/``.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from simclrseg.hub.table import Source, stays_inside
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.system.files import make_folder, replacing, sha256_of, write_text

log = logging.getLogger(__name__)

USUAL_FILES = (BACKBONE_FILE, MODEL_FILE)
"""Names under which the weights are sought in a repository; the second is timm's and transformers' name too."""
AT_ONCE = 0.5  # seconds to wait for another process before it is said
NOTE = ".weights"
"""Beside the files of a commit: which of them holds the weights, where it has an unusual name."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def cached(source: Source) -> Path | None:
    """The file where it lies already, verified; None where it does not."""
    from huggingface_hub import try_to_load_from_cache

    for name in [source.file] if source.file else [*USUAL_FILES, *_noted(source)]:
        found = try_to_load_from_cache(source.repo_id, name, revision=source.revision)
        if isinstance(found, str) and _is_intact_there(Path(found), source.sha256):
            return Path(found)
        place = folder(source)
        if place is not None and intact_or_removed(place / name, source.sha256):
            return place / name
    return None


def is_cached(source: Source) -> bool:
    """Tell if the file lies in a cache; it is not verified."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo_id, source.file or "", revision=source.revision)
    place = folder(source)
    return isinstance(found, str) or (place is not None and (place / (source.file or "")).is_file())


def note_file(source: Source, commit: str) -> None:
    """Remember which file of a repository holds the weights, for those who name none."""
    write_text(home(source) / commit / NOTE, source.file or "")


def _noted(source: Source) -> list[str]:
    place = folder(source)
    try:
        name = (place / NOTE).read_text(encoding="utf-8") if place is not None else ""
    except (OSError, UnicodeDecodeError):
        return []
    return [name] if stays_inside(name) else []


def root() -> Path:
    """The folder of what was fetched and verified here."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME, "simclrseg")


def home(source: Source) -> Path:
    return root() / source.repo_id


def folder_of(source: Source, file: Path) -> Path:
    """Folder for what is made from a file: by its commit, also where huggingface_hub has cached it."""
    start = max(place for place, part in enumerate(file.parts) if COMMIT.fullmatch(part))
    return home(source).joinpath(*file.parts[start:-1])


def folder(source: Source) -> Path | None:
    """Folder of the files of a revision; None where none was fetched."""
    commit = source.revision
    if not COMMIT.fullmatch(commit):
        try:
            commit = (home(source) / "refs" / commit).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    return home(source) / commit if COMMIT.fullmatch(commit) else None


def _is_intact_there(path: Path, sha256: str | None) -> bool:
    """Check a file of huggingface_hub's cache: large ones are stored under their sha256."""
    stored = path.resolve().name
    expected = sha256 or (stored if SHA256.fullmatch(stored) else None)
    if expected is None or sha256_of(path) == expected:
        return True
    log.warning(f"{path} is damaged or another file and not used; `hf cache` manages that folder")
    return False


def intact_or_removed(path: Path, sha256: str | None) -> bool:
    """Check one of our files; a damaged one is removed."""
    if not path.is_file():
        return False
    try:
        expected = checksum_file(path).read_text(encoding="utf-8").split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        expected = ""
    if sha256_of(path) == expected and sha256 in {None, expected}:
        return True
    log.warning(f"{path} is damaged and was removed")
    path.unlink()
    checksum_file(path).unlink(missing_ok=True)
    return False


def keep(path: Path, make: Callable[[Path], None], *, force: bool = False) -> Path:
    """A file that ``make`` writes from a verified one, once (or anew by ``force``), with its checksum."""
    with locked(path):
        if force or not is_kept(path):
            with replacing(path) as temporary:
                make(temporary)
                write_text(checksum_file(path), f"{sha256_of(temporary)}  {path.name}\n")
    return path


def is_kept(path: Path) -> bool:
    """Tell if a file that ``keep`` has made is there and whole."""
    return intact_or_removed(path, None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time write a file, in a folder that is made; the others wait and say so."""
    from huggingface_hub.utils import WeakFileLock

    make_folder(path.parent)
    lock = path.with_name(f".{path.name}.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(lock, timeout=AT_ONCE))
        except TimeoutError:
            log.info(f"another process writes {path}: waiting for it")
            stack.enter_context(WeakFileLock(lock))
        yield


def remove_parts(source: Source) -> None:
    """Remove what is left of the file at other commits, where fetching it was broken off and nobody goes on."""
    from huggingface_hub.utils import WeakFileLock

    file = Path(source.file or "")
    for part in home(source).glob(f"*/{glob.escape(str(file.with_name(f'.{file.name}.')))}*.part"):
        with suppress(OSError, TimeoutError), WeakFileLock(part.with_name(f".{file.name}.lock"), timeout=AT_ONCE / 10):
            part.unlink()


def checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
