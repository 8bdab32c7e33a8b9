"""log.txt of a run: what was said, when, and how it ended."""

from __future__ import annotations

import logging
import re

import pytest

from simclrseg.cli.console import session
from simclrseg.errors import DataError
from simclrseg.system.log_file import LOG_FILE, kept

log = logging.getLogger("simclrseg.somewhere")


def lines(folder):
    return (folder / LOG_FILE).read_text(encoding="utf-8").splitlines()


def test_it_holds_what_stderr_was_told_with_times_and_from_the_beginning(tmp_path, capsys):
    with session(quiet=False):
        log.info("before there is a folder")
        with kept(tmp_path, "simclrseg pretrain shapes"):
            log.warning("a surprise")
        log.info("after")
    told = lines(tmp_path)
    assert told[0] == "$ simclrseg pretrain shapes"
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d  ", line) for line in told[1:])
    assert [line.partition("  ")[2] for line in told[1:]] == ["before there is a folder", "warning: a surprise"]
    assert capsys.readouterr().err == "before there is a folder\nwarning: a surprise\nafter\n"


def test_a_second_command_adds_to_it(tmp_path):
    for word in ("one", "two"):
        with session(quiet=False), kept(tmp_path, word):
            log.info(word)
    assert [line.partition("  ")[2] or line for line in lines(tmp_path)] == ["$ one", "one", "$ two", "two"]


def test_a_quiet_command_says_all_there(tmp_path, capsys):
    with session(quiet=True), kept(tmp_path, "x"):
        log.info("a fact")
    assert lines(tmp_path)[1].endswith("  a fact")
    assert capsys.readouterr().err == ""


def test_it_says_how_the_run_failed(tmp_path, capsys):
    with pytest.raises(DataError), session(quiet=True), kept(tmp_path, "x"):
        raise DataError("no photos")
    with pytest.raises(ZeroDivisionError), kept(tmp_path, "x"):  # a bug, from Python
        raise ZeroDivisionError("bug")
    text = (tmp_path / LOG_FILE).read_text(encoding="utf-8")
    assert "  error: no photos\n" in text
    assert "Traceback" in text and "ZeroDivisionError: bug" in text
    assert capsys.readouterr().err == ""


def test_only_the_first_process_keeps_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with session(quiet=False):
        assert not any(type(handler).__name__ == "LogFile" for handler in logging.getLogger("simclrseg").handlers)


def test_a_folder_that_takes_no_file_stops_nothing(tmp_path):
    with session(quiet=False), kept(tmp_path / "gone", "x"):
        log.info("all the same")
    assert not list(tmp_path.iterdir())
