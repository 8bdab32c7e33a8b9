"""Files of the Hub over a local socket: cached, resumed, verified, and each way a fetch can fail."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from simclrseg.errors import HubError, OutputError
from simclrseg.hub import fetch as fetching
from simclrseg.hub import store
from simclrseg.hub.fetch import fetch, look
from simclrseg.hub.store import cached
from simclrseg.hub.table import PUBLISHED, Source
from tests.fake_hub import TOKEN, FakeHub

CONTENT = b"weights " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REPO = "me/resnet50-simclr-pets"
NAME = "backbone.safetensors"
SOURCE = PUBLISHED["pets"].source("me")


@pytest.fixture
def filled(fake_hub, monkeypatch) -> FakeHub:
    """The Hub with one file, and no pauses between attempts."""
    fake_hub.add(REPO, {NAME: CONTENT, "config.json": b"{}"})
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    return fake_hub


def files_left(root: Path) -> set[str]:
    """All files below a folder but locks and the notes of branches."""
    return {
        path.name
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.parent.name != "refs"
    }


def test_a_fetched_file_lies_by_its_commit_and_is_then_taken_without_a_request(filled, caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    assert cached(SOURCE) is None
    path = fetch(SOURCE)
    commit = filled.repos[REPO].refs["main"]
    assert path == Path(constants.HF_HOME, "simclrseg", REPO, commit, NAME)
    assert path.read_bytes() == CONTENT
    assert caplog.messages == [
        f"looking for {REPO}/{NAME} on {filled.url}",
        f"verified: {path}",
    ]
    assert files_left(Path(constants.HF_HOME)) == {NAME, f"{NAME}.sha256"}
    filled.requests.clear()
    assert fetch(SOURCE) == fetch(replace(SOURCE, revision=commit)) == cached(SOURCE) == path
    assert filled.requests == []


def test_what_huggingface_hub_has_cached_is_taken_and_never_written(filled):
    path = Path(huggingface_hub.hf_hub_download(REPO, NAME))
    filled.requests.clear()
    assert fetch(SOURCE) == path
    assert filled.requests == []
    path.resolve().write_bytes(b"rotten")
    mine = fetch(SOURCE)
    assert mine.read_bytes() == CONTENT and Path(constants.HF_HOME, "simclrseg") in mine.parents
    assert path.read_bytes() == b"rotten"


def test_progress_counts_the_bytes_of_the_whole_file(filled):
    seen: list[tuple[int, int]] = []
    fetch(SOURCE, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_force_fetches_anew(filled):
    fetch(SOURCE)
    filled.add(REPO, {NAME: b"newer"})
    assert fetch(SOURCE).read_bytes() == CONTENT
    assert fetch(SOURCE, force=True).read_bytes() == b"newer"
    assert fetch(SOURCE).read_bytes() == b"newer"


def test_a_download_that_was_killed_continues(filled):
    content = os.urandom(3_000_000)
    filled.add(REPO, {NAME: content})
    code = """
