"""`--devices N`: the command again, in N processes, which end with this one, and with the first that fails."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from simclrseg.cli import console
from simclrseg.errors import UsageError
from simclrseg.system.signals import asking_to_end, handled
from simclrseg.system.surroundings import check_loopback

if TYPE_CHECKING:
    from subprocess import Popen

LONGEST_SAVE = 120  # seconds that processes have to save their state when a signal comes
FAREWELL = 15  # seconds that the others have to say why they end when one has failed
KILLED = 3  # the same where it was killed: they wait for one that is gone
TICK = 0.1  # seconds between two looks
LAUNCHER = "SIMCLRSEG_LAUNCHER"
"""Environment variable of processes that end with the one that has started them: its number."""


def launch(devices: int | None) -> None:
    """Run this command line in as many processes and leave with their exit code; return where there is no need.

    One of several processes, of this or of torchrun, goes on: its number of processes holds. It ends with whoever has
    started it, and so does a training of ``--vary``.
    """
    _end_with_launcher()
    if "WORLD_SIZE" in os.environ:
        return
    if devices in (None, 1):
        return
    assert devices is not None
    check_loopback()
    for word in sys.argv[1:]:
        path = word.rpartition("=")[2]
        if os.path.exists(path) and Path(path).is_fifo():  # a word may be longer than any path
            raise UsageError(
                f"{path} is a pipe, which {devices} processes cannot all read",
                "save it as a file",
                path=path,
                option="devices",
                value=devices,
            )
    sys.exit(_run(devices))


def _run(devices: int) -> int:
    """Start the processes, hand signals on to them, and give the exit code when all have ended."""
    import socket  # which no other command waits for
    import subprocess

    from simclrseg.system.hardware import cpu_cores

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "OMP_NUM_THREADS": str(max(1, cpu_cores() // devices)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # else torch tells at length of each that is gone
        **os.environ,
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        LAUNCHER: str(os.getpid()),
    }
    command = [sys.executable, "-m", "simclrseg", *sys.argv[1:]]
    processes: list[Popen[bytes]] = []
    with handed_on(processes) as came:
        try:
            for rank in map(str, range(devices)):
                own = {**shared, "RANK": rank, "LOCAL_RANK": rank}
                # in a session of its own, or a terminal would send each Ctrl-C a second time
                processes.append(subprocess.Popen(command, env=own, start_new_session=True))
            codes = _codes(processes, came)
        finally:  # none is left behind
            for process in processes:
                process.kill()
                process.wait()
    if came and any(codes):  # else they were done all the same
        return max(128 + came[0], *codes)
    if killed := [rank for rank, code in enumerate(codes) if code < 0]:
        number = -codes[killed[0]]
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        why = " (often for want of memory)" if name == "SIGKILL" else ""
        console.print_error(
            f"error: process {killed[0] + 1} of {devices} was ended by {name}{why}, and the others with it: "
            "`--resume RUN` goes on from the last saved state, where there is one"
        )
    return 1 if killed else max(codes)


def _codes(processes: list[Popen[bytes]], came: list[int]) -> list[int]:
    """Exit codes of the processes when all have ended, or one has failed and the others' time is over: theirs are 0."""
    failed_at: float | None = None
    while True:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if failed:
            failed_at = failed_at or time.monotonic()
            patience = LONGEST_SAVE if came else KILLED if min(failed) < 0 else FAREWELL
        if None not in codes or (failed_at and time.monotonic() > failed_at + patience):
            return [code or 0 for code in codes]
        time.sleep(TICK)


@contextmanager
def handed_on(processes: Sequence[Popen[Any]]) -> Iterator[list[int]]:
    """Hand the signals that end a command on to processes; the list holds those that came."""
    came: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for process in processes:
            with suppress(OSError, ValueError):  # Windows sends a Ctrl-C itself, and has no other signal to send
                process.send_signal(number)

    with handled(hand_on, *asking_to_end()):
        yield came


def _end_with_launcher() -> None:
    """Watch the process that has started this one, where that says so; save and end if it is gone."""
    parent = int(os.environ.get(LAUNCHER, 0)) or (os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else 0)
    if parent and os.name == "posix":  # elsewhere a parent's number stays when it has ended
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(10 * TICK)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LONGEST_SAVE)
    os.kill(os.getpid(), signal.SIGKILL)


def go_on_alone() -> None:
    """Of several processes, end all but the first: the command has nothing to share."""
    if int(os.environ.get("RANK", "0")):
        sys.exit(0)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        os.environ.pop(name, None)


def first_failure(code: int) -> tuple[bool, int]:
    """Whether of several processes this is the first that fails, and the exit code with which all end."""
    if "WORLD_SIZE" not in os.environ:
        return True, code
    from simclrseg.system import distributed

    return distributed.first_failure(code)
