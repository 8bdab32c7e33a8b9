"""No more open files, or threads, than a system grants."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclrseg.cli.app import main
from simclrseg.errors import OutputError
from simclrseg.images.decode import read_image
from simclrseg.system.files import write_text
from simclrseg.system.limits import used_up


def predict(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> tuple[object, list[str]]:
    """Exit code, and lines on stderr."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((16, 16, 3), 80 * number, np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    words = ["predict", str(tmp_path / "photos"), "-o", str(tmp_path / "masks"), "--model", str(model), "--quiet"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--device", "cpu"])
    return caught.value.code, capsys.readouterr().err.splitlines()


def test_where_no_thread_can_be_started_one_line_says_what_helps(tmp_path, make_model, monkeypatch, capsys) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    model = make_model()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    code, (line,) = predict(tmp_path, model, capsys)
    assert code == 2
    assert line.startswith("error: the system starts no more threads") and "--workers" in line


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_where_no_file_can_be_opened_one_line_says_so_and_no_photo_is_blamed(tmp_path, make_model) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(photo)
    words = ["predict", str(photo), "-o", str(tmp_path / "mask.png"), "--model", str(make_model()), "--device", "cpu"]
    for most in (7, 6, 5, 4):  # of which the libraries hold some, by their version
        command = (
            f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most})); "
            "runpy.run_module('simclrseg', run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", command, *words, "--quiet", "--overwrite"],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            break
    line = done.stderr.splitlines()[-1]  # ONNX Runtime may have complained before
    assert done.returncode == 2
    assert line.startswith("error: too many files are open at once: allow more with `ulimit -n 4096`")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_for_want_of_handles_no_picture_is_taken_for_a_bad_one_and_nothing_is_left_of_a_write(tmp_path) -> None:
    import resource

    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(photo)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(2)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            read_image(photo)
        with pytest.raises(OutputError, match="Too many open files"):
            write_text(tmp_path / "a.txt", "text")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.errno == errno.EMFILE
    assert read_image(photo).shape == (16, 16, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_an_error_of_ours_that_comes_of_a_limit_gets_its_remedy_and_others_keep_theirs() -> None:
    def raised(cause: BaseException) -> OutputError:
        error = OutputError("masks/1.png", "no", remedy="choose another folder")
        error.__cause__ = cause
        return error

    assert "ulimit -n" in str(used_up(raised(OSError(errno.EMFILE, "Too many open files"))))
    assert "ulimit -u" in str(used_up(raised(BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"))))
    assert used_up(raised(OSError(errno.ENOSPC, "No space left on device"))) is None
    assert used_up(raised(ValueError("thread"))) is None
