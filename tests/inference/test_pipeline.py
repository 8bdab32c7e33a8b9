"""Many photos at once."""

from __future__ import annotations

import threading
import time

import pytest

from simclrseg.inference import pipeline
from simclrseg.inference.pipeline import run_all


def nothing(item: int) -> int:
    return 0


def test_every_batch_is_done_once_and_keeps_its_number():
    batches = [[number, -number] for number in range(50)]
    found = dict(run_all(sum, batches, threads=4, pixels=nothing))
    assert found == {number: 0 for number in range(50)}
    assert dict(run_all(tuple, batches, threads=4, pixels=nothing)) == dict(enumerate(map(tuple, batches)))


def test_batches_are_worked_on_at_the_same_time():
    meeting = threading.Barrier(3, timeout=5)
    assert len(list(run_all(lambda batch: meeting.wait(), [[0]] * 3, threads=3, pixels=nothing))) == 3


def test_large_photos_wait_for_room(monkeypatch):
    monkeypatch.setattr(pipeline, "PIXELS_IN_FLIGHT", 100)
    lock, inside, most = threading.Lock(), [0], [0]

    def work(batch):
        with lock:
            inside[0] += batch[0]
            most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        with lock:
            inside[0] -= batch[0]

    list(run_all(work, [[40], [50], [30], [500], [20], [60]] * 3, threads=4, pixels=lambda item: item))
    assert most[0] == 500  # alone


def test_an_error_ends_everything_and_what_had_not_begun_never_does():
    begun = []

    def work(batch):
        begun.append(batch[0])
        if batch[0] == 3:
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        list(run_all(work, [[number] for number in range(100)], threads=1, pixels=nothing))
    assert len(begun) < 10
