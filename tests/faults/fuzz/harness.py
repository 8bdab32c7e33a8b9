"""Damaged inputs, read in processes that are watched: tracebacks, hangs, allocations and crashes are findings.

An input is made from (seed, kind, number) alone, so that each can be made again. It is read as a command would read it:
inside ``simclrseg.cli.app.main``, which ends a user's mistake in one line. What is neither read nor refused in one line
is a finding.
"""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import os
import queue
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

SECONDS = 5.0
"""An input that computes longer hangs."""
EXTRA = 300_000_000
"""Bytes of memory that an input may take beyond what its accepted pixels need."""
LONGEST = 2_100
"""Characters of a line of a message."""
CHUNK = 250  # inputs that a process gets at a time
_WAITS = 6  # times as long, without computing
_LAST_WORDS = 1.0  # seconds
_FRAMES = -40  # of a traceback, the last ones
_ADDRESSES = 6_000_000_000  # bytes that a process may ask for beyond what it has at first
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FOUND = ("traceback", "message", "hang", "allocation", "crash")


@dataclass(frozen=True)
class Source:
    """Where a process gets the inputs of a kind.

    Attributes:
        make: a generator -> an input; not watched.
        read: what a user's command does with it.
        needed: bytes that an accepted input may take of itself, as its pixels do.
    """

    make: Callable[[Random], Any]
    read: Callable[[Any], object]
    needed: Callable[[Any], int] = lambda given: 0


@dataclass(frozen=True)
class Kind:
    """A kind of inputs.

    Attributes:
        open: ``module:function``, of an empty folder -> its source; imported in the processes that read.
        share: of all inputs, relative to the other kinds.
    """

    open: str
    share: float = 1.0

    def source(self, folder: Path) -> Source:
        module, _, name = self.open.partition(":")
        found: Source = getattr(import_module(module), name)(folder)
        return found


@dataclass(frozen=True)
class Finding:
    """An input that was neither read nor refused in one line: what came of it, and the text that says where."""

    kind: str
    seed: int
    number: int
    what: str
    text: str

    @property
    def command(self) -> str:
        return f"python -m tests.faults.fuzz --only {self.kind} --seed {self.seed} --number {self.number}"

    @property
    def shown(self) -> str:
        """The text without the frames of libraries."""
        frames = re.findall(r'  File "[^"]*/(?:simclrseg|tests)/[^\n]*\n(?:    [^\n]*\n)?', self.text)
        last = self.text.strip().rpartition("\n")[2]
        return "".join([*frames[-12:], last[:1500]]) if frames else self.text.strip()[-1500:]

    @property
    def place(self) -> str:
        """The same for findings of one cause: the last line, and the last place in this package."""
        if self.what == "message":
            return self.text.partition("\n")[0]
        lines = re.findall(r'File "[^"]*/((?:simclrseg|fuzz)/[^"]+)", line (\d+)', self.text)
        last = self.text.strip().rpartition("\n")[2]
        return f"{':'.join(lines[-1]) if lines else ''} {re.sub(r'[0-9]+', '0', last)[:60]}"


