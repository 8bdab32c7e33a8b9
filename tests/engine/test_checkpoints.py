"""Checkpoints on the disk."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import pytest
import torch

from simclrseg.engine.checkpoints import Checkpoints, TrainingState
from simclrseg.errors import RunError, TrainingError
from tests.engine.small import same


def state(step: int = 7) -> TrainingState:
    model = {"weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last), "count": torch.tensor(3)}
    optimizer = {"state": {0: {"momentum_buffer": torch.randn(4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return TrainingState(2, step, model, optimizer, {"scale": 1024.0}, {"loss": 0.1 + 0.2}, 12, [{"epoch": 1}])


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.load_last() is None
    before = state()
    checkpoints.save_last(before)
    after = checkpoints.load_last()
    assert after is not None
    assert same(dataclasses.asdict(after), dataclasses.asdict(before))
    assert after.model["weight"].stride() == before.model["weight"].stride()


def test_the_best_model_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(state().model, score=0.5, epoch=1)
    best = state().model
    checkpoints.save_best(best, score=0.7, epoch=2)
    assert same(checkpoints.load_best(), best)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last(state(1))

    def full(content: object, path: Path) -> None:
        path.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        checkpoints.save_last(state(2))
    last = checkpoints.load_last()
    assert last is not None
    assert last.step == 1
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["state.pt"]


def test_a_checkpoint_that_is_cut_short_is_one_line(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last(state())
    path = tmp_path / "last" / "state.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match=r"state\.pt.*--overwrite"):
        checkpoints.load_last()
