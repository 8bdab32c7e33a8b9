"""Files of the Hub: taken from the cache without a request, else downloaded, verified and kept.

huggingface_hub does not check what it downloads over plain HTTP, and a download of its own that was killed begins anew.
"""

from __future__ import annotations

import hashlib
import http
import json
import logging
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from simclrseg.errors import HubError
from simclrseg.hub import store
from simclrseg.hub.table import Source, stays_inside
from simclrseg.hub.trouble import NO_ANSWERS, no_hub, one_line, place_of, raise_refusal
from simclrseg.runs.names import WEIGHTS
from simclrseg.system.files import make_folder, output_error, sha256_of, write_text, writing

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds for the first answer
PATIENCE = 3  # attempts that brought nothing, one after the other
PAUSE = 1.0  # seconds before another attempt
LARGEST_UNTOLD = 1 << 33  # bytes of a file whose size the Hub does not say
LONGEST_LIST = 1 << 26  # bytes of a list of files
EVERY = 30.0  # seconds between lines where nobody else shows how far it is

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and those of the whole file."""


@dataclass(frozen=True)
class Remote:
    """A file as the Hub describes it."""

    source: Source
    commit: str
    etag: str  # its sha256, or for small files git's SHA-1
    size: int | None  # in bytes; None where the Hub does not say


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
    """
    if not force and (path := store.cached(source)) is not None:
        log.info(f"cached: {path}")
        return path
    remote = look(source, token=token, local_only=local_only)
    path = _download(remote, token=token, force=force, progress=progress or _lines())
    if source.file is None and remote.source.file is not None:
        store.note_file(remote.source, remote.commit)
    return path


def look(source: Source, *, token: str | None = None, local_only: bool = False) -> Remote:
    """Ask the Hub for a file's commit, size and checksum.

    Raises:
        HubError: if it is not there, cannot be reached, or is another file than the one that is known.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if not source.uploaded:
        raise HubError(f"nobody has published {source.title} yet: {source.remedy}")
    if local_only or constants.HF_HUB_OFFLINE:
        reason = "--offline" if local_only else "HF_HUB_OFFLINE"
        raise HubError(
            f"{source.title or source} is not in the cache ({constants.HF_HOME}) and {reason} forbids fetching it: "
            f"do without it once, or {source.remedy}"
        )
    log.info(f"looking for {source} on {constants.ENDPOINT}")
    with one_line(source):
        if source.file is None:
            source = replace(source, file=_weights_file(source, token))
        # hf_hub_download would try seven times in 23 silent seconds before it says that there is no network
        url = huggingface_hub.hf_hub_url(source.repo_id, source.file or "", revision=source.revision)
        found = huggingface_hub.get_hf_file_metadata(url, token=token, timeout=TIMEOUT)
    commit, etag = found.commit_hash or "", found.etag or ""
    if not store.COMMIT.fullmatch(commit):
        raise no_hub(source, "no commit")
    if source.sha256 and store.SHA256.fullmatch(etag) and etag != source.sha256:
        raise HubError(
            f"{source} is another file now (sha256 {etag[:12]}…) than this version knows ({source.sha256[:12]}…)",
            "update simclrseg (pip install -U simclrseg)",
            value=str(source),
        )
    if found.size is not None and not 0 <= found.size < 1 << 63:
        raise no_hub(source, f"a file of {found.size} bytes")
    return Remote(source, commit, etag, found.size)


def _weights_file(source: Source, token: str | None) -> str:
    """The file of a repository that holds the weights."""
    names = [name for name in _files(source, token) if stays_inside(name)]
    for name in store.USUAL_FILES:
        if name in names:
            return name
    weights = [name for name in names if name.endswith(WEIGHTS)]
    if len(weights) == 1:
        return weights[0]
    if not weights:
        raise HubError(f"{place_of(source)} holds no weights file", "check the address")
    raise HubError(
        f"{place_of(source)} holds several weights files ({', '.join(weights[:5])})",
        f"name one, as hf:{source.repo_id}/{weights[0]}",
    )


def _files(source: Source, token: str | None) -> list[str]:
    """The paths of the files of a repository; of an answer no more is read than a list of files can have."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session

    address = f"{constants.ENDPOINT}/api/models/{source.repo_id}/revision/{quote(source.revision, safe='')}"
    text = bytearray()
    with get_session().stream(
        "GET", address, headers=build_hf_headers(token=token), follow_redirects=True, timeout=TIMEOUT
    ) as answer:
        raise_refusal(answer)
        for chunk in answer.iter_bytes():
            text += chunk
            if len(text) > LONGEST_LIST:
                raise no_hub(source, f"a list of files of more than {LONGEST_LIST / 1e6:.0f} MB")
    return [str(file["rfilename"]) for file in json.loads(text)["siblings"]]


