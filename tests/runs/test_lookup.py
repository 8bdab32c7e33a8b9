"""Runs that are found again, and what is said of those that are not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from simclrseg.errors import RunError
from simclrseg.runs.claim import claim
from simclrseg.runs.lookup import find_pretraining, find_run, line_of_newer, list_runs, newest_run
from simclrseg.runs.names import CHECKPOINT
from simclrseg.runs.run import Run, record_facts
from tests.runs.folders import checkpointed, finished


def test_newest_is_the_last_that_finished_and_holds_the_file(tmp_path):
    first = finished(tmp_path, "a")
    finished(tmp_path, "b", holding="other.file")
    checkpointed(tmp_path, "c")
    assert newest_run(tmp_path, "pretrain", holding="backbone.safetensors", remedy="-") == first


def test_no_finished_run_says_where_and_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"pretrain holds model.onnx: type it"):
        newest_run(tmp_path, "pretrain", holding="model.onnx", remedy="type it")


def test_a_missing_run_names_the_folder_searched_and_the_nearest_name(tmp_path):
    finished(tmp_path, "pets")
    with pytest.raises(RunError, match=r"pretrain: did you mean 'pets'"):
        find_run(tmp_path, "pretrain", "pet")


def test_a_run_is_found_by_name_and_by_folder(tmp_path):
    run = finished(tmp_path, "pets")
    assert find_run(tmp_path, "pretrain", "pets") == find_run(tmp_path, "pretrain", str(run.folder)) == run


def test_a_run_that_is_out_of_reach_stands_in_nobodys_way(tmp_path, monkeypatch):
    mine, theirs = finished(tmp_path, "mine"), finished(tmp_path, "theirs")
    stat = os.stat

    def as_another_user(path, **options):  # root reaches everything
        if os.fspath(path).startswith(f"{theirs.folder}{os.sep}"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", as_another_user)
    assert list_runs(tmp_path, "pretrain") == [mine]


def test_a_bare_name_means_the_newest_finished_of_its_numbers(tmp_path):
    finished(tmp_path, "pets")
    second = finished(tmp_path, "pets")
    checkpointed(tmp_path, "pets")
    finished(tmp_path, "pets-on-grass")
    found = find_pretraining(tmp_path, "pets")
    assert second.name == "pets-2" and found == second


def test_of_a_run_that_was_trained_again_under_its_name_the_newest_finished_one_is_told(tmp_path):
    first = finished(tmp_path, "mine")
    assert line_of_newer(first, "pretrain", holding="backbone.safetensors") == ""
    second = finished(tmp_path, "mine")
    finished(tmp_path, "mine-of-cats")
    claim(tmp_path, "pretrain", "mine")
    for run, moment in ((first, "2030-01-01T00:00:00"), (second, "2030-01-02T00:00:00")):
        record_facts(run, finished=moment)
    told = line_of_newer(Run(first.folder), "pretrain", holding="backbone.safetensors")
    assert told == "mine-2 is newer than mine: it is taken where it is named"
    apart = Run(Path("/mine"))  # as in a container
    assert line_of_newer(apart, "pretrain", holding="backbone.safetensors") == ""
    assert line_of_newer(Run(first.folder), "pretrain", holding="model.onnx") == ""
    record_facts(first, finished="2030-01-03T00:00:00")
    assert line_of_newer(Run(first.folder), "pretrain", holding="backbone.safetensors") == ""


def test_an_unfinished_run_is_never_taken_silently(tmp_path):
    run = checkpointed(tmp_path, "pets")
    with pytest.raises(RunError, match=rf"pretrain --resume pets --runs {tmp_path}`"):
        find_pretraining(tmp_path, "pets")
    found = find_pretraining(tmp_path, "pets", allow_unfinished=True)
    assert found == run


def test_a_run_without_a_checkpoint_is_started_again_and_never_taken(tmp_path):
    run = claim(tmp_path, "pretrain", "pets")
    record_facts(run, torch="2.15")
    (run.folder / CHECKPOINT).parent.mkdir(parents=True)  # the disk was full when the first was to be written
    for allow_unfinished in (False, True):
        with pytest.raises(RunError, match=r"no checkpoint: start it again .* --name pets --runs \S+`$") as error:
            find_pretraining(tmp_path, "pets", allow_unfinished=allow_unfinished)
        assert "--allow-unfinished" not in str(error.value) and "--resume" not in str(error.value)


def test_a_finished_run_that_lacks_the_file_is_not_called_unfinished(tmp_path):
    run = finished(tmp_path, "pets", holding="other.file")
    (run.folder / "config.yaml").touch()
    again = rf" lacks backbone.safetensors: start it again .* --config {run.folder} --name pets --runs {tmp_path}`$"
    with pytest.raises(RunError, match=again):
        find_pretraining(tmp_path, "pets", allow_unfinished=True)


@pytest.mark.parametrize("name", ["a", "{root}/pretrain/a"])
def test_a_run_of_another_kind_says_what_it_is_and_what_is_needed(tmp_path, name):
    finished(tmp_path, "a")
    with pytest.raises(
        RunError, match=rf"a pretrain run.*`simclrseg finetune --dataset FOLDER --pretrained a --runs {tmp_path}`"
    ):
        find_run(tmp_path, "finetune", name.format(root=tmp_path))


def test_a_report_names_the_run_that_was_scored(tmp_path):
    run = finished(tmp_path, "a", kind="evaluate")
    record_facts(run, scored="runs/finetune/b")
    with pytest.raises(RunError, match=r"is an evaluate run, and a finetune run is needed: .*runs/finetune/b"):
        find_run(tmp_path, "finetune", str(run.folder))


def test_an_unknown_name_is_left_to_the_caller(tmp_path):
    assert find_pretraining(tmp_path, "pets") is None


def test_a_file_is_no_run_and_its_folder_is_named_where_that_is_one(tmp_path):
    run = finished(tmp_path, "pets", holding="model.safetensors")
    with pytest.raises(RunError, match=rf"is a file, and no run: name its folder, {run.folder}$"):
        find_run(tmp_path, "finetune", str(run.folder / "model.safetensors"))
    (tmp_path / "a.jpg").touch()
    with pytest.raises(RunError, match=r"a\.jpg is a file, and no run: name a run$"):
        find_run(tmp_path, "finetune", str(tmp_path / "a.jpg"))
