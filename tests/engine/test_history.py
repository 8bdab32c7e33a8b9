"""What the files of a run hold, and how they are cut back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from simclrseg.engine.history import EpochRecord, FileHistory, Plan, StepRecord
from simclrseg.errors import OutputError


def step(number: int, epoch: int, loss: float = 0.1) -> StepRecord:
    return StepRecord(number, epoch, 0.3, {"loss": loss, "top1": 0.5}, 8, seconds=2.0, data_seconds=0.5)


def epoch(number: int, at: int, **validation: float) -> EpochRecord:
    return EpochRecord(number, at, {"loss": 1 / 3}, validation, seconds=5.0)


def plan(start_step: int = 0, *history: EpochRecord) -> Plan:
    return Plan(3, 2, start_step, history, 8)


def write(folder: Path, *records: StepRecord | EpochRecord, start: Plan | None = None) -> None:
    history = FileHistory(folder)
    history.on_start(start or plan())
    for record in records:
        history.on_step(record) if isinstance(record, StepRecord) else history.on_epoch(record)
    history.on_end()


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_steps_and_epochs_are_lines_and_epochs_are_rows(tmp_path: Path) -> None:
    write(tmp_path, step(1, 1), step(2, 1), epoch(1, 2, iou=0.25))
    assert lines(tmp_path) == [
        {"step": 1, "epoch": 1, "learning_rate": 0.3, "loss": 0.1, "top1": 0.5},
        {"step": 2, "epoch": 1, "learning_rate": 0.3, "loss": 0.1, "top1": 0.5},
        {"epoch": 1, "step": 2, "train": {"loss": 1 / 3}, "validation": {"iou": 0.25}},
    ]
    assert (tmp_path / "metrics.csv").read_text() == ("epoch,step,train_loss,val_iou\n1,2,0.3333333333333333,0.25\n")
    assert rows(tmp_path / "timing.csv") == [
        {"epoch": "1", "step": "2", "seconds": "5.0", "data_seconds": "1.0", "images": "16"}
    ]


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    write(tmp_path, step(1, 1, value), epoch(1, 1, iou=value))
    assert lines(tmp_path)[0]["loss"] == value
    assert float(rows(tmp_path / "metrics.csv")[0]["val_iou"]) == value


def test_a_score_that_comes_later_gets_its_column(tmp_path: Path) -> None:
    write(tmp_path, epoch(1, 2), epoch(2, 4, knn=0.75))
    assert [row["val_knn"] for row in rows(tmp_path / "metrics.csv")] == ["", "0.75"]


def test_a_run_that_goes_on_cuts_back_what_it_will_do_again(tmp_path: Path) -> None:
    write(tmp_path, step(1, 1), step(2, 1), epoch(1, 2), step(3, 2), step(4, 2), epoch(2, 4), step(5, 3))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "epo')  # killed while it wrote
    write(tmp_path, start=plan(3, epoch(1, 2)))
    assert [(line["step"], "train" in line) for line in lines(tmp_path)] == [
        (1, False),
        (2, False),
        (2, True),
        (3, False),
    ]
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == ["1"]
    assert [row["epoch"] for row in rows(tmp_path / "timing.csv")] == ["1"]


def test_a_run_that_starts_anew_leaves_nothing_of_another(tmp_path: Path) -> None:
    write(tmp_path, step(1, 1), epoch(1, 2))
    write(tmp_path)
    assert lines(tmp_path) == []
    assert rows(tmp_path / "metrics.csv") == []


def test_rows_that_cannot_be_read_are_left_out_when_a_run_goes_on(tmp_path: Path) -> None:
    write(tmp_path, step(1, 1), step(2, 1), epoch(1, 2, iou=0.5), step(3, 2), step(4, 2), epoch(2, 4, iou=0.6))
    for name in ("metrics.csv", "timing.csv"):
        with open(tmp_path / name, "ab") as file:
            file.write(b"2,4\n2,x,1,2,3,4,5\n\xff\xfe,1\n1,2,?,0.5\n")
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'3\n{"step": "x"}\n{}\n[]\n\xff\n')
    write(tmp_path, start=plan(4, epoch(1, 2, iou=0.5), epoch(2, 4, iou=0.6)))
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == ["1", "2"]
    assert [row["epoch"] for row in rows(tmp_path / "timing.csv")] == ["1", "2"]
    assert len(lines(tmp_path)) == 6


def test_epochs_that_the_files_lack_are_written_anew_when_a_run_goes_on(tmp_path: Path) -> None:
    records = (step(1, 1), step(2, 1), epoch(1, 2), step(3, 2), step(4, 2), epoch(2, 4, iou=0.6))
    write(tmp_path, *records)
    names = ("metrics.csv", "metrics.jsonl", "timing.csv")
    whole = {name: (tmp_path / name).read_bytes() for name in names}
    (tmp_path / "metrics.csv").write_bytes(b"\x00\xff,\n1,2\n")
    for name in names[1:]:  # stopped before it was told of the second epoch
        (tmp_path / name).write_bytes(whole[name][: whole[name].rindex(b"\n", 0, -1) + 1])
    write(tmp_path, start=plan(4, epoch(1, 2), epoch(2, 4, iou=0.6)))
    assert {name: (tmp_path / name).read_bytes() for name in names[:2]} == {name: whole[name] for name in names[:2]}
    assert rows(tmp_path / "timing.csv") == [
        {"epoch": "1", "step": "2", "seconds": "5.0", "data_seconds": "1.0", "images": "16"},
        {"epoch": "2", "step": "4", "seconds": "5.0", "data_seconds": "", "images": ""},  # of this nobody knows more
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    history = FileHistory(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"metrics\.jsonl cannot be written \(No space left on device\)"):
        history.on_step(step(1, 1))
