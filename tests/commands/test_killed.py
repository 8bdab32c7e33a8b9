"""A run that is killed at a random moment, and goes on, ends with the same bytes as one that was not."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from simclrseg.engine.checkpoints import Checkpoints
from tests.engine.small import same
from tests.processes import Simclrseg

COMMAND = (
    "pretrain --dataset shapes --max-images 256 --image-size 32 --backbone cnn --batch-size 16 --micro-batch 8 "
    "--epochs 2 --device cpu --precision fp32 --checkpoint-steps 3 --keep-checkpoints 2 --quiet"
)


def start(*words: str, folder: Path) -> Simclrseg:
    return Simclrseg(*words, folder=folder, OMP_NUM_THREADS="1")


def finish(command: Simclrseg) -> None:
    done = command.wait()
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_run_killed_at_a_random_moment_ends_with_the_same_bytes(tmp_path):
    finish(start(*COMMAND.split(), "--name", "whole", "--workers", "1", folder=tmp_path))
    killed = start(*COMMAND.split(), "--name", "parts", "--workers", "2", folder=tmp_path)
    whole, parts = (tmp_path / "runs/pretrain" / name for name in ("whole", "parts"))
    while not (parts / "checkpoints/last/state.pt").exists():
        assert not killed.ended(), killed.wait().stderr
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1))
    killed.kill()
    assert killed.wait().returncode == -signal.SIGKILL
    assert not (parts / "backbone.safetensors").exists(), "it had finished"
    finish(start("pretrain", "--resume", "parts", "--workers", "3", folder=tmp_path))

    states = [Checkpoints(folder / "checkpoints").load_last() for folder in (whole, parts)]
    for name in ("epoch", "step", "model", "optimizer", "scaler"):
        assert same(*(getattr(state, name) for state in states)), name
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    from safetensors.torch import load_file

    assert same(*(load_file(folder / "backbone.safetensors") for folder in (whole, parts)))
    kept = [sorted(path.name for path in (folder / "checkpoints/last").glob("state-*")) for folder in (whole, parts)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2
