"""Trainings that are killed at random moments and go on, compared with some that were left alone, to the bit.

    python -m tests.faults.kills [COUNT] [--only KIND ...] [--seed SEED]

COUNT kills are shared out over the kinds. A run is killed as often as a moment comes before its end, from its start to
its last picture; of two processes one is, or whoever has started them. Counts are printed for each kind. It is for
Linux, where processes are found under /proc.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from simclrseg.data.datasets.shapes import Shapes
from simclrseg.engine.checkpoints import Checkpoints
from simclrseg.runs.run import Run
from tests.engine.small import same
from tests.processes import Simclrseg

EVERYWHERE = (
    "--dataset shapes --image-size 32 --backbone cnn --device cpu --precision fp32 --workers 2 --quiet "
    "--checkpoint-steps 3 --keep-checkpoints 2 --epochs 2"
)
PRETRAIN = f"pretrain {EVERYWHERE} --max-images 96 --batch-size 16"
FINETUNE = f"finetune {EVERYWHERE} --max-images 40 --batch-size 8 --ema 0.9"
KINDS = {
    "simclr": PRETRAIN,
    "reconstruction": f"{PRETRAIN} --method reconstruction",
    "segment": FINETUNE,
    "classify": f"{FINETUNE} --task classify",
    "segment, unlabelled": f"{FINETUNE} --unlabelled more",
    "simclr, two processes": f"{PRETRAIN} --devices 2",
    "segment, two processes": f"{FINETUNE} --devices 2",
}
FILES = ("metrics.csv", "metrics.jsonl", "test.json", "backbone.safetensors", "model.safetensors", "model.onnx")
LONGEST = 300  # seconds


@dataclass
class Counts:
    kills: int = 0
    early: int = 0
    """Kills before there was a checkpoint: the run began anew."""
    runs: int = 0
    different: int = 0


class Killed:
    """A command that is killed after some seconds, if it has not ended by then."""

    def __init__(self, words: list[str], folder: Path, after: float, chance: random.Random) -> None:
        command = Simclrseg(*words, folder=folder, OMP_NUM_THREADS="1")
        end = time.monotonic() + after
        while not command.ended() and time.monotonic() < end:
            time.sleep(0.01)
        self.was_killed = not command.ended()
        if self.was_killed:
            processes = [command.pid, *_children(command.pid)]
            with_it = chance.choice(processes)
            if _is_there(with_it):
                os.kill(with_it, signal.SIGKILL)
            _await_end(processes)
        done = command.wait(LONGEST)
        assert self.was_killed or done.returncode == 0, done.stderr
        self.said = done.stderr


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _await_end(processes: list[int]) -> None:
    began = time.monotonic()
    while left := [pid for pid in processes if _is_there(pid)]:
        assert time.monotonic() - began < 60, f"processes {left} go on after one was killed"
        time.sleep(0.05)


def kill_and_go_on(words: list[str], run: Run, seconds: float, kills: int, chance: random.Random) -> Counts:
    """Train, killed at most so many times, until the run is finished."""
    counts = Counts(runs=1)
    command = [*words, "--name", run.name]
    while True:
        after = chance.uniform(0.1, 0.9) * seconds if counts.kills < kills else LONGEST
        killed = Killed(command, run.root.parent, after, chance).was_killed
        counts.kills += killed
        fresh = Run(run.folder)
        if fresh.finished:
            return counts
        assert killed, f"{run.folder} is not finished"
        counts.early += not fresh.started
        command = [words[0], "--resume", run.name] if fresh.started else [*words, "--name", run.name, "--overwrite"]
        if fresh.started and "--devices" in words:
            command += ["--devices", "2"]


def differences(whole: Run, parts: Run) -> list[str]:
    """The files that are not the same in both runs, and those that should not be there."""
    found = [
        name
        for name in FILES
        if whole.holds(name) != parts.holds(name)
        or (whole.holds(name) and (whole.folder / name).read_bytes() != (parts.folder / name).read_bytes())
    ]
    states = [Checkpoints(run.folder / "checkpoints").load_last() for run in (whole, parts)]
    names = [name for name in vars(states[0]) if name != "history"]  # of times
    found += [name for name in names if not same(*(getattr(state, name) for state in states))]
    files = [
        {path.relative_to(run.folder) for path in run.folder.rglob("*") if not path.name.startswith("state-")}
        for run in (whole, parts)
    ]
    return [*found, *map(str, files[0] ^ files[1])]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("count", nargs="?", type=int, default=50)
    options.add_argument("--only", nargs="+", default=list(KINDS), choices=KINDS)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the runs in a folder")
    asked = options.parse_args()
    total = Counts()
    with TemporaryDirectory() as name:
        root = (asked.keep or Path(name)).absolute()
        (root / "more").mkdir(parents=True)
        for index in range(300, 330):
            cv2.imwrite(str(root / "more" / f"{index}.png"), Shapes(330).image(index)[::3, ::3])
        for place, kind in enumerate(asked.only):
            kills = (place + 1) * asked.count // len(asked.only) - place * asked.count // len(asked.only)
            counts = _of_kind(kind, kills, root, random.Random(f"{asked.seed} {kind}"))
            print(f"{kind}: {vars(counts)}", flush=True)
            for count, value in vars(counts).items():
                setattr(total, count, getattr(total, count) + value)
    print(f"all: {vars(total)}")
    sys.exit(bool(total.different))


def _of_kind(kind: str, kills: int, root: Path, chance: random.Random) -> Counts:
    words = KINDS[kind].split()
    own = "-".join(kind.replace(",", "").split())
    whole = Run(root / "runs" / words[0] / f"{own}-whole")
    Simclrseg("--version", folder=root).wait()  # the first of all waits for imports
    began = time.monotonic()
    Killed([*words, "--name", whole.name], root, LONGEST, chance)
    seconds = time.monotonic() - began
    counts = Counts()
    while counts.kills < kills:
        parts = Run(whole.folder.with_name(f"{own}-{counts.runs}"))
        began = time.monotonic()
        found = kill_and_go_on(words, parts, seconds, kills - counts.kills, chance)
        if not found.kills:  # the machine is faster than before
            seconds = time.monotonic() - began
        if different := differences(Run(whole.folder), Run(parts.folder)):
            found.different = 1
            print(f"{kind}: after {found.kills} kills other than without: {', '.join(different)}", flush=True)
        for count, value in vars(found).items():
            setattr(counts, count, getattr(counts, count) + value)
    return counts


if __name__ == "__main__":
    main()
