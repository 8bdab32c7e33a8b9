"""Checkpoints on the disk."""

from __future__ import annotations

import dataclasses
import errno
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simclrseg.engine.checkpoints import FORMAT, Checkpoints, TrainingState
from simclrseg.engine.history import EpochRecord
from simclrseg.errors import RunError, TrainingError
from tests.engine.small import same


def state(step: int = 7) -> TrainingState:
    model = {"weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last), "count": torch.tensor(3)}
    optimizer = {"state": {0: {"momentum_buffer": torch.randn(4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    history = [dataclasses.asdict(EpochRecord(1, 4, {"loss": 0.5}, {"iou": 0.25}, 2.0))]
    return TrainingState(
        step // 4, step, model, optimizer, {"scale": 1024.0}, {"loss": 0.1 + 0.2}, {"loss": 12}, history
    )


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
    assert same(checkpoints.load_best(best, epoch=2), best)


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
    with pytest.raises(RunError, match=r"state\.pt cannot be used \(File is not a zip file\): start a new run$"):
        checkpoints.load_last()


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.unlink()  # a link to it stays as it was
    path.write_bytes(content)


def test_no_state_and_no_model_with_a_flipped_bit_is_taken_for_what_it_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    before = state()
    checkpoints.save_last(before)
    checkpoints.save_best(before.model, score=0.5, epoch=1)
    last, best = tmp_path / "last" / "state.pt", tmp_path / "best" / "model.pt"
    bits = [random.Random(seed).random() for seed in range(100)]
    entries = [last.read_bytes().rindex(name) for name in (b"data/0PK", b"data/1PK")]
    folder = [8 * last.read_bytes().rindex(b"PK\1\2", 0, entry) + 8 * 38 + 4 for entry in entries]  # a DOS attribute
    refused = []
    for path in (last, best):
        whole = path.read_bytes()
        places = [int(bit * 8 * len(whole)) for bit in bits] + (folder if path == last else [])
        for place in places:
            flip(path, place)
            try:
                if path == last:
                    after = checkpoints.load_last()
                    assert after is not None
                    assert same(dataclasses.asdict(after), dataclasses.asdict(before)), place
                else:
                    assert same(checkpoints.load_best(before.model, epoch=1), before.model), place
            except RunError as error:
                refused.append(str(error))
            path.write_bytes(whole)
    assert 50 < len(refused) < 202  # the rest is padding
    assert all(" cannot be used (" in line and "\n" not in line for line in refused)


def test_a_damaged_state_is_one_line_that_names_the_newest_whole_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (4, 8, 12):
        checkpoints.save_last(state(step))
    last, linked = tmp_path / "last" / "state.pt", tmp_path / "last" / "state-000000012.pt"
    place = 8 * last.read_bytes().index(state().model["count"].numpy().tobytes())
    for path in (last, linked):
        flip(path, place)
    kept = tmp_path / "last" / "state-000000008.pt"
    with pytest.raises(RunError) as refused:
        checkpoints.load_last()
    assert str(refused.value).startswith(f"{last} cannot be used (its data")
    assert str(refused.value).endswith(
        f" is damaged): copy {kept} over state.pt to go back to step 8, or start a new run"
    )
    assert refused.value.exit_code == 2
    shutil.copyfile(kept, last)
    back = checkpoints.load_last()
    assert back is not None
    assert back.step == 8


def test_a_best_model_that_is_lost_comes_again_from_a_state_before_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (4, 8, 12):  # epochs 1, 2 and 3
        checkpoints.save_last(state(step))
    own = state().model
    for epoch, back in ((3, "copy .*state-000000008.pt over state.pt to go back to step 8, or "), (1, "")):
        says = rf"model\.pt cannot be used \(No such file or directory\): {back}start a new run$"
        with pytest.raises(RunError, match=says):
            checkpoints.load_best(own, epoch=epoch)
    checkpoints.save_best({"weight": torch.zeros(4, 3)}, score=0.5, epoch=3)
    with pytest.raises(RunError, match=r"model\.pt cannot be used \(model lacks count\): copy"):
        checkpoints.load_best(own, epoch=3)


def test_a_best_model_of_another_epoch_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    own = state().model
    checkpoints.save_best(own, score=0.5, epoch=2)
    with pytest.raises(RunError, match=r"model\.pt cannot be used \(it is of epoch 2, and the best is 3\): start"):
        checkpoints.load_best(own, epoch=3)


def test_where_a_run_cannot_go_on_the_file_that_is_whole_is_handed_to_who_gives_advice(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, anew=lambda whole: f"take {whole and whole.name}")
    checkpoints.save_last(state())
    checkpoints.save_best(state().model, score=0.5, epoch=1)
    last, best = tmp_path / "last" / "state.pt", tmp_path / "best" / "model.pt"
    content = last.read_bytes()
    last.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"state\.pt cannot be used .*: take model\.pt$"):
        checkpoints.load_last()
    best.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"state\.pt cannot be used .*: take None$"):
        checkpoints.load_last()
    last.write_bytes(content)
    with pytest.raises(RunError, match=r"model\.pt cannot be used .*: take state\.pt$"):
        checkpoints.load_best(state().model, epoch=1)


def contents(**changes: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(state()), **changes}


RECORD = contents()["history"][0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "state is of type list"),
        ({"state_dict": {}}, "state lacks epoch"),
        (contents(more=1), "state has more, which does not belong there"),
        (contents(step="7"), "state.step is of type str"),
        (contents(model=[]), "state.model is of type list"),
        (contents(images=12), "state.images is of type int"),
        (contents(images={}), "images lacks loss"),
        (contents(sums={"loss": None}), "sums.loss is of type NoneType"),
        (contents(history={}), "state.history is of type dict"),
        (contents(history=[1]), "history is of type int"),
        (contents(history=[{"epoch": 1}]), "history lacks step"),
        (contents(history=[{**RECORD, "lr": 1.0}]), "history has lr, which does not belong there"),
        (contents(history=[{**RECORD, "validation": {"iou": "high"}}]), "history.validation.iou is of type str"),
        (Path("x"), "it holds more than tensors and numbers"),
    ],
)
def test_a_file_with_other_contents_is_one_line(tmp_path: Path, content: object, reason: str) -> None:
    (tmp_path / "last").mkdir()
    torch.save(content, tmp_path / "last" / "state.pt")
    with pytest.raises(RunError) as refused:
        Checkpoints(tmp_path).load_last()
    expected = f"state.pt cannot be used ({reason}): start a new run"
    assert str(refused.value).endswith(expected)


@pytest.mark.parametrize("old", [lambda content: None, lambda content: content.pop("average")])
def test_a_state_from_before_there_was_a_format_is_loaded(
    tmp_path: Path, old: Callable[[dict[str, Any]], None]
) -> None:
    before = contents()
    old(before)
    (tmp_path / "last").mkdir()
    torch.save(before, tmp_path / "last" / "state.pt")
    after = Checkpoints(tmp_path).load_last()
    assert after is not None
    assert same(dataclasses.asdict(after), {**before, "average": {}})


def test_a_state_of_a_newer_format_asks_for_a_newer_version(tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    torch.save(contents(format=FORMAT + 1), tmp_path / "last" / "state.pt")
    with pytest.raises(RunError, match=r"state\.pt has format 2, and this version reads 1: update simclrseg$"):
        Checkpoints(tmp_path).load_last()


def test_checksums_are_written_whatever_was_chosen_for_other_files(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        Checkpoints(tmp_path).save_last(state())
    finally:
        torch.serialization.set_crc32_options(True)
    assert Checkpoints(tmp_path).load_last() is not None


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
