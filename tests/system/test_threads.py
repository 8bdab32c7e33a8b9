"""The one map over images."""

from __future__ import annotations

import re
import threading
import time

import pytest

from simclrseg.system import threads
from simclrseg.system.threads import MOST, map_in_threads


def test_results_come_in_the_order_of_the_items_whoever_is_first():
    def late(number: int) -> int:
        time.sleep(0.002 * (5 - number))
        return number

    assert map_in_threads(late, range(5), threads=5) == list(range(5))
    assert map_in_threads(late, []) == []


def test_the_first_error_ends_it_and_what_has_not_begun_is_left():
    begun: list[int] = []
    lock = threading.Lock()

    def fail_first(number: int) -> None:
        with lock:
            begun.append(number)
        if number == 0:
            raise ValueError("broken")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="broken"):
        map_in_threads(fail_first, range(1000), threads=2)
    assert len(begun) < 100


def test_how_much_is_done_is_told_where_it_takes_long(caplog, monkeypatch):
    monkeypatch.setattr(threads, "SILENT", 0.01)
    with caplog.at_level("INFO", logger="simclrseg"):
        map_in_threads(lambda number: time.sleep(0.03), range(2 * MOST), threads=1, telling="masks")
        map_in_threads(lambda number: None, range(6), threads=1, telling="photos")
    first, *others, last = caplog.messages
    assert re.fullmatch(r"masks looked at: [1-7] of 16", first)  # too few to tell how long it takes
    assert re.fullmatch(r"masks looked at: \d+ of 16, about 0 s to go", others[-1])
    assert re.fullmatch(r"16 masks were looked at in \d s", last)