def _lines() -> Progress:
    """Progress in lines, so that a command that shows none of its own is not silent for minutes."""
    spoke = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal spoke
        if (now := time.monotonic()) - spoke >= EVERY:
            log.info(f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB")
            spoke = now

    return say


def _download(remote: Remote, *, token: str | None, force: bool, progress: Progress) -> Path:
    source = remote.source
    assert source.file is not None
    target = store.home(source) / remote.commit / source.file
    try:
        with store.locked(target):
            if not force and store.intact_or_removed(target, source.sha256):  # another process has fetched it meanwhile
                return target
            mark = re.sub(r"\W", "", remote.etag)[:16] or remote.commit
            part = target.with_name(f".{target.name}.{mark}.part")
            needed, free = (remote.size or 0) - _size(part), shutil.disk_usage(target.parent).free
            if free < needed:
                raise HubError(
                    f"{target.parent} has {free / 1e6:.0f} MB left and the file needs {needed / 1e6:.0f}",
                    "free some space, or name another folder with HF_HOME",
                    path=target.parent,
                )
            _receive(remote, part, token=token, progress=progress)
            sha256 = _verified(part, remote)
            with writing(target):
                write_text(store.checksum_file(target), f"{sha256}  {target.name}\n")
                part.replace(target)
            refs = store.home(source) / "refs" / source.revision
            make_folder(refs.parent)
            write_text(refs, remote.commit)
            store.remove_parts(source)
    except OSError as error:
        raise output_error(target, error) from error
    log.info(f"verified: {target}")
    return target


def _receive(remote: Remote, part: Path, *, token: str | None, progress: Progress) -> None:
    """Bring the part to its whole size, from where it ends; a connection that breaks is taken up again."""
    part.touch()
    size, have, fruitless = remote.size, _size(part), 0
    if size is not None and have > size:
        part.unlink()
        have = 0
    if have:
        log.info(f"going on at {have / 1e6:.1f} MB")
    elif size and size > 1e5:
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
                f"{remote.source} stops at {have / 1e6:.1f} of {(size or 0) / 1e6:.1f} MB ({broken})",
                "check the network and run the command again to go on from there",
            )
        if size is None or have < size:
            log.warning(f"the connection broke at {have / 1e6:.1f} MB ({broken}); going on")
            time.sleep(PAUSE if fruitless else 0)


def _append(remote: Remote, part: Path, *, token: str | None, progress: Progress) -> str:
    """Ask once for what is missing; what broke the connection, if something did."""
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils import build_hf_headers, get_session

    have, source = _size(part), remote.source
    url = huggingface_hub.hf_hub_url(source.repo_id, source.file or "", revision=remote.commit)
    wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    headers = build_hf_headers(token=token, headers=wanted)
    try:
        with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT) as answer:
            raise_refusal(answer)
            with open(part, "ab" if answer.status_code == http.HTTPStatus.PARTIAL_CONTENT else "wb") as file:
                done = file.tell()
                for chunk in answer.iter_bytes():  # as it comes: chunks of one size would lose the last at a break
                    file.write(chunk)
                    done += len(chunk)
                    progress(done, remote.size or done)
                    if done > (remote.size or LARGEST_UNTOLD):
                        break
    except errors.HfHubHTTPError:
        raise  # an answer, which another attempt would not change
    except errors.HTTPError as error:
        if type(error).__name__ in NO_ANSWERS:
            raise
        return type(error).__name__
    if done > (remote.size or LARGEST_UNTOLD):
        part.unlink()
        told = "" if remote.size is None else f", though {remote.size:,} were announced"
        raise no_hub(source, f"more than {remote.size or LARGEST_UNTOLD:,} bytes{told}")
    return "" if remote.size is None or done >= remote.size else "it ended early"


def _verified(part: Path, remote: Remote) -> str:
    """The sha256 of a whole file, compared with what the Hub announced; another file is removed and refused."""
    sha256 = sha256_of(part)
    announced = remote.source.sha256 or remote.etag
    if store.SHA256.fullmatch(announced):
        got = sha256
    elif store.COMMIT.fullmatch(announced):  # git's hash of a small file
        content = part.read_bytes()
        got = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    else:
        log.warning(f"{remote.source} comes without a checksum, so it cannot be verified")
        return sha256
    if got != announced:
        part.unlink()
        raise HubError(
            f"{remote.source.file} has the checksum {got[:12]}…, not the announced {announced[:12]}…: the download is "
            "damaged and was removed",
            "run the command again",
        )
    return sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
