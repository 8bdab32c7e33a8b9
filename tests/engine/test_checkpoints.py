"""Checkpoints on the disk."""

from __future__ import annotations

import dataclasses
import errno
import shutil
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
    with pytest.raises(TrainingError, match=r"No space left on device\): free some space"):
        checkpoints.save_last(state(2))
    with pytest.raises(TrainingError, match="cannot be written"):
        checkpoints.save_best(state(2).model, score=0.5, epoch=1)
    last = checkpoints.load_last()
    assert last is not None
    assert last.step == 1
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["state.pt"]


def test_a_full_disk_at_the_first_checkpoint_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def save(content: object, path: Path) -> None:
        monkeypatch.setattr("os.fsync", full)
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(TrainingError, match=r"\(No space left on device\): free some space"):
        Checkpoints(tmp_path).save_last(state(1))
    assert not Checkpoints(tmp_path).exist


def test_a_checkpoint_that_is_cut_short_is_one_line(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last(state())
    path = tmp_path / "last" / "state.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match=r"state\.pt.*--overwrite"):
        checkpoints.load_last()


def test_the_last_states_are_kept_and_can_be_gone_back_to(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    Checkpoints(tmp_path).save_last(state(4))
    assert [path.name for path in folder.iterdir()] == ["state.pt"]
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (8, 12, 12, 16):
        checkpoints.save_last(state(step))
    assert sorted(path.name for path in folder.iterdir()) == ["state-000000012.pt", "state-000000016.pt", "state.pt"]
    shutil.copyfile(folder / "state-000000012.pt", folder / "state.pt.new")
    (folder / "state.pt.new").replace(folder / "state.pt")
    back = checkpoints.load_last()
    assert back is not None
    assert back.step == 12
    checkpoints.save_last(state(14))
    assert sorted(path.name for path in folder.iterdir()) == ["state-000000012.pt", "state-000000014.pt", "state.pt"]


def test_a_state_is_due_by_steps_or_by_minutes(tmp_path: Path) -> None:
    now = [0.0]
    by_steps = Checkpoints(tmp_path, every_steps=3)
    by_minutes = Checkpoints(tmp_path, every_minutes=0.5, clock=lambda: now[0])
    assert [by_steps.due(step) for step in range(1, 7)] == [False, False, True, False, False, True]
    assert not Checkpoints(tmp_path).due(3)
    now[0] = 29.0
    assert not by_minutes.due(1)
    now[0] = 30.0
    assert by_minutes.due(1)
    now[0] = 31.0
    by_minutes.save_last(state())
    assert not by_minutes.due(2)  # minutes count from the last state
    now[0] = 60.0
    assert not by_minutes.due(3)
    now[0] = 61.0
    assert by_minutes.due(4)
