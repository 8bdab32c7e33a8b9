"""`--devices`: the command in several processes, whose exit code and lines are those of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simclrseg.cli.launch import launch
from simclrseg.errors import UsageError


def simclrseg(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    tree = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "simclrseg", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)


PRETRAIN = (
    *("pretrain", "--dataset", "shapes", "--backbone", "resnet18", "--image-size", "32", "--epochs", "1"),
    *("--precision", "fp32", "--device", "cpu", "--workers", "1", "--devices", "2"),
)


def test_two_processes_leave_one_run_and_speak_with_one_voice(tmp_path: Path) -> None:
    from safetensors import safe_open

    from simclrseg.models.backbones import build_backbone

    small = ("--max-images", "64", "--batch-size", "32", "--stem", "imagenet")
    done = simclrseg(*PRETRAIN, *small, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs" / "pretrain").iterdir()
    assert (folder / "metrics.csv").read_text().count("\n") == 2  # the header and one epoch
    with safe_open(folder / "backbone.safetensors", "pt") as weights:
        assert set(weights.keys()) == set(build_backbone("resnet18").state_dict())
    assert done.stdout.count("backbone") == 2  # its name and its path
    ends = [line for line in done.stderr.splitlines() if "epoch 1/1" in line and " step " not in line]
    assert len(ends) == 1  # a slow machine tells steps in between
    assert "Traceback" not in done.stderr


def test_a_mistake_is_told_once_and_the_exit_code_is_its_own(tmp_path: Path) -> None:
    done = simclrseg(*PRETRAIN, "--batch-size", "255", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: batch size 255 cannot be shared out over 2 processes: take 256"
    assert done.stderr.count("error") == 1
    assert not (tmp_path / "runs").exists()


def test_a_pipe_is_refused_for_only_one_process_could_read_it(tmp_path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(sys, "argv", ["simclrseg", 300 * "a", f"--config={tmp_path / 'pipe'}"])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    launch(1)
    with pytest.raises(UsageError, match="pipe is a pipe, which 2 processes cannot all read: save it as a file"):
        launch(2)


@pytest.mark.slow
def test_a_photo_that_only_the_second_process_meets_stops_both_with_one_line(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    from simclrseg.data.randomness import permutation

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(16):
        cv2.imwrite(str(photos / f"{number:02}.png"), np.full((40, 40, 3), 10 * number, np.uint8))
    second = permutation(0, 0, 16)[8:]
    met = next(number for number in second.tolist() if number % 2)  # the first process draws the views of even ones
    (photos / f"{met:02}.png").write_bytes(b"no picture")
    words = [str(photos) if word == "shapes" else word for word in PRETRAIN]
    done = simclrseg(*words, "--batch-size", "16", "--micro-batch", "8", "--strict", "--quiet", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and f"{met:02}.png" in line
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("devices", [None, 1])
def test_one_process_starts_no_others(devices: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    launch(devices)  # returns


def test_a_process_of_torchrun_does_not_start_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    launch(4)  # returns


def test_a_command_that_has_nothing_to_share_is_done_by_the_first_process(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "simclrseg", "pull"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "WORLD_SIZE": "2"}
    first, second = (
        subprocess.run(
            words, cwd=tmp_path, env=environment | {"RANK": rank}, capture_output=True, text=True, timeout=60
        )
        for rank in "01"
    )
    assert (first.returncode, second.returncode) == (0, 0)
    assert "imagenet" in first.stdout
    assert second.stdout + second.stderr == ""
