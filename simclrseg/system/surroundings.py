"""What a command needs around it, asked before it begins."""

from __future__ import annotations

import os
import sys

from simclrseg.errors import UsageError

_WITHOUT_TORCH = ("predict", "pull")


def check_surroundings(command: str) -> None:
    """Make sure of a folder to be in, of docstrings where libraries need them, and of numbers of processes that fit."""
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the current folder cannot be read ({error.strerror})", "cd to one that is there", option=None
        ) from error
    rank, processes = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
        raise UsageError(  # else it would wait for others, or leave the work to them
            f"RANK is {rank!r} and WORLD_SIZE {processes!r} in the environment, which fits no process",
            "unset them, or start the processes with torchrun",
            option=None,
        )
    if sys.flags.optimize > 1 and command not in _WITHOUT_TORCH:
        raise UsageError(
            "python -OO and PYTHONOPTIMIZE=2 take docstrings away, which segmentation-models-pytorch builds on",
            "run without them; PYTHONOPTIMIZE=1 does no harm",
            option=None,
        )


def check_loopback() -> None:
    """Make sure that processes of this machine reach each other."""
    import socket  # which one process needs not wait for

    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=5),
        ):
            pass
    except OSError as error:
        raise UsageError(
            f"processes of this machine do not reach each other on 127.0.0.1 ({error.strerror or error})",
            "start the loopback interface with `ip link set lo up`, or leave out --devices",
            option="devices",
        ) from error
