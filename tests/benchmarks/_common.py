"""What the benchmarks share: timing in turns on a quiet machine, tables, and photos to read."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

_PROC = Path("/proc")
_TRIES = 4  # for one sample, before it is kept although others used the CPU


@dataclass
class Timings:
    """Seconds of each variant, one number a round, and what became of the samples."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    clean: int = 0
    rejected: int = 0
    contaminated: int = 0

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """How many times faster than ``base``: the median over rounds."""
        pairs = zip(self.seconds[base], self.seconds[name], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def note(self) -> str:
        if not _PROC.joinpath("stat").exists():
            return "[other processes cannot be watched on this system: no sample was rejected]"
        return (
            f"[samples: {self.clean} clean, {self.rejected} rejected because other processes used the CPU, "
            f"{self.contaminated} kept although they did]"
        )


def interleave(variants: Mapping[str, Callable[[], object]], *, rounds: int, threads: int) -> Timings:
    """Time the variants in turns, each round from another one on: what ran before leaves caches and spinning threads.

    A sample during which other processes (or the hypervisor) took cores that ``threads`` need is taken again. Turns
    alone do not cancel such noise: under oversubscription many small operations slow down far more than a few large
    ones. Whether a sample is rejected never depends on its own time.
    """
    limit = max(0.10, 1 - threads / (os.cpu_count() or 1) - 0.04)
    timings = Timings({name: [] for name in variants})
    for run in variants.values():
        run()  # warm-up: files into memory, workers started
    names = list(variants)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            timings.seconds[name].append(_sample(variants[name], limit, timings))
    return timings


def _sample(run: Callable[[], object], limit: float, timings: Timings) -> float:
    for attempt in range(_TRIES):
        gc.collect()
        _wait_until_quiet(limit)
        before, start = _cpu_use(), time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        if _foreign_share(before, _cpu_use()) <= limit:
            timings.clean += 1
            return seconds
        timings.rejected += attempt < _TRIES - 1
    timings.contaminated += 1
    return seconds


def _wait_until_quiet(limit: float, *, patience: float = 3.0) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = _cpu_use()
        time.sleep(0.2)
        if _foreign_share(before, _cpu_use()) <= limit:
            return


def _foreign_share(before: tuple[int, int, int], after: tuple[int, int, int]) -> float:
    """Share of all CPU time that processes other than ours took, and the hypervisor."""
    total, busy, own = (b - a for a, b in zip(before, after, strict=True))
    return max(0, busy - own) / max(1, total)


def _cpu_use() -> tuple[int, int, int]:
    """Clock ticks since boot: all, busy (stolen ones too), and ours: this process and its children."""
    if not _PROC.joinpath("stat").exists():
        return 0, 0, 0
    ticks = [int(word) for word in _PROC.joinpath("stat").read_text().splitlines()[0].split()[1:9]]
    parent, used = {}, {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it has ended
                continue
            parent[int(folder.name)] = int(words[1])
            used[int(folder.name)] = sum(int(word) for word in words[11:15])
    ours = {os.getpid()}
    while grown := {child for child, of in parent.items() if of in ours} - ours:
        ours |= grown
    idle = ticks[3] + ticks[4]
    return sum(ticks), sum(ticks) - idle, sum(used.get(process, 0) for process in ours)


def repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    """Several runs as one sample: the threads of the library that ran before it spin on for a while."""

    def several() -> None:
        for _ in range(times):
            run()

    return several


def compare(
    title: str, variants: Mapping[str, Callable[[], object]], *, rounds: int, threads: int, images: int | None = None
) -> Timings:
    """Time variants in turns and print them beside the first one: in ms, or in images/s where a run has ``images``."""
    timings = interleave(variants, rounds=rounds, threads=threads)
    base = next(iter(variants))

    def figure(name: str) -> str:
        return f"{1e3 * timings.median(name):.1f}" if images is None else f"{images / timings.median(name):.1f}"

    rows = [[name, figure(name), f"{timings.ratio(name, base):.2f}x"] for name in variants]
    print(f"\n{title}, {threads} threads, medians of {rounds} rounds in turns")
    print_table(["variant", "ms" if images is None else "images/s", f"to {base}"], rows)
    print(timings.note())
    return timings


def peak_memory(module: str, name: str, *arguments: str) -> str:
    """Most memory in MB that a variant adds to a fresh process, by ``module``'s ``--memory-of``; Linux only."""
    if not (_PROC / "self" / "clear_refs").exists():
        return "-"
    command = [sys.executable, "-m", module, "--memory-of", name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def print_added_memory(run: Callable[[], object]) -> None:
    """What ``peak_memory`` reads: the peak of this process during a run, less what it had before."""

    def status(key: str) -> int:
        lines = (_PROC / "self" / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

    (_PROC / "self" / "clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    run()
    print(f"{(status('VmHWM') - before) / 1024:.0f}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("| " + " | ".join(cells) + " |", flush=True)


def machine() -> str:
    """Where a table comes from: processor, cores, versions."""
    cpuinfo = _PROC / "cpuinfo"
    models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    name = models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()
    return (
        f"{name}, {os.cpu_count()} cores; torch {torch.__version__}, OpenCV {cv2.__version__}, numpy {np.__version__}"
    )


def make_jpegs(folder: Path, n: int, *, width: int = 500, height: int = 375, quality: int = 90) -> list[Path]:
    """Write ``n`` JPEGs of one size, made from the real photos below SIMCLRSEG_TEST_DATA, or from colour waves."""
    test_data = os.environ.get("SIMCLRSEG_TEST_DATA")
    photos = sorted(Path(test_data).glob("oxford_pets/**/*.jpg"))[:n] if test_data else []
    files = []
    for i in range(n):
        image = cv2.imread(str(photos[i % len(photos)])) if photos else _waves(i, height, width)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        files.append(folder / f"{i:05d}.jpg")
        cv2.imwrite(str(files[-1]), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return files


def _waves(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(rng.uniform(0.005, 0.05) * x + rng.uniform(0.005, 0.05) * y + rng.uniform(0, 6)) for _ in range(3)]
    noisy = 127 + 90 * np.stack(waves, axis=2) + rng.normal(0, 12, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)
