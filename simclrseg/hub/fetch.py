"""Files of the Hub: taken from the cache without a request, else downloaded, verified and kept.

huggingface_hub's own cache is read first and never written. What is fetched lies in
``$HF_HOME/simclrseg/<owner>/<repo>/<commit>/`` beside its checksum: huggingface_hub does not check what it downloads
over plain HTTP, and a download of its own that was killed begins anew.
"""

from __future__ import annotations

import hashlib
import http
import logging
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from simclrseg.errors import HubError
from simclrseg.files import make_folder, output_error, write_text, writing
from simclrseg.hub.table import Source
from simclrseg.hub.trouble import offline, one_line, place_of
from simclrseg.metadata import BACKBONE_FILE, MODEL_FILE, WEIGHTS

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds for the first answer
PATIENCE = 3  # attempts that brought nothing, one after the other
PAUSE = 1.0  # seconds before another attempt
USUAL_FILES = (BACKBONE_FILE, MODEL_FILE)  # the second is timm's and transformers' name too
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and those of the whole file."""


@dataclass(frozen=True)
class Remote:
    """What the Hub says of a file.

    Attributes:
        etag: its sha256, or for small files git's SHA-1.
        size: in bytes; None where the Hub does not say.
    """

    source: Source
    commit: str
    etag: str
    size: int | None


def fetch(
    source: Source,
    *,
    token: str | None = None,
    local_only: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The file: from a cache, else downloaded and verified.

    Args:
        token: for what is gated or private; by default the one of HF_TOKEN or of ``hf auth login``.
        local_only: make no request.
        force: fetch it anew.

    Raises:
        HubError: if it cannot be had, or is not the file that was announced.
        OutputError: if it cannot be stored.
    """
    if not force and (path := cached(source)) is not None:
        log.info(f"cached: {path}")
        return path
    remote = look(source, token=token, local_only=local_only)
    return _download(remote, token=token, force=force, progress=progress)


def cached(source: Source) -> Path | None:
    """The file where it lies already, verified; None where it does not. No request is made."""
    from huggingface_hub import try_to_load_from_cache

    for name in [source.file] if source.file else USUAL_FILES:
        found = try_to_load_from_cache(source.repo_id, name, revision=source.revision)
        if isinstance(found, str) and _is_intact(Path(found), source.sha256):
            return Path(found)
        home = folder(source)
        if home is not None and _is_ours_and_intact(home / name, source.sha256):
            return home / name
    return None


def is_cached(source: Source) -> bool:
    """Whether the file lies in a cache; it is not verified, and no request is made."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo_id, source.file or "", revision=source.revision)
    home = folder(source)
    return isinstance(found, str) or (home is not None and (home / (source.file or "")).is_file())


def look(source: Source, *, token: str | None = None, local_only: bool = False) -> Remote:
    """Ask the Hub for a file's commit, size and checksum.

    Raises:
        HubError: if it is not there, cannot be reached, or is another file than the one that is known.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if local_only or constants.is_offline_mode():
        raise offline(source, "--offline" if local_only else "HF_HUB_OFFLINE")
    log.info(f"looking for {source} on {constants.ENDPOINT}")
    with one_line(source):
        if source.file is None:
            source = replace(source, file=_weights_file(source, token))
        # hf_hub_download would try seven times in 23 silent seconds before it says that there is no network
        url = huggingface_hub.hf_hub_url(source.repo_id, source.file or "", revision=source.revision)
        found = huggingface_hub.get_hf_file_metadata(url, token=token, timeout=TIMEOUT)
    commit, etag = found.commit_hash or "", found.etag or ""
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"{place_of(source)} does not answer as the Hub does (no commit): check HF_ENDPOINT")
    if source.sha256 and _SHA256.fullmatch(etag) and etag != source.sha256:
        raise HubError(
            f"{source} is another file now (sha256 {etag[:12]}…) than this version knows ({source.sha256[:12]}…): "
            "update simclrseg (pip install -U simclrseg)"
        )
    return Remote(source, commit, etag, found.size)


def _weights_file(source: Source, token: str | None) -> str:
    """The file of a repository that holds the weights."""
    from huggingface_hub import HfApi, constants

    info = HfApi(endpoint=constants.ENDPOINT, token=token).model_info(
        source.repo_id, revision=source.revision, timeout=TIMEOUT
    )
    names = [file.rfilename for file in info.siblings or ()]
    for name in USUAL_FILES:
        if name in names:
            return name
    weights = [name for name in names if name.endswith(WEIGHTS)]
    if len(weights) == 1:
        return weights[0]
    if not weights:
        raise HubError(f"{place_of(source)} holds no weights file: check the address")
    raise HubError(
        f"{place_of(source)} holds several weights files ({', '.join(weights[:5])}): "
        f"name one, as hf:{source.repo_id}/{weights[0]}"
    )


def _download(remote: Remote, *, token: str | None, force: bool, progress: Progress | None) -> Path:
    from huggingface_hub.utils import WeakFileLock

    source = remote.source
    assert source.file is not None
    target = _store(source) / remote.commit / source.file
    try:
        make_folder(target.parent)
        with WeakFileLock(target.with_name(f".{target.name}.lock")):
            if not force and _is_ours_and_intact(target, source.sha256):  # another process has fetched it meanwhile
                return target
            part = target.with_name(f".{target.name}.{remote.etag[:16] or remote.commit}.part")
            _check_space(target.parent, remote.size)
            _receive(remote, part, token=token, progress=progress)
            sha256 = _verified(part, remote)
            with writing(target):
                write_text(_checksum(target), f"{sha256}  {target.name}\n")
                part.replace(target)
            refs = _store(source) / "refs" / source.revision
            make_folder(refs.parent)
            write_text(refs, remote.commit)
    except OSError as error:
        raise output_error(target, error) from error
    log.info(f"verified: {target}")
    return target


