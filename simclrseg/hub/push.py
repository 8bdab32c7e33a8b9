"""Uploading files to a repository of the Hub, all in one commit."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from simclrseg.errors import HubError
from simclrseg.hub.fetch import TIMEOUT
from simclrseg.hub.table import Source
from simclrseg.hub.trouble import TOKEN, one_line, place_of, raise_refusal

log = logging.getLogger(__name__)


def check_access(repo_id: str, token: str | None = None) -> str:
    """The token that will upload, known to the Hub; by default that of HF_TOKEN or of ``hf auth login``."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import build_hf_headers, get_session

    source = _destination(repo_id)
    if constants.HF_HUB_OFFLINE:
        raise HubError(f"nothing can be uploaded to {repo_id} while HF_HUB_OFFLINE is set: unset it")
    token = token or get_token()
    if not token:
        raise HubError(f"uploading to {place_of(source)} needs a token with write access: {TOKEN}")
    # HfApi would try for 23 silent seconds before it says that there is no network
    with one_line(source):
        address, headers = f"{constants.ENDPOINT}/api/whoami-v2", build_hf_headers(token=token)
        with get_session().stream("GET", address, headers=headers, timeout=TIMEOUT) as answer:
            raise_refusal(answer)
    return token


def push(files: Mapping[str, Path | bytes], repo_id: str, *, token: str, private: bool, message: str) -> str:
    """Upload files in one commit, to a repository that is created where there is none.

    Args:
        files: path in the repository -> file, or what is to be in it.
        private: whether a new repository is hidden; one that exists stays as it is.

    Returns:
        The commit's address.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    sizes = [len(file) if isinstance(file, bytes) else file.stat().st_size for file in files.values()]
    log.info(f"uploading {sum(sizes) / 1e6:.1f} MB to {repo_id}")
    with one_line(_destination(repo_id)), _no_bars():
        api.create_repo(repo_id, private=private, exist_ok=True)
        additions = [CommitOperationAdd(name, file) for name, file in files.items()]
        commit = api.create_commit(repo_id, additions, commit_message=message)
    return str(commit.commit_url)


def _destination(repo_id: str) -> Source:
    return Source(repo_id, title=repo_id, remedy="choose another --push")


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without huggingface_hub's own progress bars, which are not made for logs."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
            enable_progress_bars()
