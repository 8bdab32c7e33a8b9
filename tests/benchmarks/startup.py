"""How long a user waits for help and for a completion: medians of whole processes, against the limits of the design.

Run it on a quiet machine: ``python -m tests.benchmarks.startup``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

from tests.benchmarks._common import interleave, machine, print_table

# case -> (arguments, words of a completion, limit in ms)
CASES: dict[str, tuple[list[str], str, int | None]] = {
    "python alone": (["-c", "pass"], "", None),
    "import typer": (["-c", "import typer"], "", None),
    "import pydantic": (["-c", "from pydantic import BaseModel"], "", None),
    "simclrseg --help": (["-m", "simclrseg", "--help"], "", 200),
    "simclrseg pretrain --help": (["-m", "simclrseg", "pretrain", "--help"], "", 300),
    "simclrseg finetune --help": (["-m", "simclrseg", "finetune", "--help"], "", 300),
    "simclrseg evaluate --help": (["-m", "simclrseg", "evaluate", "--help"], "", 300),
    "Tab: a command": (["-m", "simclrseg"], "simclrseg pre", 150),
    "Tab: an option": (["-m", "simclrseg"], "simclrseg pretrain --da", 150),
    "Tab: a key": (["-m", "simclrseg"], "simclrseg pretrain --set training.ep", 150),
    "Tab: a preset": (["-m", "simclrseg"], "simclrseg pretrain --config sim", 150),
    "Tab: a dataset": (["-m", "simclrseg"], "simclrseg pretrain --dataset sh", 150),
    "Tab: a run": (["-m", "simclrseg"], "simclrseg finetune --pretrained p", 150),
}


def process(arguments: list[str], words: str) -> Callable[[], object]:
    environment = dict(os.environ)
    if words:
        place = str(len(words.split()) - 1)
        environment |= {"_SIMCLRSEG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    variants = {case: process(arguments, words) for case, (arguments, words, _) in CASES.items()}
    timings = interleave(variants, rounds=rounds, threads=1)
    print(machine())
    rows = [
        [case, f"{1000 * timings.median(case):.0f}", f"{1000 * min(timings.seconds[case]):.0f}", str(limit or "")]
        for case, (_, _, limit) in CASES.items()
    ]
    print_table(["case", "median, ms", "fastest, ms", "limit, ms"], rows)
    print(timings.note())


if __name__ == "__main__":
    main()
