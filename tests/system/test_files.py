"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from simclrseg.errors import DataError, OutputError
from simclrseg.system.files import make_folder, remove_empty, replacing, write_json, write_text


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_holds_no_number_that_json_does_not_know(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [1.5, (-float("inf"), "x")], 3: {"c": None}})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.5, [None, "x"]], "3": {"c": None}}
    assert text.endswith("\n")


def test_a_written_file_has_the_mode_of_an_ordinary_one(tmp_path):
    ordinary, ours = tmp_path / "ordinary", tmp_path / "ours"
    ordinary.touch()
    write_text(ours, "text")
    assert ours.stat().st_mode == ordinary.stat().st_mode


def test_a_file_whose_mode_is_not_ours_to_set_is_written(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "chmod", refuse)  # as of a share that is mounted as another user's
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(
        OutputError, match=r"a\.txt cannot be written \(No space left on device\): free some space"
    ) as error:
        write_text(path, "new")
    assert error.value.cause == "No space left on device"
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_library_that_words_a_full_disk_in_its_own_way_is_asked_again(tmp_path, monkeypatch):
    def fail() -> None:
        with replacing(tmp_path / "a.pt"):
            monkeypatch.setattr(os, "fsync", full)
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos")

    with pytest.raises(OutputError, match="No space left on device"):
        fail()
    assert not list(tmp_path.iterdir())


def test_the_number_of_an_error_in_rust_is_understood(tmp_path):
    with pytest.raises(OutputError, match=r"\(No space left on device\)"), replacing(tmp_path / "a.safetensors"):
        raise ValueError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(ValueError, match="not about the disk"), replacing(tmp_path / "a.safetensors"):
        raise ValueError("not about the disk")


def test_an_error_of_ours_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError), replacing(tmp_path / "a.txt"):
        raise DataError("not this disk's fault")


def test_a_folder_that_is_missing_or_a_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"none/a\.txt cannot be written \(No such file.*\): choose another folder"):
        write_text(tmp_path / "none" / "a.txt", "text")
    with pytest.raises(OutputError, match="Not a directory"):
        make_folder(tmp_path / "file" / "a")


def test_folders_that_stay_empty_are_removed_and_no_others(tmp_path):
    made = make_folder(tmp_path / "a" / "b" / "c")
    assert [path.name for path in made] == ["c", "b", "a"]
    assert make_folder(tmp_path / "a") == []
    (tmp_path / "a" / "mask.png").touch()
    remove_empty(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mask.png"]
