"""Commands in processes of their own, which find PyTorch and the like imported already.

Importing those takes a command longer than most of what tests ask of it. A server imports them once and forks a process
for each command, which imports simclrseg itself, as it is installed.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory

TREE = Path(__file__).parents[1]
LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation_models_pytorch",
    "onnx",
    "matplotlib.figure",
)
"""What takes long, but for ONNX Runtime, pyarrow and OpenCV: they start threads, which a fork would lose."""

if "forkserver" in multiprocessing.get_all_start_methods():
    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(list(LIBRARIES))
else:  # on Windows each process imports everything
    _context = multiprocessing.get_context("spawn")


class Simclrseg:
    """`simclrseg WORDS`, running in a folder."""

    def __init__(self, *words: str, folder: Path, **environment: str) -> None:
        self._streams = TemporaryDirectory()
        self._out, self._err = (Path(self._streams.name, name) for name in ("out", "err"))
        arguments = (words, folder, {**os.environ, **environment}, self._out, self._err)
        self._process = _context.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def ended(self) -> bool:
        return self._process.exitcode is not None

    def wait(self, seconds: float = 600) -> CompletedProcess[str]:
        """Its exit code, negative where a signal ended it, and what it printed."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutExpired("simclrseg", seconds)
        printed = [path.read_text() if path.exists() else "" for path in (self._out, self._err)]
        self._streams.cleanup()
        return CompletedProcess("simclrseg", self._process.exitcode, *printed)


def _run(words: tuple[str, ...], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    others = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != TREE] + [str(TREE), *others]
    sys.argv = ["simclrseg", *words]
    from simclrseg.__main__ import main

    main()


def together(function: Callable[[Path], None], folder: Path, processes: int = 2) -> None:
    """Call a function in processes that train together, as torchrun starts them; all must end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        _context.Process(target=_call, args=(function, folder, {**shared, "RANK": str(rank)}))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0] * processes


def _call(function: Callable[[Path], None], folder: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    function(folder)
