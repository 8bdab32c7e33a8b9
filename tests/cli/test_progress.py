"""Progress: plain lines without a terminal, a bar with log lines above it on one."""

from __future__ import annotations

import io
import logging
import re
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest

from simclrseg.cli.console import session
from simclrseg.cli.progress import EVERY, DownloadProgress, FileProgress, TrainingProgress

log = logging.getLogger("simclrseg.somewhere")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class OutStream(io.StringIO):
    """The stderr of a notebook, by its name."""

    __module__ = "ipykernel.iostream"


def test_a_notebook_is_told_of_an_epoch_now_and_then_and_the_log_of_every_one(tmp_path, monkeypatch):
    from simclrseg.system import log_file

    stream = OutStream()
    monkeypatch.setattr(sys, "stderr", stream)
    clock = Clock()
    with session(quiet=False), log_file.kept(tmp_path, "simclrseg"), TrainingProgress(clock) as progress:
        train(progress, clock, epochs=9, steps=2)
    told = [int(number) for number in re.findall(r"^epoch (\d+)/9", stream.getvalue(), re.MULTILINE)]
    assert told[0] == 1 and told[-1] == 9 and 3 <= len(told) < 9
    assert all(later - earlier >= 2 for earlier, later in pairwise(told[:-1]))  # an epoch takes 2 seconds
    assert re.findall(r"epoch (\d+)/9", (tmp_path / "log.txt").read_text()) == [str(number) for number in range(1, 10)]


@pytest.fixture
def open_terminal(monkeypatch):
    """Put a terminal in the place of stderr; called by the test, as pytest changes stderr after the fixtures."""

    def open_terminal():
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return open_terminal


def train(progress, clock, *, epochs=2, steps=4, seconds=1.0, start_step=0):
    """What the engine tells its observers; a quarter of each step is waiting."""
    progress.on_start(
        SimpleNamespace(epochs=epochs, steps_per_epoch=steps, start_step=start_step, batch_size=10, unit="images")
    )
    for step in range(start_step + 1, epochs * steps + 1):
        clock.now += seconds
        epoch = (step - 1) // steps + 1
        progress.on_step(
            SimpleNamespace(
                step=step,
                epoch=epoch,
                learning_rate=0.1,
                logs={"loss": 1 / step, "top1": 0.5},
                images=10,
                seconds=seconds,
                data_seconds=seconds / 4,
            )
        )
        if step % steps == 0:
            progress.on_epoch(
                SimpleNamespace(
                    epoch=epoch,
                    step=step,
                    train={"loss": 0.25},
                    validation={"iou": 0.75, "f1": 0.5},
                    seconds=steps * seconds,
                )
            )
    progress.on_end()


def test_without_a_terminal_an_epoch_is_a_line(capsys):
    clock = Clock()
    with session(quiet=False), TrainingProgress(clock) as progress:
        train(progress, clock)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch 1/2  loss 0.25  val_iou 0.75  10 images/s  data 25%  ETA 0:00:04",
        "epoch 2/2  loss 0.25  val_iou 0.75  10 images/s  data 25%  ETA 0:00:00",
    ]


def test_a_long_epoch_gives_a_line_every_half_minute(capsys):
    clock = Clock()
    with session(quiet=False), TrainingProgress(clock) as progress:
        train(progress, clock, epochs=1, steps=4, seconds=EVERY / 2)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/1  step 2/4  loss 0.5  top1 0.5  0.67 images/s  data 25%  ETA 0:00:30",
        "epoch 1/1  step 4/4  loss 0.25  top1 0.5  0.67 images/s  data 25%  ETA 0:00:00",
        "epoch 1/1  loss 0.25  val_iou 0.75  0.67 images/s  data 25%  ETA 0:00:00",
    ]


def test_what_is_logged_every_few_steps_stays_on_the_line(capsys):
    clock = Clock()

    def step(number, **logs):
        clock.now += EVERY
        return SimpleNamespace(
            step=number, epoch=1, learning_rate=0.1, logs=logs, images=10, seconds=EVERY, data_seconds=0.0
        )

    with session(quiet=False), TrainingProgress(clock) as progress:
        progress.on_start(SimpleNamespace(epochs=1, steps_per_epoch=2, start_step=0, batch_size=10, unit="images"))
        progress.on_step(step(1, loss=0.5, effective_rank=30.0))
        progress.on_step(step(2, loss=0.25))
        progress.on_end()
    first, second = capsys.readouterr().err.splitlines()
    assert "loss 0.5  effective_rank 30" in first
    assert "loss 0.25  effective_rank 30" in second


