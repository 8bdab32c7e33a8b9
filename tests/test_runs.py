"""Run folders: claiming, finishing, lookup."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from simclrseg import runs
from simclrseg.errors import RunError, UsageError


def finished(root: Path, name: str, *, kind: runs.Kind = "pretrain", holding: str = "backbone.safetensors") -> runs.Run:
    run = runs.claim(root, kind, name)
    (run.folder / holding).touch()
    runs.record(run, torch="2.15")
    runs.finish(run)
    return run


def checkpointed(root: Path, name: str) -> runs.Run:
    run = runs.claim(root, "pretrain", name)
    runs.record(run, torch="2.15")
    (run.folder / runs.CHECKPOINT).mkdir(parents=True)
    return run


def test_a_taken_name_gets_a_number(tmp_path):
    assert [runs.claim(tmp_path, "pretrain", "pets").name for _ in range(3)] == ["pets", "pets-2", "pets-3"]


def test_overwrite_replaces_the_run_of_that_name(tmp_path):
    (finished(tmp_path, "pets").folder / "old.txt").touch()
    run = runs.claim(tmp_path, "pretrain", "pets", overwrite=True)
    assert run.name == "pets" and not list(run.folder.iterdir())


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="--name"):
        runs.claim(tmp_path, "pretrain", name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--runs"):
        runs.claim(tmp_path / "file", "pretrain", "pets")


def test_facts_add_up_and_survive_a_new_reader(tmp_path):
    run = runs.claim(tmp_path, "pretrain", "pets")
    runs.record(run, torch="2.15")
    runs.record(run, device="cpu")
    runs.finish(run)
    again = runs.Run(run.folder)
    assert again.environment["torch"] == "2.15" and again.environment["device"] == "cpu" and again.finished


def test_newest_is_the_last_that_finished_and_holds_the_file(tmp_path):
    first = finished(tmp_path, "a")
    finished(tmp_path, "b", holding="other.file")
    checkpointed(tmp_path, "c")
    assert runs.newest(tmp_path, "pretrain", holding="backbone.safetensors", remedy="-") == first


def test_no_finished_run_says_where_and_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"pretrain holds model.onnx: type it"):
        runs.newest(tmp_path, "pretrain", holding="model.onnx", remedy="type it")


def test_a_missing_run_names_the_folder_searched_and_the_nearest_name(tmp_path):
    finished(tmp_path, "pets")
    with pytest.raises(RunError, match=r"pretrain: did you mean 'pets'"):
        runs.find(tmp_path, "pretrain", "pet")


def test_a_run_is_found_by_name_and_by_folder(tmp_path):
    run = finished(tmp_path, "pets")
    assert runs.find(tmp_path, "pretrain", "pets") == runs.find(tmp_path, "pretrain", str(run.folder)) == run


def test_a_bare_name_means_the_newest_finished_of_its_numbers(tmp_path):
    finished(tmp_path, "pets")
    second = finished(tmp_path, "pets")
    checkpointed(tmp_path, "pets")
    finished(tmp_path, "pets-on-grass")
    found = runs.find_finished(tmp_path, "pretrain", "pets", holding="backbone.safetensors")
    assert second.name == "pets-2" and found == second


def test_an_unfinished_run_is_never_taken_silently(tmp_path):
    run = checkpointed(tmp_path, "pets")
    with pytest.raises(RunError, match=r"pretrain --resume pets"):
        runs.find_finished(tmp_path, "pretrain", "pets", holding="backbone.safetensors")
    found = runs.find_finished(tmp_path, "pretrain", "pets", holding="backbone.safetensors", allow_unfinished=True)
    assert found == run


def test_an_unknown_name_is_left_to_the_caller(tmp_path):
    assert runs.find_finished(tmp_path, "pretrain", "pets", holding="backbone.safetensors") is None


def _hold(folder: Path, taken, released) -> None:
    with runs.lock(runs.Run(folder)):
        taken.set()
        released.wait(10)


def test_a_run_that_is_being_written_cannot_be_taken_or_overwritten(tmp_path):
    run = runs.claim(tmp_path, "pretrain", "pets")
    context = multiprocessing.get_context("spawn")
    taken, released = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(run.folder, taken, released))
    holder.start()
    try:
        assert taken.wait(10)
        with pytest.raises(RunError, match="is being written by process"), runs.lock(run):
            pass
        with pytest.raises(RunError, match="is being written"):
            runs.claim(tmp_path, "pretrain", "pets", overwrite=True)
    finally:
        released.set()
        holder.join()
    with runs.lock(run):
        pass


def test_a_run_that_failed_before_its_first_checkpoint_leaves_nothing(tmp_path):
    lost, kept = runs.claim(tmp_path, "pretrain", "a"), checkpointed(tmp_path, "b")
    for run in (lost, kept):
        runs.discard_unless_started(run)
    assert not lost.folder.exists() and kept.folder.exists()
