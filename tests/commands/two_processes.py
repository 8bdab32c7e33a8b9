"""Trains the runs that ``test_seams`` wants of two processes, as each of them: `python -m ... SETS RUNS`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.commands.test_seams import PROCESSES, STEADY, config_of, stopped

if __name__ == "__main__":
    sets, runs = map(Path, sys.argv[1:])
    for number, row in enumerate(PROCESSES):
        stopped(config_of(row, sets, runs / str(number), optimizer=STEADY), epoch=2)
