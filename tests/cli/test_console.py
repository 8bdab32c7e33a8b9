"""What is printed where: results on stdout, log lines on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from simclrseg.cli.console import prepare_streams, print_result, session
from tests.cli.streams import unread

log = logging.getLogger("simclrseg.somewhere")


def test_log_lines_go_to_stderr(capsys):
    with session(quiet=False):
        log.info("a fact")
        log.warning("a surprise")
        log.debug("a detail")
    assert capsys.readouterr() == ("", "a fact\nwarning: a surprise\n")


def test_quiet_leaves_warnings_only(capsys):
    with session(quiet=True):
        log.info("a fact")
        log.warning("a surprise")
    assert capsys.readouterr().err == "warning: a surprise\n"


def test_other_processes_are_quiet(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    with session(quiet=False):
        log.info("a fact")
    assert capsys.readouterr().err == ""


def test_a_session_leaves_the_logger_as_it_was():
    logger = logging.getLogger("simclrseg")
    before = logger.level, logger.propagate, list(logger.handlers)
    with session(quiet=True):
        assert not logger.propagate
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_numbers_become_a_table_with_a_column_a_group(capsys):
    original = {"split": "test", "n": 74, "border": "pet", "metrics": {"iou": 0.123456, "f1": float("nan")}}
    print_result({"run": "runs/x", "validation": {"iou": 0.5}, "test": {"original": original}, "next": "go on"})
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["run", "runs/x"]
    assert lines[1] == ["validation", "test", "original"]
    assert ["iou", "0.5", "0.1235"] in lines
    assert ["border", "pet"] in lines
    assert ["f1", "-"] in lines
    assert err == "next: go on\n"


def test_classes_have_a_table_of_their_own(capsys):
    group = {"border": "class", "metrics": {"miou": 0.25}, "iou_by_class": {"pet": 0.5, "border": 0.125}}
    print_result({"test": {"training": group, "original": group}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["test", "training", "test", "original"],
        ["border", "class", "class"],
        ["miou", "0.25", "0.25"],
        ["test", "training", "iou", "by", "class", "test", "original", "iou", "by", "class"],
        ["pet", "0.5", "0.5"],
        ["border", "0.125", "0.125"],
    ]


def test_rows_become_a_table(capsys):
    print_result({"published": [{"name": "pets", "epochs": 20}, {"name": "cifar", "epochs": None}]})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["name", "epochs"], ["pets", "20"], ["cifar", "-"]]


def test_the_best_cells_of_a_table_are_bold_and_no_fact(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_result(
        {
            "table": [{"name": "a", "iou": "0.5"}, {"name": "b", "iou": "0.5"}],
            "best": [(1, "iou")],
            "others": [{"name": "c", "iou": "0.7"}, {"name": "d", "iou": "0.8"}],
        }
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and ["\x1b[1m0.5" in line for line in lines[:3]] == [False, False, True]
    assert not any("\x1b[1m0.8" in line for line in lines[3:])  # of another table


def test_long_rows_are_not_cut_where_there_is_no_terminal(capsys):
    print_result({"published": [{"name": "x" * 150, "file": "y" * 150}]})
    assert f"{'x' * 150}  {'y' * 150}" in capsys.readouterr().out


def test_json_holds_paths_as_text_and_no_nan(capsys):
    print_result({"file": Path("a/b"), "values": (1.0, float("inf"))}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"file": "a/b", "values": [1.0, None]}


def test_nothing_is_printed_for_nothing(capsys):
    print_result(None)
    assert capsys.readouterr() == ("", "")


needs = pytest.mark.skipif(os.name != "posix" or not os.path.exists("/dev/full"), reason="needs /dev/full")


@needs
@pytest.mark.parametrize("kind", ["pipe", "terminal", "full disk"])
def test_log_lines_that_nobody_takes_end_nothing(monkeypatch, kind):
    with unread(kind) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(sys, "__stderr__", stream)
        prepare_streams()
        replaced = sys.stderr
        with session(quiet=False):
            for _ in range(300):  # more than a buffer holds
                log.info("a fact" * 20)
        replaced.flush()
        with pytest.raises(OSError, match=r"Broken pipe|Input/output|No space"):
            stream.flush()


def test_only_the_stderr_of_the_process_is_replaced(capsys):
    captured = sys.stderr
    prepare_streams()
    assert sys.stderr is captured


@needs
@pytest.mark.parametrize(
    ("kind", "kept", "fails"),
    [("pipe", True, None), ("terminal", True, None), ("pipe", False, "Broken pipe"), ("full disk", True, "No space")],
)
def test_results_that_files_hold_too_may_go_unread(monkeypatch, capsys, kind, kept, fails):
    with unread(kind) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(OSError, match=fails) if fails else nullcontext():
            print_result({"run": "x", "next": "go on"}, kept=kept)
    assert capsys.readouterr().err == ("" if fails else "next: go on\n")