def _receive(remote: Remote, part: Path, *, token: str | None, progress: Progress | None) -> None:
    """Bring the part to its whole size, from where it ends; a connection that breaks is taken up again."""
    size, have, fruitless = remote.size, _size(part), 0
    if size is not None and have > size:
        part.unlink()
        have = 0
    if have:
        log.info(f"going on at {have / 1e6:.1f} MB")
    elif size:
        log.info(f"fetching {size / 1e6:.1f} MB")
    while size is None or have < size:
        with one_line(remote.source):
            broken = _append(remote, part, token=token, progress=progress)
        before, have = have, _size(part)
        if size is None and not broken:
            return
        fruitless = 0 if have > before else fruitless + 1
        if fruitless == PATIENCE:
            raise HubError(
                f"{remote.source} stops at {have / 1e6:.1f} of {(size or 0) / 1e6:.1f} MB ({broken}): "
                "check the network and run the command again to go on from there"
            )
        if size is None or have < size:
            log.warning(f"the connection broke at {have / 1e6:.1f} MB ({broken}); going on")
            time.sleep(PAUSE if fruitless else 0)


def _append(remote: Remote, part: Path, *, token: str | None, progress: Progress | None) -> str:
    """Ask once for what is missing; what broke the connection, if something did."""
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    have, source = _size(part), remote.source
    url = huggingface_hub.hf_hub_url(source.repo_id, source.file or "", revision=remote.commit)
    wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    headers = build_hf_headers(token=token, headers=wanted)
    try:
        with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT) as answer:
            hf_raise_for_status(answer)
            with open(part, "ab" if answer.status_code == http.HTTPStatus.PARTIAL_CONTENT else "wb") as file:
                done = file.tell()
                for chunk in answer.iter_bytes():  # as it comes: chunks of one size would lose the last at a break
                    file.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, remote.size or done)
    except errors.HfHubHTTPError:
        raise  # an answer, which another attempt would not change
    except errors.HTTPError as error:  # type: ignore[attr-defined]
        return type(error).__name__
    return "" if remote.size is None or done >= remote.size else "it ended early"


def _verified(part: Path, remote: Remote) -> str:
    """The sha256 of a whole file, which is compared with what the Hub announced.

    Raises:
        HubError: if it is another file; it is gone then.
    """
    sha256 = _sha256(part)
    announced = remote.source.sha256 or remote.etag
    if _SHA256.fullmatch(announced):
        got = sha256
    elif _COMMIT.fullmatch(announced):
        got = _git_sha1(part)
    else:
        log.warning(f"{remote.source} comes without a checksum, so it cannot be verified")
        return sha256
    if got != announced:
        part.unlink()
        raise HubError(
            f"{remote.source.file} has the checksum {got[:12]}…, not the announced {announced[:12]}…: the download is "
            "damaged and was removed; run the command again"
        )
    return sha256


def _check_space(folder: Path, size: int | None) -> None:
    if size is not None and (free := shutil.disk_usage(folder).free) < size:
        raise HubError(
            f"{folder} has {free / 1e6:.0f} MB left and the file needs {size / 1e6:.0f}: "
            "free some space, or name another folder with HF_HOME"
        )


def store() -> Path:
    """The folder of what was fetched and verified here."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME, "simclrseg")


def _store(source: Source) -> Path:
    return store() / source.repo_id


def folder_of(source: Source, file: Path) -> Path:
    """Where what is made from a file belongs: by its commit, also where huggingface_hub has cached it."""
    commit = next(part for part in reversed(file.parts) if _COMMIT.fullmatch(part))
    return _store(source) / commit


def folder(source: Source) -> Path | None:
    """Where the files of a revision lie; None where none was fetched."""
    commit = source.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (_store(source) / "refs" / commit).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    return _store(source) / commit if _COMMIT.fullmatch(commit) else None


def _is_intact(path: Path, sha256: str | None) -> bool:
    """Whether a file of huggingface_hub's cache is whole: large ones are stored under their sha256."""
    stored = path.resolve().name
    expected = sha256 or (stored if _SHA256.fullmatch(stored) else None)
    if expected is None or _sha256(path) == expected:
        return True
    log.warning(f"{path} is damaged or another file and not used; `hf cache` manages that folder")
    return False


def _is_ours_and_intact(path: Path, sha256: str | None) -> bool:
    """Whether one of our files is whole; a damaged one is removed."""
    if not path.is_file():
        return False
    try:
        expected = _checksum(path).read_text(encoding="utf-8").split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        expected = ""
    if _sha256(path) == expected and sha256 in {None, expected}:
        return True
    log.warning(f"{path} is damaged and was removed")
    path.unlink()
    _checksum(path).unlink(missing_ok=True)
    return False


def keep(path: Path) -> None:
    """Note the checksum of a file that was made from a verified one."""
    write_text(_checksum(path), f"{_sha256(path)}  {path.name}\n")


def is_kept(path: Path) -> bool:
    """Whether a file that ``keep`` has seen is there and whole."""
    return _is_ours_and_intact(path, None)


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _git_sha1(path: Path) -> str:
    """What git, and the Hub with it, calls a small file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
