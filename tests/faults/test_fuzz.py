"""A short run of the fuzzing, which finds nothing in what stands, and finds what is planted."""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from simclrseg.errors import DataError
from tests.faults.fuzz.harness import FOUND, Counts, Kind, Source, run
from tests.faults.fuzz.kinds import KINDS

INPUTS = 1000
"""Of all kinds together: half a minute on one core."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")


@pytest.fixture(scope="module")
def counts() -> Counts:
    shares = sum(kind.share for kind in KINDS.values())
    numbers = {name: range(round(INPUTS * kind.share / shares)) for name, kind in KINDS.items()}
    return run(KINDS, numbers, seed=17)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_in_one_line(counts: Counts, kind: str) -> None:
    found = [f"{one.what}: {one.command}\n{one.shown}" for one in counts.findings if one.kind == kind]
    assert not found, "\n\n".join(found)
    outcomes = counts.outcomes[kind]
    assert outcomes["accepted"], "damage that is always refused tests little"
    assert outcomes["refused"] or kind == "completions", "so does damage that never is; but a shell gets no errors"


OUTCOMES = ("accepted", "refused", "traceback", "hang", "allocation", "message", "crash", "accepted")


def planted(folder: Path) -> Source:
    """Inputs of which each comes out as one of ``OUTCOMES``, the last although it takes much memory."""

    def read(number: int) -> None:
        match number:
            case 1:
                raise DataError("it cannot be read", "write it again")
            case 2:
                raise KeyError("a key")
            case 3:
                while True:
                    pass
            case 4 | 7:
                np.ones(400_000_000, np.uint8)
            case 5:
                print("\x1b[31m", file=sys.stderr)
                raise DataError("below a line that a terminal obeys")
            case 6:
                ctypes.string_at(0)

    return Source(lambda rng: rng.randrange(8), read, lambda number: 400_000_000 if number == 7 else 0)


def test_the_harness_finds_what_is_planted_and_names_the_input() -> None:
    found = run({"planted": Kind(f"{__name__}:planted")}, {"planted": range(20)}, seed=0, seconds=1)
    expected = [OUTCOMES[Random(f"0/planted/{number}").randrange(8)] for number in range(20)]
    assert set(expected) == set(OUTCOMES) and found.outcomes["planted"] == Counter(expected)
    wrong = {number: what for number, what in enumerate(expected) if what in FOUND}
    assert {one.number: one.what for one in found.findings} == wrong
    number = expected.index("traceback")
    assert (
        f"--only planted --seed 0 --number {number}"
        in next(one for one in found.findings if one.number == number).command
    )


@pytest.mark.parametrize("kind", ["classes", "images"])
def test_an_input_is_made_again_from_its_number(kind: str, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    sources = [KINDS[kind].source(folder) for folder in folders]
    for _ in range(3):
        sources[0].make(Random("of another input"))
    again = [source.make(Random("0/7")) for source in sources]
    contents = [given if isinstance(given, str) else given.read_bytes() for given in again]
    assert contents[0] == contents[1]