@dataclass
class Counts:
    """Outcomes by kind, and the findings."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def inputs(self, kind: str) -> int:
        return self.outcomes.get(kind, Counter()).total()

    def add(self, kind: str, what: str) -> None:
        self.outcomes.setdefault(kind, Counter())[what] += 1


def run(
    kinds: Mapping[str, Kind],
    numbers: Mapping[str, range],
    *,
    seed: int,
    processes: int = 1,
    seconds: float = SECONDS,
    until: float = float("inf"),
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> Counts:
    """Read the numbered inputs of each kind; a hang or an allocation counts where it comes twice.

    Args:
        seconds: that an input may take.
        until: when to stop, by ``time.monotonic()``.
    """
    counts, lock = Counts(), threading.Lock()
    parts = {
        kind: [range(first, min(first + CHUNK, of.stop)) for first in range(of.start, of.stop, CHUNK)]
        for kind, of in numbers.items()
    }
    chunks: queue.SimpleQueue[tuple[str, range]] = queue.SimpleQueue()
    for turn in range(max(map(len, parts.values()), default=0)):  # in turns, so that a short run has seen them all
        for kind, of in parts.items():
            if turn < len(of):
                chunks.put((kind, of[turn]))

    def serve() -> None:
        with _Worker(kinds, seed, seconds) as worker:
            while time.monotonic() < until:
                try:
                    kind, chunk = chunks.get_nowait()
                except queue.Empty:
                    return
                for number, what, text in list(worker.outcomes(kind, chunk)):
                    if what in ("hang", "allocation"):
                        ((_, what, text),) = worker.outcomes(kind, range(number, number + 1))
                    with lock:
                        counts.add(kind, what)
                        if what in FOUND:
                            counts.findings.append(Finding(kind, seed, number, what, text))
                            on_finding(counts.findings[-1])

    with ThreadPoolExecutor(processes) as servers:
        for served in [servers.submit(serve) for _ in range(processes)]:
            served.result()
    return counts


class _Worker:
    """A process that reads inputs; another takes its place where one of them ends it."""

    def __init__(self, kinds: Mapping[str, Kind], seed: int, seconds: float) -> None:
        self._kinds, self._seed, self._seconds = kinds, seed, seconds
        self._context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._process: Any = None
        self._started = 0

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._folder.cleanup()

    def _start(self) -> None:
        self._started += 1
        folder = Path(self._folder.name, str(self._started))
        folder.mkdir()
        self._trace = folder / "trace"
        self._connection, other = self._context.Pipe()
        arguments = (dict(self._kinds), self._seed, folder, other)
        self._process = self._context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        other.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def outcomes(self, kind: str, numbers: range) -> Iterator[tuple[int, str, str]]:
        """Number, outcome and text of each input, as they come."""
        rest = list(numbers)
        while rest:
            if self._process is None:
                self._start()
            try:
                self._connection.send((kind, rest[0], numbers.stop))
                self._computed: float = self._connection.recv()  # once it is ready
                while rest:
                    what, text, self._computed = self._answer()
                    yield rest.pop(0), what, text
            except TimeoutError:
                os.kill(self._process.pid, signal.SIGUSR1)  # which writes where it is
                self._connection.poll(_LAST_WORDS)
                self._end()
                yield rest.pop(0), "hang", self._trace.read_text(errors="replace")
            except (EOFError, OSError):
                self._process.join()
                text = self._trace.read_text(errors="replace") or f"the process ended with {self._process.exitcode}"
                self._process = None
                yield rest.pop(0), "crash", text

    def _answer(self) -> tuple[str, str, float]:
        """The outcome of the input that is read now, and the seconds computed so far; TimeoutError where it hangs.

        Seconds are those of computing, for the machine may have more to do; but of an input that waits none pass.
        """
        began, statistics = time.monotonic(), Path(f"/proc/{self._process.pid}/stat")
        while not self._connection.poll(self._seconds / 10):
            ticks = sum(map(int, statistics.read_text().rpartition(")")[2].split()[11:13]))
            waited = time.monotonic() - began > _WAITS * self._seconds
            if waited or ticks / os.sysconf("SC_CLK_TCK") - self._computed > self._seconds:
                raise TimeoutError
        answer: tuple[str, str, float] = self._connection.recv()
        return answer


def _work(kinds: dict[str, Kind], seed: int, folder: Path, connection: Connection) -> None:
    """Read inputs for as long as there are any; their outcomes go into the connection."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_DISABLE_TELEMETRY="1", COLUMNS="80")
    os.environ.pop("SIMCLRSEG_DEBUG", None)
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    trace = open(folder / "trace", "w")  # noqa: SIM115
    faulthandler.register(signal.SIGUSR1, trace)
    for descriptor in (1, 2):  # what libraries write there themselves
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    faulthandler.enable(trace)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _serve(kinds, seed, folder, connection)
    except Exception:  # of the harness itself
        traceback.print_exc(file=trace)
        trace.flush()
        raise


def _serve(kinds: dict[str, Kind], seed: int, folder: Path, connection: Connection) -> None:
    sources: dict[str, Source] = {}
    while True:
        try:
            kind, first, stop = connection.recv()
        except EOFError:
            return
        os.makedirs(folder / kind, exist_ok=True)
        os.chdir(folder / kind)
        if kind not in sources:
            sources[kind] = kinds[kind].source(folder / kind)
            _limit_addresses()
        connection.send(time.process_time())
        for number in range(first, stop):
            os.chdir(folder / kind)
            given = sources[kind].make(Random(f"{seed}/{kind}/{number}"))
            connection.send((*_outcome(sources[kind], given), time.process_time()))


def _limit_addresses() -> None:
    with suppress(OSError, ValueError):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESSES, resource.RLIM_INFINITY))


def _outcome(source: Source, given: Any) -> tuple[str, str]:
    before = _memory(reset=True)
    code, out, err, text = as_command(lambda: source.read(given))
    if text:
        return "traceback", text
    taken = _memory() - before
    if taken > EXTRA and taken > EXTRA + source.needed(given):
        return "allocation", f"{taken / 1e6:.0f} MB; {err}"
    if wrong := _wrong_message(code, out, err):
        return "message", f"{wrong}\n{err[:1000]!r}"
    return ("refused" if code else "accepted"), ""


def as_command(read: Callable[[], object]) -> tuple[int, str, str, str]:
    """Exit code, what was printed on stdout and stderr, and a traceback if there is one, of a call as a command."""
    from simclrseg.cli import app

    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    code, text = 0, ""
    with (
        mock.patch.object(sys, "stdout", streams[0]),
        mock.patch.object(sys, "stderr", streams[1]),
        mock.patch.object(app, "app", side_effect=lambda *_, **__: read()),
        warnings.catch_warnings(record=True) as said,
    ):
        warnings.simplefilter("always")
        try:
            app.main([])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            text = traceback.format_exc(limit=_FRAMES)
    if said and not text:
        text = "".join(
            f'File "{one.filename}", line {one.lineno}\n{one.category.__name__}: {one.message}\n' for one in said
        )
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams)  # type: ignore[attr-defined]
    return code, out, err, text


def _wrong_message(code: int, out: str, err: str) -> str:
    """What is wrong with a command's end; empty where nothing is."""
    lines = err.rstrip("\n").split("\n") if err else []
    errors = [line for line in lines if line.startswith("error: ")]
    if code not in range(4):
        return f"exit code {code}"
    if code and len(errors) != 1:
        return f"{len(errors)} lines of an error"
    if errors and errors[0] != lines[-1]:
        return "lines below the error"
    if _CONTROL.search(err) or _CONTROL.search(out):
        return "control characters"
    if max(map(len, lines), default=0) > LONGEST:
        return f"a line of {max(map(len, lines)):,} characters"
    return ""


def _memory(*, reset: bool = False) -> int:
    """The most bytes of memory that this process has had, since the last ``reset`` where the system can forget."""
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
