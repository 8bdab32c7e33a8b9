"""What processes leave that are killed while they write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simclrseg.hub import store
from simclrseg.hub.fetch import fetch
from simclrseg.hub.table import PUBLISHED
from simclrseg.runs.claim import lock
from simclrseg.runs.run import Run
from simclrseg.system.files import remove_abandoned, replacing, write_text

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
WRITING = """
import sys, time
from pathlib import Path
from simclrseg.system.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(bytes(1000))
    print("writing", flush=True)
    time.sleep(60)
"""


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of writing a file."""
    tree = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": tree},
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_a_killed_process_was_writing_is_removed_by_the_next_that_writes_there(tmp_path) -> None:
    with writer(tmp_path / "model.onnx"), writer(tmp_path / "masks.json"):
        assert files(tmp_path) == ["new.json", "new.onnx"]
    assert files(tmp_path) == ["new.json", "new.onnx"], "nothing was left"
    write_text(tmp_path / "other.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_what_a_living_process_writes_is_left_alone(tmp_path) -> None:
    with writer(tmp_path / "model.onnx"):
        write_text(tmp_path / "other.txt", "text")
        remove_abandoned(tmp_path)
        with replacing(tmp_path / "model.onnx") as temporary:
            temporary.write_text("ours")
            remove_abandoned(tmp_path)
        assert files(tmp_path) == ["model.onnx", "new.onnx", "other.txt"]
    assert (tmp_path / "model.onnx").read_text() == "ours"


def test_a_run_that_is_taken_up_again_loses_what_a_killed_process_was_writing(tmp_path) -> None:
    run = Run(tmp_path)
    last = tmp_path / "checkpoints" / "last"
    last.mkdir(parents=True)
    write_text(last / "state.pt", "whole")  # so that this process has looked there
    with writer(last / "state.pt"), writer(tmp_path / "backbone.safetensors"):
        pass
    assert files(tmp_path) == ["new.pt", "new.safetensors", "state.pt"]
    with lock(run):
        assert files(tmp_path) == [".lock", "state.pt"]
    assert (last / "state.pt").read_text() == "whole"


def test_folders_of_users_with_hidden_names_are_left_alone(tmp_path) -> None:
    for name in (".model.onnx.abcdefgh", ".tmpabcdef", ".cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".simclrseg-notes").write_text("a file")
    remove_abandoned(tmp_path)
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("name", ["ä" * 127, "n" * 240 + ".safetensors", "a." + "b" * 253, os.fsdecode(b"\xe4.b\xe4")])
def test_a_file_is_written_whose_name_is_as_long_as_can_be_or_no_text(tmp_path, name: str) -> None:
    with replacing(tmp_path / name) as temporary:
        assert str(temporary.name).isascii() and len(temporary.name) < 20
        temporary.write_text("text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_locks_a_folder_is_kept_for_a_day(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("simclrseg.system.files.fcntl", None)
    for name, age in (("new", 3600), ("old", 2 * 86400)):
        folder = tmp_path / f".simclrseg-{name}"
        folder.mkdir()
        os.utime(folder, (time.time() - age,) * 2)
    write_text(tmp_path / "a.txt", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".simclrseg-new", "a.txt"]


def test_a_fetch_that_was_broken_off_at_another_commit_is_removed_unless_somebody_goes_on(fake_hub) -> None:
    source = PUBLISHED["pets"].source("me")
    fake_hub.add("me/resnet50-simclr-pets", {"backbone.safetensors": b"weights " * 1000})
    parts = [store.home(source) / (40 * digit) / ".backbone.safetensors.etag.part" for digit in "ab"]
    for part in parts:
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes(1000))
    with store.locked(parts[1].with_name("backbone.safetensors")):
        fetch(source)
    assert [part.exists() for part in parts] == [False, True]
