"""One of several processes, or whoever has started them, is killed or fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
LAUNCHER = """
import signal, sys
from simclrseg.cli import launch
sys.executable, sys.argv = sys.argv[1], ["simclrseg", *sys.argv[2:]]
launch.FAREWELL = launch.KILLED = 1
if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
launch.launch(2)
"""
VARY = """
import sys
from simclrseg.cli.vary import vary
from simclrseg.config import CONFIGS
sys.executable, sys.argv = sys.argv[1], ["simclrseg", *sys.argv[2:]]
vary(CONFIGS["finetune"], {"config_file": None, "dataset": "shapes", "quiet": True}, ["seed=0,1"])
"""
TRAINING = """#!{python}
# a training of --vary: it says what it would cost, or that it is there, and saves when it is asked to
import os, signal, sys, time
from pathlib import Path
from simclrseg.cli.launch import launch
if "--dry-run" in sys.argv:
    print('{{"seconds": 1, "bytes": 1, "bytes_while_training": 1}}')
    sys.exit()
def save(number, frame):
    Path("saved0").write_text(signal.Signals(number).name)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
launch(None)
Path("new0").write_text(str(os.getpid()))
os.rename("new0", "pid0")
time.sleep(60)
"""
PROCESS = """#!{python}
# one of two processes: it says that it is there, and saves when it is asked to, as a training does
import os, signal, sys, time
from pathlib import Path
from simclrseg.cli.launch import launch
rank = os.environ["RANK"]
def save(number, frame):
    with open("saved" + rank, "a") as file:
        file.write(f"{{signal.Signals(number).name}} ")
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
launch(2)
if "fails" in sys.argv and rank == "1":
    sys.exit(3)
Path("new" + rank).write_text(str(os.getpid()))
os.rename("new" + rank, "pid" + rank)
time.sleep(60)
"""


class Started:
    """Two processes that were started by a third."""

    def __init__(self, folder: Path, *words: str, launcher: str = LAUNCHER, process: str = PROCESS) -> None:
        self.folder = folder
        script = folder / "process"
        script.write_text(process.format(python=sys.executable))
        script.chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
        self.launcher = subprocess.Popen(
            [sys.executable, "-c", launcher, str(script), *words],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pids: list[int] = []

    def all_there(self) -> None:
        files = [self.folder / f"pid{rank}" for rank in "01"]
        within(20, lambda: all(file.exists() for file in files))
        self.pids = [int(file.read_text()) for file in files]

    def ended(self, seconds: float = 10) -> tuple[int, list[str]]:
        """The launcher's exit code and lines when all have ended, the two others too."""
        _, errors = self.launcher.communicate(timeout=seconds)
        within(seconds, lambda: not any(map(is_there, self.pids)))
        return self.launcher.returncode, errors.splitlines()

    def saved(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("saved?"))]


def within(seconds: float, condition) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # one that nobody has waited for is not there either
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    started: list[Started] = []

    def begin(*words: str, **scripts: str) -> Started:
        started.append(Started(tmp_path, *words, **scripts))
        return started[0]

    yield begin
    for one in started:
        one.launcher.kill()
        for pid in filter(is_there, one.pids):
            os.kill(pid, signal.SIGKILL)
        one.launcher.communicate()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_is_told_of_in_one_line(start, victim: int) -> None:
    processes = start()
    processes.all_there()
    os.kill(processes.pids[victim], signal.SIGKILL)
    code, (line,) = processes.ended()
    assert code == 1
    assert line.startswith(f"error: process {victim + 1} of 2 was ended by SIGKILL") and "--resume RUN" in line


def test_a_killed_launcher_takes_its_processes_with_it_and_they_save(start) -> None:
    processes = start()
    processes.all_there()
    processes.launcher.kill()
    processes.ended()
    assert processes.saved() == ["SIGTERM ", "SIGTERM "]


def test_a_killed_vary_takes_its_training_with_it_and_it_saves(start) -> None:
    sweep = start(launcher=VARY, process=TRAINING)
    within(30, (sweep.folder / "pid0").exists)
    sweep.pids = [int((sweep.folder / "pid0").read_text())]
    sweep.launcher.kill()
    sweep.ended()
    assert sweep.saved() == ["SIGTERM"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_once_and_the_exit_code_is_that_of_the_processes(start, number: int) -> None:
    processes = start()
    processes.all_there()
    processes.launcher.send_signal(number)
    assert processes.ended() == (128 + number, [])
    assert processes.saved() == [f"{signal.Signals(number).name} "] * 2


def test_a_closed_terminal_stops_no_processes_under_nohup(start) -> None:
    processes = start("nohup")
    processes.all_there()
    processes.launcher.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert processes.launcher.poll() is None and all(map(is_there, processes.pids))


def test_a_process_that_fails_ends_one_that_waits_for_it_with_its_exit_code(start) -> None:
    processes = start("fails")
    within(20, (processes.folder / "pid0").exists)
    processes.pids = [int((processes.folder / "pid0").read_text())]
    assert processes.ended() == (3, [])
