"""A server in a process of its own, as a user starts it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Served:
    """`simclrseg predict --serve WORDS`, running in a folder."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self._said = folder, folder / "said"
        interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, and inherited
        try:
            with self._said.open("w") as said:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "simclrseg", "predict", "--serve", "--port", "0", "--device", "cpu", *words],
                    cwd=folder,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    text=True,
                )
        finally:
            signal.signal(signal.SIGINT, interrupt)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://"), self.said

    @property
    def said(self) -> str:
        return self._said.read_text()

    def end(self, signum: int) -> int:
        self.process.send_signal(signum)
        return self.process.wait(20)


@contextmanager
def served(folder: Path, *words: str) -> Iterator[Served]:
    server = Served(folder, *words)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()