import os, signal
from simclrseg.hub.fetch import fetch
from simclrseg.hub.table import PUBLISHED
fetch(PUBLISHED["pets"].source("me"), progress=lambda done, total: done > 1e6 and os.kill(os.getpid(), signal.SIGKILL))
"""
    environment = {**os.environ, "HF_ENDPOINT": filled.url, "HF_HOME": constants.HF_HOME}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGKILL
    (part,) = Path(constants.HF_HOME).rglob("*.part")
    begun = part.stat().st_size
    assert 900_000 < begun < len(content)
    assert fetch(SOURCE).read_bytes() == content
    assert filled.ranges[-1] == f"bytes={begun}-"
    assert files_left(Path(constants.HF_HOME)) == {NAME, f"{NAME}.sha256"}


def test_a_connection_that_breaks_is_taken_up_again(filled, caplog):
    filled.fail(f"GET .*{NAME}", cut=3000)
    filled.fail("GET /_cdn/", cut=1000)
    assert fetch(SOURCE).read_bytes() == CONTENT
    assert filled.ranges[-1] == "bytes=4000-"
    assert [message for message in caplog.messages if message.startswith("the connection broke")]


def test_a_server_that_knows_no_ranges_sends_the_file_anew(filled):
    filled.fail(f"GET .*{NAME}", cut=3000)
    filled.fail("GET /_cdn/", cut=len(CONTENT), whole=True)
    assert fetch(SOURCE).read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_is_given_up_and_says_how_to_go_on(filled):
    filled.fail("GET /_cdn/", times=5, cut=0)
    with pytest.raises(
        HubError, match=r"stops at 0\.0 of 0\.0 MB \(\w+\): check the network and run the command again"
    ):
        fetch(SOURCE)
    assert len(filled.gets()) == 2 * fetching.PATIENCE  # each is redirected


def test_a_flipped_bit_is_refused_and_removed(filled):
    filled.fail(f"GET .*{NAME}", flip=True)
    with pytest.raises(HubError, match=r"has the checksum .*, not the announced .*removed; run the command again"):
        fetch(SOURCE)
    assert not files_left(Path(constants.HF_HOME))
    assert fetch(SOURCE).read_bytes() == CONTENT


def test_a_small_file_is_verified_by_what_git_calls_it(filled):
    source = replace(SOURCE, file="config.json")
    filled.fail("GET .*config", flip=True)
    with pytest.raises(HubError, match="not the announced"):
        fetch(source)
    assert fetch(source).read_bytes() == b"{}"


def test_another_file_than_the_one_in_the_table_is_refused_before_it_is_fetched(filled):
    with pytest.raises(HubError, match=r"is another file now .* than this version knows \(000000000000…\): update"):
        fetch(replace(SOURCE, sha256="0" * 64))
    assert not filled.gets()


def test_a_kept_file_that_rotted_is_removed_and_fetched_again(filled, caplog):
    path = fetch(SOURCE)
    path.write_bytes(b"rotten")
    assert cached(SOURCE) is None
    assert "is damaged and was removed" in caplog.text
    assert fetch(SOURCE).read_bytes() == CONTENT


def refused(status: int, code: str, message: str) -> object:
    return pytest.param(status, code, message, id=f"{status}-{code}")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        refused(404, "RepoNotFound", "nobody has published me/resnet50-simclr-pets on .* yet"),
        refused(401, "RepoNotFound", "nobody has published .*token is missing .*HF_TOKEN"),
        refused(401, "GatedRepo", "is gated: ask for access on its page and set HF_TOKEN"),
        refused(403, "GatedRepo", "is gated"),
        refused(404, "RevisionNotFound", "has no revision 'main'"),
        refused(404, "EntryNotFound", r"holds no backbone\.safetensors"),
        refused(404, "", "nobody has published me/resnet50-simclr-pets on .* yet"),
        refused(401, "", "refused the token .*HF_TOKEN"),
        refused(403, "", "access to .* was refused: check the rights"),
        refused(429, "", "too many requests .*wait"),
        refused(500, "", r"the Hub failed on .* \(HTTP 500\)"),
        refused(503, "", r"\(HTTP 503\): try again later"),
    ],
)
@pytest.mark.parametrize("request_", ["HEAD", "GET"])
def test_each_refusal_is_one_line_with_the_way_out_and_at_once(filled, request_, status, code, message):
    filled.fail(f"{request_} .*{NAME}", times=9, status=status, code=code)
    start = time.monotonic()
    with pytest.raises(HubError, match=message) as caught:
        fetch(SOURCE)
    assert time.monotonic() - start < 5, "huggingface_hub itself would try for 23 seconds"
    assert "make one with `simclrseg pretrain --config simclr_pets`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_repository_revision_or_file_that_is_not_there_is_named(filled):
    for source, message in (
        (Source("nobody/nothing", "a.pth"), "there is no nobody/nothing on .*check the address"),
        (Source(REPO, NAME, revision="v9"), "has no revision 'v9'"),
        (Source(REPO, "a.pth"), r"holds no a\.pth"),
    ):
        with pytest.raises(HubError, match=message):
            fetch(source)


def test_a_gated_repository_opens_with_a_token(filled, monkeypatch):
    filled.repos[REPO].gated = True
    with pytest.raises(HubError, match="is gated"):
        fetch(SOURCE, token="hf_wrong")
    assert fetch(SOURCE, token=TOKEN).read_bytes() == CONTENT
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch(SOURCE, force=True).read_bytes() == CONTENT


def test_no_network_is_said_at_once_and_a_cached_file_still_serves(filled):
    path = fetch(SOURCE)
    huggingface_hub.close_session()
    filled.close()
    start = time.monotonic()
    with pytest.raises(HubError, match=r"cannot be reached \(ConnectError\): check the network"):
        fetch(PUBLISHED["cifar"].source("me"))
    elsewhere = r"check the network, or fetch model\.safetensors elsewhere and give that file to --pretrained, "
    elsewhere += r"and its encoder to --backbone$"
    with pytest.raises(HubError, match=elsewhere):  # to train one's own asks for a network too
        fetch(PUBLISHED["dinov2"].source())
    assert time.monotonic() - start < 5
    assert fetch(SOURCE) == path


@pytest.mark.parametrize("name", [name for name, entry in PUBLISHED.items() if not entry.uploaded])
def test_what_nobody_has_uploaded_yet_is_not_asked_for(fake_hub, name):
    entry = PUBLISHED[name]
    for ask in (fetch, look):
        with pytest.raises(HubError, match=f"nobody has published {name} yet: make one with `{entry.make}`"):
            ask(entry.source())
    assert fake_hub.requests == []


def test_offline_is_honoured_and_a_cached_file_still_serves(filled, monkeypatch):
    with pytest.raises(HubError, match=r"pets is not in the cache .* and --offline forbids fetching it"):
        fetch(SOURCE, local_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids fetching it"):
        fetch(SOURCE)
    assert filled.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = fetch(SOURCE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(SOURCE) == fetch(SOURCE, local_only=True) == path


def test_too_little_space_is_said_before_anything_is_fetched(filled, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1))
    with pytest.raises(HubError, match=r"has 0 MB left .*free some space, or name another folder with HF_HOME"):
        fetch(SOURCE)
    assert not filled.gets()


def test_what_came_already_needs_no_space_again(filled, monkeypatch):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(SOURCE, progress=stop)
    (part,) = Path(constants.HF_HOME).rglob("*.part")
    part.write_bytes(CONTENT[:-10])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    assert fetch(SOURCE).read_bytes() == CONTENT


def test_a_second_process_waits_for_the_first_and_says_so(filled, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "simclrseg")
    monkeypatch.setattr(store, "AT_ONCE", 0.05)
    commit = filled.repos[REPO].refs["main"]
    target = Path(constants.HF_HOME, "simclrseg", REPO, commit, NAME)
    got: list[Path] = []
    with store.locked(target):
        second = threading.Thread(target=lambda: got.append(fetch(SOURCE)))
        second.start()
        while second.is_alive() and "waiting for it" not in caplog.text:
            time.sleep(0.01)
        assert not got and not filled.gets()
    second.join()
    assert got == [target] and f"another process writes {target}: waiting for it" in caplog.messages


def test_a_long_download_that_nobody_shows_says_how_far_it_is(filled, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "simclrseg")
    monkeypatch.setattr(fetching, "EVERY", 0.0)
    fetch(SOURCE)
    assert "0.0 of 0.0 MB" in caplog.messages


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_what_came_stays(filled):
    def full(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\): free some space"):
        fetch(SOURCE, progress=full)
    assert list(Path(constants.HF_HOME).rglob("*.part"))


def test_the_weights_of_a_repository_are_found_where_no_file_is_named(filled):
    filled.add("a/usual", {"README.md": b"", "other.pth": b"1", "model.safetensors": b"2"})
    filled.add("a/single", {"README.md": b"", "checkpoints/last.ckpt": b"3"})
    filled.add("a/several", {"one.pth": b"4", "two.pth": b"5"})
    filled.add("a/none", {"README.md": b""})
    assert fetch(Source("a/usual")).read_bytes() == b"2"
    assert fetch(Source("a/single")).read_bytes() == b"3"
    with pytest.raises(HubError, match=r"several weights files .*: name one, as hf:a/several/one\.pth"):
        fetch(Source("a/several"))
    with pytest.raises(HubError, match="holds no weights file"):
        fetch(Source("a/none"))
    filled.requests.clear()
    assert fetch(Source("a/usual")).read_bytes() == b"2"
    assert fetch(Source("a/single"), local_only=True).read_bytes() == b"3"
    assert filled.requests == []


def test_a_list_of_files_that_leads_out_of_the_cache_is_not_followed(filled):
    filled.add("a/evil", {"../../../evil.pth": b"1", "/evil.pth": b"2", "a\\..\\b.pth": b"3"})
    with pytest.raises(HubError, match="holds no weights file"):
        fetch(Source("a/evil"))


def test_looking_says_size_and_fetches_nothing(filled):
    remote = look(SOURCE)
    assert (remote.size, remote.etag) == (len(CONTENT), SHA256)
    assert not filled.gets() and not Path(constants.HF_HOME).exists()


def test_a_server_that_is_no_hub_is_named(filled, monkeypatch):
    monkeypatch.setattr(store, "COMMIT", re.compile("never"))
    with pytest.raises(HubError, match=r"does not answer as the Hub does .*check HF_ENDPOINT"):
        fetch(SOURCE)
