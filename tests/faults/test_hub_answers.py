"""Answers that are not the Hub's: each is one line, in bounded time and memory."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from simclrseg.errors import HubError
from simclrseg.hub import fetch as fetching
from simclrseg.hub.fetch import fetch
from simclrseg.hub.push import check_access
from simclrseg.hub.table import Source

ANY = Source("me/repo", title="me/repo")
COMMIT, SHA256 = "a" * 40, "b" * 64
DESCRIBED = {"X-Repo-Commit": COMMIT, "ETag": f'"{SHA256}"'}
NO_HUB = r"^me/repo on http://\S+ does not answer as the Hub does \(.*\): check HF_ENDPOINT, and HTTPS_PROXY or"


@pytest.fixture
def hub(fake_hub, monkeypatch):
    fake_hub.add("me/repo", {"model.safetensors": b"weights"})
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    return fake_hub


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"7",
        b'"text"',
        b"[1, 2]",
        b"{}",
        b'{"siblings"',
        b'{"siblings": null}',
        b'{"siblings": 5}',
        b'{"siblings": [1, 2]}',
        b'{"siblings": [{"name": "model.safetensors"}]}',
        b"<!doctype html><html>Sign in</html>",
        b'{"id": "caf\xe9"}',
        b'{"x": ' + b"9" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda body: body[:24].decode("ascii", "replace"),
)
def test_a_list_of_files_of_another_form_is_one_line(hub, body):
    hub.fail("GET /api/models/.*", body=body)
    with pytest.raises(HubError, match=NO_HUB):
        fetch(ANY)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"X-Repo-Commit": COMMIT}, "checksum|^$"),
        ({"ETag": '"x"'}, "no commit"),
        (DESCRIBED | {"X-Repo-Commit": "../../../etc"}, "no commit"),
        (DESCRIBED | {"X-Linked-Size": "-5"}, "a file of -5 bytes"),
        (DESCRIBED | {"X-Linked-Size": "9" * 18}, "MB left and the file needs"),
        (DESCRIBED | {"X-Linked-Size": "9" * 30}, "a file of 9+ bytes"),
        (DESCRIBED | {"X-Linked-Size": "9" * 400}, "a file of 9+…9+ bytes"),
        (DESCRIBED | {"X-Linked-Size": "0"}, "damaged and was removed"),
        (DESCRIBED | {"X-Linked-Size": "many"}, "damaged and was removed"),
        (DESCRIBED | {"X-Linked-Size": "3"}, "more than 3 bytes, though 3 were announced"),
        (DESCRIBED | {"ETag": '"../../../../tmp/evil"'}, "^$"),
        (DESCRIBED | {"ETag": f'"{"e" * 3000}"'}, "^$"),
        (DESCRIBED | {"Content-Encoding": "gzip"}, "does not answer as the Hub does|damaged"),
    ],
)
def test_a_file_that_is_described_wrongly_stays_in_its_folder_or_is_one_line(hub, tmp_path, headers, reason):
    hub.fail(".*/resolve/.*", times=9, headers=headers, body=b"other weights")
    said = ""
    try:
        path = fetch(ANY)
    except HubError as error:
        said = str(error)
    else:
        assert path.read_bytes() == b"other weights"
        assert path.is_relative_to(tmp_path / "hf" / "simclrseg" / "me" / "repo")
    assert not list(tmp_path.rglob("evil*"))
    assert said == "" if reason == "^$" else re.search(reason, said)
    assert "\n" not in said


@pytest.mark.parametrize(
    "place", ["http://[::1", "file:///etc/passwd", "http://127.0.0.1:1/", "//", "http://nowhere.invalid/x", "/loop"]
)
def test_a_redirect_to_nowhere_is_one_line(hub, place):
    hub.fail(".*/resolve/.*|.*/loop", times=99, status=302, headers=DESCRIBED | {"Location": place}, body=b"")
    with pytest.raises(HubError) as caught:
        fetch(ANY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "status"), [("GET /api/models/.*", 200), ("GET /api/models/.*", 500), (".*/resolve/.*", 200), (".*", 404)]
)
def test_an_answer_without_an_end_is_given_up_and_leaves_nothing(hub, tmp_path, monkeypatch, asked, status):
    monkeypatch.setattr(fetching, "LARGEST_UNTOLD", 5_000_000)
    monkeypatch.setattr(fetching, "LONGEST_LIST", 5_000_000)
    hub.fail(asked, times=9, status=status, headers=DESCRIBED, body=b"x" * 65_536, endless=True)
    tracemalloc.start()
    with pytest.raises(HubError):
        fetch(ANY)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30_000_000
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size > 1000]


def test_an_answer_about_the_token_is_not_read_further_than_needed(hub):
    hub.fail("GET /api/whoami.*", body=b"x" * 65_536, endless=True)
    assert check_access("me/repo", "hf_test") == "hf_test"
    hub.fail("GET /api/whoami.*", status=401, body=b"x" * 65_536, endless=True)
    with pytest.raises(HubError, match="refused the token"):
        check_access("me/repo", "hf_test")
