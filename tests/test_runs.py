"""Run folders: claiming, finishing, lookup."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shlex
from pathlib import Path

import pytest

from simclrseg import runs
from simclrseg.errors import OutputError, RunError, UsageError


def finished(root: Path, name: str, *, kind: runs.Kind = "pretrain", holding: str = "backbone.safetensors") -> runs.Run:
    run = runs.claim(root, kind, name)
    (run.folder / holding).touch()
    runs.record(run, torch="2.15")
    runs.finish(run)
    return run


def checkpointed(root: Path, name: str) -> runs.Run:
    run = runs.claim(root, "pretrain", name)
    runs.record(run, torch="2.15")
    (run.folder / runs.CHECKPOINT).parent.mkdir(parents=True)
    (run.folder / runs.CHECKPOINT).touch()
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


def test_the_run_that_is_the_current_folder_has_its_own_name(tmp_path, monkeypatch):
    run = finished(tmp_path, "pets")
    monkeypatch.chdir(run.folder)
    assert runs.find(tmp_path, "pretrain", ".").name == run.name == "pets"
    assert runs.find(tmp_path, "pretrain", ".").as_start == "pets"


def test_a_run_that_is_out_of_reach_stands_in_nobodys_way(tmp_path, monkeypatch):
    mine, theirs = finished(tmp_path, "mine"), finished(tmp_path, "theirs")
    stat = os.stat

    def as_another_user(path, **options):  # root reaches everything
        if os.fspath(path).startswith(f"{theirs.folder}{os.sep}"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", as_another_user)
    assert runs.list_runs(tmp_path, "pretrain") == [mine]


def test_a_bare_name_means_the_newest_finished_of_its_numbers(tmp_path):
    finished(tmp_path, "pets")
    second = finished(tmp_path, "pets")
    checkpointed(tmp_path, "pets")
    finished(tmp_path, "pets-on-grass")
    found = runs.find_pretraining(tmp_path, "pets")
    assert second.name == "pets-2" and found == second


def test_of_a_run_that_was_trained_again_under_its_name_the_newest_finished_one_is_told(tmp_path):
    first = finished(tmp_path, "mine")
    assert runs.line_of_newer(first, "pretrain", holding="backbone.safetensors") == ""
    second = finished(tmp_path, "mine")
    finished(tmp_path, "mine-of-cats")
    runs.claim(tmp_path, "pretrain", "mine")
    for run, moment in ((first, "2030-01-01T00:00:00"), (second, "2030-01-02T00:00:00")):
        runs.record(run, finished=moment)
    told = runs.line_of_newer(runs.Run(first.folder), "pretrain", holding="backbone.safetensors")
    assert told == "mine-2 is newer than mine: it is taken where it is named"
    apart = runs.Run(Path("/mine"))  # as in a container
    assert runs.line_of_newer(apart, "pretrain", holding="backbone.safetensors") == ""
    assert runs.line_of_newer(runs.Run(first.folder), "pretrain", holding="model.onnx") == ""
    runs.record(first, finished="2030-01-03T00:00:00")
    assert runs.line_of_newer(runs.Run(first.folder), "pretrain", holding="backbone.safetensors") == ""


@pytest.mark.parametrize(
    ("root", "words"),
    [("runs", ""), ("./runs", ""), ("mine", " --runs mine"), ("my runs", " --runs 'my runs'"), ("..", " --runs ..")],
)
def test_a_printed_command_finds_the_runs_of_this_folder(tmp_path, monkeypatch, root, words):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert runs.option(Path(root)) == words
    run = runs.claim(Path(root), "pretrain", "pets")
    found = run.root
    assert found.samefile(root) and runs.option(found) == (f" --runs {shlex.quote(str(found))}" if words else "")
    monkeypatch.chdir(run.folder.parent)
    assert runs.Run(Path("pets")).root == found


def test_an_unfinished_run_is_never_taken_silently(tmp_path):
    run = checkpointed(tmp_path, "pets")
    with pytest.raises(RunError, match=rf"pretrain --resume pets --runs {tmp_path}`"):
        runs.find_pretraining(tmp_path, "pets")
    found = runs.find_pretraining(tmp_path, "pets", allow_unfinished=True)
    assert found == run


def test_a_run_without_a_checkpoint_is_started_again_and_never_taken(tmp_path):
    run = runs.claim(tmp_path, "pretrain", "pets")
    runs.record(run, torch="2.15")
    (run.folder / runs.CHECKPOINT).parent.mkdir(parents=True)  # the disk was full when the first was to be written
    for allow_unfinished in (False, True):
        with pytest.raises(RunError, match=r"no checkpoint: start it again .* --name pets --runs \S+`$") as error:
            runs.find_pretraining(tmp_path, "pets", allow_unfinished=allow_unfinished)
        assert "--allow-unfinished" not in str(error.value) and "--resume" not in str(error.value)


def test_a_finished_run_that_lacks_the_file_is_not_called_unfinished(tmp_path):
    run = finished(tmp_path, "pets", holding="other.file")
    (run.folder / "config.yaml").touch()
    again = rf" lacks backbone.safetensors: start it again .* --config {run.folder} --name pets --runs {tmp_path}`$"
    with pytest.raises(RunError, match=again):
        runs.find_pretraining(tmp_path, "pets", allow_unfinished=True)


@pytest.mark.parametrize("name", ["a", "{root}/pretrain/a"])
def test_a_run_of_another_kind_says_what_it_is_and_what_is_needed(tmp_path, name):
    finished(tmp_path, "a")
    with pytest.raises(
        RunError, match=rf"a pretrain run.*`simclrseg finetune --dataset FOLDER --pretrained a --runs {tmp_path}`"
    ):
        runs.find(tmp_path, "finetune", name.format(root=tmp_path))


def test_a_run_that_lies_in_no_folder_of_runs_is_called_by_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (Path("/model"), tmp_path / "my copies" / "pets", Path("pets")):  # as in a container
        run, whole = runs.Run(folder), shlex.quote(os.path.abspath(folder))
        assert run.command("export") == f"simclrseg export {whole}"
        assert runs.option(run.root) == "" and run.as_start == whole


@pytest.mark.parametrize("name", ["imagenet", "none", "photos.pt"])
def test_a_run_whose_name_means_other_weights_is_called_by_its_folder(tmp_path, name):
    run = runs.claim(tmp_path / "my runs", "pretrain", name)
    assert shlex.split(run.as_start) == [str(run.folder)]
    assert runs.claim(tmp_path, "pretrain", "photos").as_start == "photos"


def test_a_report_names_the_run_that_was_scored(tmp_path):
    run = finished(tmp_path, "a", kind="evaluate")
    runs.record(run, scored="runs/finetune/b")
    with pytest.raises(RunError, match=r"is an evaluate run, and a finetune run is needed: .*runs/finetune/b"):
        runs.find(tmp_path, "finetune", str(run.folder))


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b'{"finished": 3}', b"[" * 100_000])
def test_a_garbled_environment_is_that_of_an_unfinished_run(tmp_path, garbage):
    run = finished(tmp_path, "pets")
    (run.folder / runs.ENVIRONMENT).write_bytes(garbage)
    again = runs.Run(run.folder)
    assert again.finished is None
    assert runs.list_runs(tmp_path, "pretrain") == [again] == [runs.find(tmp_path, "pretrain", "pets")]
    with pytest.raises(RunError, match="no finished run"):
        runs.newest(tmp_path, "pretrain", holding="backbone.safetensors", remedy="-")
    with pytest.raises(RunError, match="no checkpoint"):
        runs.find_pretraining(tmp_path, "pets")
    runs.record(again, torch="2.15")
    assert again.environment["torch"] == "2.15"


def test_an_unknown_name_is_left_to_the_caller(tmp_path):
    assert runs.find_pretraining(tmp_path, "pets") is None


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


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_run_on_a_file_system_without_locks_is_written_with_a_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    fcntl = pytest.importorskip("fcntl")
    run = runs.claim(tmp_path, "pretrain", "pets")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with runs.lock(run):
        runs.record(run, torch="2.15")
    assert run.environment["torch"] == "2.15"
    assert f"{run.folder} cannot be locked ({os.strerror(number)}): make sure that no second" in caplog.text


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_is_held_is_never_taken_for_none(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    run = runs.claim(tmp_path, "pretrain", "pets")
    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    with pytest.raises(RunError, match="is being written by another process"), runs.lock(run):
        pass


def discard(run: runs.Run) -> None:
    with pytest.raises(KeyError), runs.discarded_unless_started(run):
        raise KeyError


def test_a_run_that_failed_before_its_first_checkpoint_leaves_nothing(tmp_path):
    lost, kept = runs.claim(tmp_path, "pretrain", "a"), checkpointed(tmp_path, "b")
    for run in (lost, kept):
        discard(run)
    assert not lost.folder.exists() and kept.folder.exists()


def test_a_run_that_leaves_nothing_takes_the_folders_made_for_it_along(tmp_path):
    for root in (tmp_path / "deep" / "runs", tmp_path):
        discard(runs.claim(root, "pretrain", "a"))
        assert not list(tmp_path.iterdir())


def test_folders_that_were_there_or_hold_another_run_stay(tmp_path):
    (tmp_path / "runs").mkdir()
    first, second = (runs.claim(tmp_path / "runs", "pretrain", "a") for _ in range(2))
    discard(first)
    assert second.folder.is_dir()
    discard(second)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_run_to_overwrite_is_held_while_it_is_removed(tmp_path, monkeypatch):
    run = finished(tmp_path, "pets")
    remove = runs.shutil.rmtree

    def rmtree(folder, **options):
        with pytest.raises(RunError, match="is being written"), runs.lock(run):
            pass
        remove(folder, **options)

    monkeypatch.setattr(runs.shutil, "rmtree", rmtree)
    assert runs.claim(tmp_path, "pretrain", "pets", overwrite=True).name == "pets"
    assert not run.holds("backbone.safetensors")


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    run = runs.claim(tmp_path, "pretrain", "pets")
    (run.folder / ".lock").mkdir()
    with pytest.raises(OutputError, match=r"\.lock cannot be written"), runs.lock(run):
        pass


def test_a_run_that_was_moved_is_still_of_its_kind(tmp_path):
    run = runs.claim(tmp_path, "pretrain", "cats")
    assert run.kind == "pretrain"
    (run.folder / "config.yaml").write_text("command: pretrain\ndata: {}\n")
    moved = runs.Run(run.folder.rename(tmp_path / "elsewhere"))
    assert moved.kind == "pretrain"
    (moved.folder / "config.yaml").unlink()
    runs.record(moved, kind="pretrain")
    assert moved.kind == "pretrain"
