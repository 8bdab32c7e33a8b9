"""Run folders that are claimed, held, and removed where nothing is lost."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from simclrseg.errors import OutputError, RunError, UsageError
from simclrseg.runs.claim import claim, discarded_unless_started, lock
from simclrseg.runs.run import Run, record_facts
from tests.runs.folders import checkpointed, finished


def test_a_taken_name_gets_a_number(tmp_path):
    assert [claim(tmp_path, "pretrain", "pets").name for _ in range(3)] == ["pets", "pets-2", "pets-3"]


def test_overwrite_replaces_the_run_of_that_name(tmp_path):
    (finished(tmp_path, "pets").folder / "old.txt").touch()
    run = claim(tmp_path, "pretrain", "pets", overwrite=True)
    assert run.name == "pets" and not list(run.folder.iterdir())


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="--name"):
        claim(tmp_path, "pretrain", name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--runs"):
        claim(tmp_path / "file", "pretrain", "pets")


def _hold(folder: Path, taken, released) -> None:
    with lock(Run(folder)):
        taken.set()
        released.wait(10)


def test_a_run_that_is_being_written_cannot_be_taken_or_overwritten(tmp_path):
    run = claim(tmp_path, "pretrain", "pets")
    context = multiprocessing.get_context("spawn")
    taken, released = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(run.folder, taken, released))
    holder.start()
    try:
        assert taken.wait(10)
        with pytest.raises(RunError, match="is being written by process"), lock(run):
            pass
        with pytest.raises(RunError, match="is being written"):
            claim(tmp_path, "pretrain", "pets", overwrite=True)
    finally:
        released.set()
        holder.join()
    with lock(run):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_run_on_a_file_system_without_locks_is_written_with_a_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    fcntl = pytest.importorskip("fcntl")
    run = claim(tmp_path, "pretrain", "pets")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock(run):
        record_facts(run, torch="2.15")
    assert run.environment["torch"] == "2.15"
    assert f"{run.folder} cannot be locked ({os.strerror(number)}): make sure that no second" in caplog.text


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_is_held_is_never_taken_for_none(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    run = claim(tmp_path, "pretrain", "pets")
    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    with pytest.raises(RunError, match="is being written by another process"), lock(run):
        pass


def discard(run: Run) -> None:
    with pytest.raises(KeyError), discarded_unless_started(run):
        raise KeyError


def test_a_run_that_failed_before_its_first_checkpoint_leaves_nothing(tmp_path):
    lost, kept = claim(tmp_path, "pretrain", "a"), checkpointed(tmp_path, "b")
    for run in (lost, kept):
        discard(run)
    assert not lost.folder.exists() and kept.folder.exists()


def test_a_run_that_leaves_nothing_takes_the_folders_made_for_it_along(tmp_path):
    for root in (tmp_path / "deep" / "runs", tmp_path):
        discard(claim(root, "pretrain", "a"))
        assert not list(tmp_path.iterdir())


def test_folders_that_were_there_or_hold_another_run_stay(tmp_path):
    (tmp_path / "runs").mkdir()
    first, second = (claim(tmp_path / "runs", "pretrain", "a") for _ in range(2))
    discard(first)
    assert second.folder.is_dir()
    discard(second)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_run_to_overwrite_is_held_while_it_is_removed(tmp_path, monkeypatch):
    run = finished(tmp_path, "pets")
    remove = shutil.rmtree

    def rmtree(folder, **options):
        with pytest.raises(RunError, match="is being written"), lock(run):
            pass
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert claim(tmp_path, "pretrain", "pets", overwrite=True).name == "pets"
    assert not run.holds("backbone.safetensors")


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    run = claim(tmp_path, "pretrain", "pets")
    (run.folder / ".lock").mkdir()
    with pytest.raises(OutputError, match=r"\.lock cannot be written"), lock(run):
        pass
