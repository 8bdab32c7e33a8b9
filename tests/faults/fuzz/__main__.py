"""Damaged inputs by the hour: ``python -m tests.faults.fuzz --inputs 200000 --seed 0 --processes 2 --minutes 60``.

Findings are printed as they come, each with the command that reads it again; the counts of all kinds come last. The
exit code is 1 where anything was found. Odd images are taken too where ``SIMCLRSEG_TEST_DATA`` names the shared folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.faults.fuzz.harness import FOUND, Counts, Finding, run
from tests.faults.fuzz.kinds import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--only", choices=sorted(KINDS), action="append", help="this kind alone, or these")
    parser.add_argument("--number", type=int, help="one input alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each kind")
    asked = parser.parse_args()
    kinds = {name: kind for name, kind in KINDS.items() if not asked.only or name in asked.only}
    first = asked.number if asked.number is not None else asked.first
    shares = sum(kind.share for kind in kinds.values())
    many = {
        name: 1 if asked.number is not None else round(asked.inputs * kind.share / shares)
        for name, kind in kinds.items()
    }
    started = time.monotonic()
    known: Counter[str] = Counter()

    def tell(finding: Finding) -> None:
        known[f"{finding.kind} {finding.what} {finding.place}"] += 1
        if known[f"{finding.kind} {finding.what} {finding.place}"] == 1:
            print(f"\n{finding.what}: {finding.command}\n{finding.shown}", flush=True)

    counts = run(
        kinds,
        {name: range(first, first + number) for name, number in many.items()},
        seed=asked.seed,
        processes=asked.processes,
        until=started + 60 * asked.minutes,
        on_finding=tell,
    )
    show(counts, known, time.monotonic() - started)
    return 1 if counts.findings else 0


def show(counts: Counts, known: Counter[str], seconds: float) -> None:
    """Print the outcomes by kind, and how often each finding came."""
    columns = ("inputs", "accepted", "refused", *FOUND)
    print("\n" + " ".join(f"{column:>14}" for column in ("kind", *columns)))
    every: Counter[str] = Counter()
    for kind, outcomes in counts.outcomes.items():
        row = Counter({"inputs": counts.inputs(kind), **outcomes})
        every += row
        print(" ".join(f"{cell:>14}" for cell in (kind, *(f"{row[column]:,}" for column in columns))))
    print(" ".join(f"{cell:>14}" for cell in ("all", *(f"{every[column]:,}" for column in columns))))
    for line, count in known.most_common():
        print(f"{count:>6} x {line}")
    print(f"{seconds:,.0f} s, {1000 * seconds / max(1, every['inputs']):.1f} ms an input")


if __name__ == "__main__":
    sys.exit(main())
