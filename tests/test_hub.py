"""Published backbones: the table, the cache, and each way a fetch can fail, over a local socket."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
from huggingface_hub import constants

from simclrseg import hub
from simclrseg.errors import HubError, UnknownName
from simclrseg.models import BACKBONES

CONTENT = b"weights " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789" * 4


@dataclass
class FakeHub:
    """The few answers of the Hub that a download needs."""

    url: str = ""
    content: bytes = CONTENT
    announced: str = SHA256
    refuse: tuple[int, str] | None = None  # status and X-Error-Code of every answer
    requests: list[str] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(f"{handler.command} {handler.path}")
        status, code = self.refuse or (200, "")
        body = b"" if self.refuse else self.content
        handler.send_response(status)
        if code:
            handler.send_header("X-Error-Code", code)
            handler.send_header("X-Error-Message", code)
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("ETag", f'"{self.announced}"')
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)


@pytest.fixture
def fake_hub(tmp_path, monkeypatch) -> Iterator[FakeHub]:
    fake = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.answer(self)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    point_to(fake.url, tmp_path, monkeypatch)
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()
    huggingface_hub.close_session()


def point_to(url: str, tmp_path, monkeypatch) -> None:
    """huggingface_hub reads its environment when it is imported, which may have been long ago."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv(hub.NAMESPACE_VARIABLE, raising=False)


def test_importing_the_table_imports_nothing_heavy():
    code = "import sys, simclrseg.hub; print(*({'huggingface_hub', 'httpx2', 'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_entry_names_an_encoder_of_ours_and_a_file_we_can_read():
    for name, entry in hub.PUBLISHED.items():
        assert name == entry.name
        assert entry.encoder in BACKBONES
        assert entry.file.endswith(".safetensors")
        assert len(entry.mean) == len(entry.std) == entry.in_channels
        assert entry.make.startswith("simclrseg pretrain ")
        assert not entry.uploaded or (entry.sha256 and len(entry.revision) == 40)


def test_what_nobody_has_uploaded_does_not_look_as_if_it_were(tmp_path, monkeypatch):
    point_to("http://unused", tmp_path, monkeypatch)
    rows = {row["name"]: row for row in hub.published()}
    assert rows.keys() == {"pets", "cifar"}
    assert {row["status"] for row in rows.values()} == {"not uploaded yet"}


def test_the_namespace_can_be_changed(tmp_path, monkeypatch):
    point_to("http://unused", tmp_path, monkeypatch)
    monkeypatch.setenv(hub.NAMESPACE_VARIABLE, "somebody")
    row = hub.published()[0]
    assert row["repository"] == "somebody/resnet50-simclr-pets"
    assert row["status"] == "not known"


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="'petz': did you mean 'pets'"):
        hub.fetch("petz")


def test_a_fetched_file_is_cached_and_then_taken_without_a_request(fake_hub, caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    assert hub.cached_path("pets") is None
    path = hub.fetch("pets")
    assert path.read_bytes() == CONTENT
    assert caplog.messages == [
        f"looking for simclrseg/resnet50-simclr-pets/backbone.safetensors on {fake_hub.url}",
        "fetching 0.0 MB",
    ]
    fake_hub.requests.clear()
    assert hub.fetch("pets") == hub.cached_path("pets") == path
    assert fake_hub.requests == []
    assert hub.published()[0]["status"] == "cached"


def test_a_file_that_is_not_the_one_announced_is_refused_and_removed(fake_hub):
    fake_hub.content = CONTENT[:-1] + b"!"
    with pytest.raises(HubError, match=r"backbone\.safetensors has sha256 .*, not the announced .*fetch it again"):
        hub.fetch("pets")
    assert hub.cached_path("pets") is None
    fake_hub.content = CONTENT
    assert hub.fetch("pets").read_bytes() == CONTENT


def test_a_file_that_is_not_the_one_in_the_table_is_refused(fake_hub, monkeypatch):
    monkeypatch.setitem(hub.PUBLISHED, "pets", replace(hub.PUBLISHED["pets"], sha256="0" * 64))
    with pytest.raises(HubError, match="not the announced 000000000000"):
        hub.fetch("pets")


def test_a_cached_file_that_rotted_is_refused_and_removed(fake_hub, monkeypatch):
    path = hub.fetch("pets")
    monkeypatch.setitem(hub.PUBLISHED, "pets", replace(hub.PUBLISHED["pets"], sha256=SHA256))
    path.write_bytes(b"rotten")
    with pytest.raises(HubError, match="removed: fetch it again"):
        hub.fetch("pets")
    assert hub.fetch("pets").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ((404, "RepoNotFound"), "nobody has published simclrseg/resnet50-simclr-pets on .* yet"),
        ((401, "RepoNotFound"), "nobody has published"),
        ((401, "GatedRepo"), "is gated: ask for access on its page and set HF_TOKEN"),
        ((403, "GatedRepo"), "is gated"),
        ((404, "RevisionNotFound"), "has no revision main"),
        ((404, "EntryNotFound"), r"holds no backbone\.safetensors"),
        ((401, "Unauthorized"), "refused the token .*check HF_TOKEN"),
        ((403, ""), "access to .* was refused"),
        ((429, ""), "too many requests"),
        ((500, ""), r"the Hub failed on .* \(HTTP 500\)"),
        ((503, ""), r"\(HTTP 503\): try again later"),
    ],
)
def test_each_refusal_is_one_line_with_the_way_out_and_at_once(fake_hub, refuse, message):
    fake_hub.refuse = refuse
    start = time.monotonic()
    with pytest.raises(HubError, match=message) as caught:
        hub.fetch("pets")
    assert time.monotonic() - start < 5, "huggingface_hub itself would try for 23 seconds"
    assert "make one with `simclrseg pretrain --dataset cats_vs_dogs`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_network_is_said_at_once(fake_hub, tmp_path, monkeypatch):
    point_to("http://127.0.0.1:9", tmp_path, monkeypatch)  # the discard port: nobody listens
    start = time.monotonic()
    with pytest.raises(HubError, match=r"cannot be reached \(ConnectError\): check the network"):
        hub.fetch("cifar")
    assert time.monotonic() - start < 5


def test_offline_is_honoured_and_a_cached_file_still_serves(fake_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids fetching it"):
        hub.fetch("pets")
    assert fake_hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = hub.fetch("pets")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch("pets") == path


def test_a_namespace_that_cannot_be_one_is_named(fake_hub, monkeypatch):
    monkeypatch.setenv(hub.NAMESPACE_VARIABLE, "a/b")
    with pytest.raises(HubError, match=f"cannot be a repository's name: check {hub.NAMESPACE_VARIABLE}"):
        hub.fetch("pets")


def test_a_full_disk_is_one_line(fake_hub, monkeypatch):
    def full(*arguments: object, **options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(HubError, match=r"could not be stored in .*: No space left on device"):
        hub.fetch("pets")
