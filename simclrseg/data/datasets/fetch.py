"""Fetching named sets: size announced, space checked, into place only when whole, no network in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from simclrseg.data.datasets.dataset import size_text
from simclrseg.errors import DataError
from simclrseg.system.files import temporary_folder
from simclrseg.text import in_one_line

log = logging.getLogger(__name__)

SECONDS_WITHOUT_AN_ANSWER = 30.0


@dataclass(frozen=True)
class Source:
    """Where a named set comes from.

    Attributes:
        layout: what its folder must hold, as the user is told.
        address: where a person finds it.
        download: bytes that are fetched.
        disk: bytes that are needed while it is unpacked.
    """

    name: str
    layout: str
    address: str
    download: int
    disk: int


def missing(source: Source, root: Path, reason: str = "") -> DataError:
    """The error for a set that is not there and was not or cannot be fetched."""
    reason = f" and cannot be fetched ({reason})" if reason else ""
    return DataError(
        f"{source.name} is not in {root}{reason}: expected there: {source.layout}; "
        f"get it from {source.address}, or set SIMCLRSEG_DATA to the folder that holds {source.name}/"
    )


def fetch(source: Source, root: Path, download: Callable[[Path], None], *, entries: tuple[str, ...]) -> None:
    """Fetch a set into a folder beside its place, then move its ``entries`` there.

    Args:
        root: the set's folder; created when there is something to put in.
        download: fills the folder it is given.
    """
    if partial := [entry for entry in entries if (root / entry).exists()]:
        raise missing(source, root, f"{root / partial[0]} is there but not whole: remove it to fetch it anew")
    parent = next(folder for folder in (root, *root.parents) if folder.is_dir())
    free = shutil.disk_usage(parent).free
    if free < source.disk:
        raise missing(source, root, f"it needs {size_text(source.disk)}, {size_text(free)} are free")
    created = [folder for folder in (root, *root.parents) if not folder.exists()]
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_WITHOUT_AN_ANSWER)  # a server that never answers must not hold the command
    try:
        root.mkdir(parents=True, exist_ok=True)
        log.info("fetching %s: %s from %s to %s", source.name, size_text(source.download), source.address, root)
        with temporary_folder(root) as temporary:
            with contextlib.redirect_stdout(sys.stderr):  # torchvision prints; stdout is for results
                download(temporary)
            for entry in entries:
                try:
                    (temporary / entry).rename(root / entry)
                except OSError:
                    if not (root / entry).exists():  # else another process was sooner
                        raise
    except Exception as error:  # whatever a network and three libraries can raise
        reason = in_one_line(error, 160)
        raise missing(source, root, reason) from error
    finally:
        socket.setdefaulttimeout(patience)
        for folder in created:
            with contextlib.suppress(OSError):  # not empty: the set is there
                folder.rmdir()


def reach_hub() -> None:
    """See that the Hugging Face Hub answers, or raise OSError: its own libraries would try for half a minute."""
    address = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    plain = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()  # urllib takes a password for a port
    with contextlib.suppress(urllib.error.HTTPError):  # an answer, if not a kind one
        request = urllib.request.Request(plain, method="HEAD")
        urllib.request.urlopen(request, timeout=SECONDS_WITHOUT_AN_ANSWER).close()
