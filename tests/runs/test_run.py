"""A run's folder: its name, what it records, and the commands about it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from simclrseg.errors import RunError
from simclrseg.runs.claim import claim
from simclrseg.runs.lookup import find_pretraining, find_run, list_runs, newest_run
from simclrseg.runs.names import ENVIRONMENT
from simclrseg.runs.run import Run, finish, record_facts, runs_option
from tests.runs.folders import finished


def test_facts_add_up_and_survive_a_new_reader(tmp_path):
    run = claim(tmp_path, "pretrain", "pets")
    record_facts(run, torch="2.15")
    record_facts(run, device="cpu")
    finish(run)
    again = Run(run.folder)
    assert again.environment["torch"] == "2.15" and again.environment["device"] == "cpu" and again.finished


def test_the_run_that_is_the_current_folder_has_its_own_name(tmp_path, monkeypatch):
    run = finished(tmp_path, "pets")
    monkeypatch.chdir(run.folder)
    assert find_run(tmp_path, "pretrain", ".").name == run.name == "pets"
    assert find_run(tmp_path, "pretrain", ".").as_start == "pets"


@pytest.mark.parametrize(
    ("root", "words"),
    [("runs", ""), ("./runs", ""), ("mine", " --runs mine"), ("my runs", " --runs 'my runs'"), ("..", " --runs ..")],
)
def test_a_printed_command_finds_the_runs_of_this_folder(tmp_path, monkeypatch, root, words):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert runs_option(Path(root)) == words
    run = claim(Path(root), "pretrain", "pets")
    found = run.root
    assert found.samefile(root) and runs_option(found) == (f" --runs {shlex.quote(str(found))}" if words else "")
    monkeypatch.chdir(run.folder.parent)
    assert Run(Path("pets")).root == found


def test_a_run_that_lies_in_no_folder_of_runs_is_called_by_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (Path("/model"), tmp_path / "my copies" / "pets", Path("pets")):  # as in a container
        run, whole = Run(folder), shlex.quote(os.path.abspath(folder))
        assert run.command("export") == f"simclrseg export {whole}"
        assert runs_option(run.root) == "" and run.as_start == whole


@pytest.mark.parametrize("name", ["imagenet", "none", "photos.pt"])
def test_a_run_whose_name_means_other_weights_is_called_by_its_folder(tmp_path, name):
    run = claim(tmp_path / "my runs", "pretrain", name)
    assert shlex.split(run.as_start) == [str(run.folder)]
    assert claim(tmp_path, "pretrain", "photos").as_start == "photos"


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b'{"finished": 3}', b"[" * 100_000])
def test_a_garbled_environment_is_that_of_an_unfinished_run(tmp_path, garbage):
    run = finished(tmp_path, "pets")
    (run.folder / ENVIRONMENT).write_bytes(garbage)
    again = Run(run.folder)
    assert again.finished is None
    assert list_runs(tmp_path, "pretrain") == [again] == [find_run(tmp_path, "pretrain", "pets")]
    with pytest.raises(RunError, match="no finished run"):
        newest_run(tmp_path, "pretrain", holding="backbone.safetensors", remedy="-")
    with pytest.raises(RunError, match="no checkpoint"):
        find_pretraining(tmp_path, "pets")
    record_facts(again, torch="2.15")
    assert again.environment["torch"] == "2.15"


def test_a_run_that_was_moved_is_still_of_its_kind(tmp_path):
    run = claim(tmp_path, "pretrain", "cats")
    assert run.kind == "pretrain"
    (run.folder / "config.yaml").write_text("command: pretrain\ndata: {}\n")
    moved = Run(run.folder.rename(tmp_path / "elsewhere"))
    assert moved.kind == "pretrain"
    (moved.folder / "config.yaml").unlink()
    record_facts(moved, kind="pretrain")
    assert moved.kind == "pretrain"
