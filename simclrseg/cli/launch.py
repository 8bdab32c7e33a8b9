"""`--devices N`: the command again, in N processes under torchrun, which ends as they end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from simclrseg.errors import UsageError
from simclrseg.system.signals import HANGUP
from simclrseg.system.surroundings import check_loopback

LONGEST_SAVE = 120  # seconds that processes have to save their state when a signal comes


def launch(devices: int | None) -> None:
    """Run this command line in as many processes and leave with their exit code; return where there is no need.

    A process that torchrun has started goes on: its number of processes holds.

    Raises:
        UsageError: if a word names a pipe, or this machine does not reach itself.
    """
    if devices in (None, 1) or "WORLD_SIZE" in os.environ:
        return
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
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser
    from torch.distributed.run import main as torchrun

    from simclrseg.system.hardware import cpu_cores

    logging.disable()  # torchrun's report of what the processes have said themselves
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_cores() // devices)))
    options = {"--nproc-per-node": str(devices), "--shutdown-timeout": str(LONGEST_SAVE)}
    if HANGUP is not None and signal.getsignal(HANGUP) == signal.SIG_IGN:  # nohup: torchrun would heed it all the same
        options["--signals-to-handle"] = "SIGTERM,SIGINT,SIGQUIT"
    known = get_args_parser().format_usage()  # torch 2.8 has the first only
    chosen = [word for option in options.items() if option[0] in known for word in option]
    try:
        torchrun(["--standalone", *chosen, "-m", "simclrseg", *sys.argv[1:]])
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        sys.exit(max(codes, default=1) if max(codes, default=1) > 0 else 1)  # negative where torchrun killed one
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
    sys.exit(0)


def go_on_alone() -> None:
    """Of the processes that torchrun has started, end all but the first: the command has nothing to share."""
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