def test_a_resumed_run_estimates_from_its_own_steps(capsys):
    clock = Clock()
    with session(quiet=False), TrainingProgress(clock) as progress:
        train(progress, clock, epochs=3, start_step=4)
    assert capsys.readouterr().err.splitlines()[0].endswith("ETA 0:00:04")


def test_quiet_shows_no_progress(capsys):
    clock = Clock()
    with session(quiet=True), TrainingProgress(clock) as progress:
        train(progress, clock)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_with_log_lines_above_it(capsys, open_terminal):
    clock, terminal = Clock(), open_terminal()
    with session(quiet=False), TrainingProgress(clock) as progress:
        progress.on_start(SimpleNamespace(epochs=1, steps_per_epoch=2, start_step=0, batch_size=10, unit="images"))
        clock.now += 1
        progress.on_step(
            SimpleNamespace(
                step=1, epoch=1, learning_rate=0.1, logs={"loss": 0.5}, images=10, seconds=1.0, data_seconds=0.0
            )
        )
        log.info("a fact")
        sys.stdout.write("a result\n")
        assert sys.stderr is not terminal
        progress.on_end()
        assert sys.stderr is terminal
    shown = terminal.getvalue()
    assert "epoch 1/1" in shown
    assert "50%" in shown
    assert "loss 0.5  10 images/s  data 0%  ETA 0:00:01" in shown
    assert "a fact\n" in shown
    assert capsys.readouterr().out == "a result\n"


def test_quiet_shows_no_bar_on_a_terminal(open_terminal):
    open_terminal()
    with session(quiet=True), TrainingProgress() as progress:
        progress.open(10)
        assert not progress.shown
    with session(quiet=False), TrainingProgress() as progress:
        progress.open(10)
        assert progress.shown


def test_the_bar_is_gone_when_training_fails(open_terminal):
    terminal = open_terminal()
    progress = TrainingProgress()

    def fail():
        with progress:
            progress.on_start(SimpleNamespace(epochs=1, steps_per_epoch=2, start_step=0, batch_size=10, unit="images"))
            assert progress.shown
            raise ZeroDivisionError

    with session(quiet=False), pytest.raises(ZeroDivisionError):
        fail()
    assert not progress.shown
    assert sys.stderr is terminal


def test_many_files_are_counted(capsys):
    clock = Clock()
    with session(quiet=False), FileProgress(clock) as progress:
        for done in range(1, 5):
            clock.now += EVERY / 2
            progress(done, 4)
    assert capsys.readouterr().err.splitlines() == [
        "2/4  0.067 images/s  ETA 0:00:30",
        "4/4  0.067 images/s  ETA 0:00:00",
    ]


def test_a_single_file_needs_no_progress(open_terminal):
    terminal = open_terminal()
    with session(quiet=False), FileProgress() as progress:
        progress(1, 1)
    assert terminal.getvalue() == ""


def test_a_download_shows_bytes_speed_and_eta(open_terminal):
    terminal, clock = open_terminal(), Clock()
    with session(quiet=False), DownloadProgress(clock) as progress:
        progress(20_000_000, 100_000_000)
        clock.now += 2
        progress(60_000_000, 100_000_000)
    assert "60.0 of 100.0 MB  20 MB/s  ETA 0:00:02" in terminal.getvalue()
    assert "60%" in terminal.getvalue()


def test_the_bar_of_a_download_goes_when_all_is_there(open_terminal):
    open_terminal()
    with session(quiet=False), DownloadProgress() as progress:
        progress(20_000_000, 100_000_000)
        assert progress.shown
        progress(100_000_000, 100_000_000)
        assert not progress.shown, "what is made of the file may take a while"


def test_a_long_download_without_a_terminal_says_how_far_it_is(capsys):
    clock = Clock()
    with session(quiet=False), DownloadProgress(clock) as progress:
        for done in range(4):
            progress(done * 1_000_000, 4_000_000)
            clock.now += EVERY / 2
        progress(1_000_000, 2_000_000)  # the next file
    assert capsys.readouterr().err.splitlines() == ["2.0 of 4.0 MB  0.067 MB/s  ETA 0:00:30"]
