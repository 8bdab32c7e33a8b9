"""Other machines: systems, drives, homes and folders that ours is not, by stand-ins where we have none of them."""

from __future__ import annotations

import ast
import builtins
import errno
import io
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

import simclrseg
from simclrseg.cli.app import main
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.drawn import drawn_set
from simclrseg.data.datasets.locate import data_root, open_dataset
from simclrseg.errors import DataError, OutputError, RunError, UsageError
from simclrseg.exporters.weights import export_weights
from simclrseg.inference.inputs import find_images
from simclrseg.inference.jobs import plan_outputs
from simclrseg.models.weights import read_weights
from simclrseg.runs.claim import claim, lock
from simclrseg.runs.lookup import find_pretraining, find_run, newest_run
from simclrseg.runs.run import finish
from simclrseg.system import distributed
from simclrseg.system.files import write_text
from simclrseg.system.signals import terminable
from simclrseg.system.surroundings import check_loopback, check_surroundings
from tests.exporters.small import described, small

TREE = Path(simclrseg.__file__).parents[1]
SOURCES = sorted((TREE / "simclrseg").rglob("*.py"))
POSIX_MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    *("fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getsid"),
    *("getuid", "initgroups", "killpg", "mkfifo", "mknod", "nice", "openpty", "pathconf", "posix_fadvise"),
    *("posix_fallocate", "posix_spawn", "pread", "pwrite", "register_at_fork", "sched_getaffinity"),
    *("sched_setaffinity", "sendfile", "setpgid", "setsid", "setuid", "statvfs", "fstatvfs", "sync", "sysconf"),
    *("tcgetpgrp", "uname", "wait3", "wait4", "waitid", "chown", "fchmod", "fchown", "lchown", "O_DIRECTORY"),
}
"""What Windows lacks of ``os``."""
NOT_EVERYWHERE = {*POSIX_MODULES, "msvcrt", "winreg"}


@cache
def trees() -> list[tuple[str, ast.Module]]:
    """The package's files that have anything to do with what a system may lack."""
    words = rf"\b(os\.({'|'.join(POSIX_NAMES)})|import ({'|'.join(NOT_EVERYWHERE)})|open|read_text|write_text)\b"
    texts = ((str(path.relative_to(TREE)), path.read_text(encoding="utf-8")) for path in SOURCES)
    return [(name, ast.parse(text)) for name, text in texts if re.search(words, text)]


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, Any, list[ast.AST]]]:
    """Each node of a kind: where it stands, itself, and those around it, the nearest first."""
    for name, tree in trees():
        around = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
        for node in filter(lambda one: isinstance(one, kinds), around):
            above = [one := around[node]]
            while one := around.get(one):
                above.append(one)
            yield f"{name}:{node.lineno}", node, above


def prepared_for(above: list[ast.AST], *errors: str) -> bool:
    """Whether code is tried for one of the errors, or asks first whether there is what it takes."""
    return any(
        (isinstance(one, ast.Try) and any(error in ast.unparse(one.handlers[0].type or one) for error in errors))
        or (
            isinstance(one, ast.If | ast.IfExp)
            and any(word in ast.unparse(one.test) for word in ("hasattr", "platform"))
        )
        for one in above
    )


def test_modules_that_a_system_may_lack_are_imported_where_that_does_no_harm():
    found = {}
    for place, node, above in nodes(ast.Import, ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
        if NOT_EVERYWHERE.intersection(names):
            second = any(isinstance(one, ast.ExceptHandler) for one in above)  # where the first was not there
            found[place] = second or prepared_for(above, "ImportError")
    assert found and all(found.values()), found


def test_functions_that_windows_lacks_are_asked_for_first():
    bare = [
        place
        for place, node, above in nodes(ast.Attribute)
        if isinstance(node.value, ast.Name)
        and (node.value.id == "os" and node.attr in POSIX_NAMES)
        and not prepared_for(above, "AttributeError")
    ]
    assert not bare


def test_every_text_file_is_read_and_written_in_an_encoding_of_ours_and_not_the_systems():
    """Windows' own is none that knows all letters, and that of LANG=C knows those of English."""
    bare = []
    for place, node, _ in nodes(ast.Call):
        called = ast.unparse(node.func)
        given = [ast.unparse(word) for word in node.args]
        if called == "open":
            text, encoding_at = "b" not in "".join(given[1:2]), 3
        elif called.endswith(".open"):  # a path's own, where it is given a mode
            text, encoding_at = bool(re.fullmatch(r"'[rwax+t]+'", "".join(given[:1]))), 2
        else:
            text, encoding_at = called.endswith((".read_text", ".write_text")), called.endswith(".write_text")
        if text and len(given) <= encoding_at and not any(word.arg == "encoding" for word in node.keywords):
            bare.append(f"{place} {ast.unparse(node)}")
    assert not bare


@pytest.fixture
def posix_only_is_missing(monkeypatch) -> None:
    for name in POSIX_NAMES:
        monkeypatch.delattr(os, name, raising=False)
    for name in POSIX_MODULES:
        monkeypatch.setitem(sys.modules, name, None)


def test_predict_does_without_what_windows_lacks(make_model, tmp_path, posix_only_is_missing, capsys):
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((40, 60, 3), 200, np.uint8))
    model = make_model()
    with pytest.raises(SystemExit) as end:
        main(["predict", str(tmp_path / "photo.png"), "-o", str(tmp_path / "mask.png"), "--model", str(model)])
    assert end.value.code == 0, capsys.readouterr().err
    assert (cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED) == 255).all()


@pytest.fixture
def locks_of_windows(monkeypatch) -> None:
    """Single bytes of a file are locked, from where its handle stands, and nobody else reads or locks them."""
    locked: dict[tuple[int, int], int] = {}

    def locking(descriptor: int, mode: int, count: int) -> None:
        place = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if locked.setdefault(place, descriptor) != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))


def test_a_run_has_one_writer_on_windows_too(tmp_path, locks_of_windows):
    run = claim(tmp_path, "pretrain", "x")
    with (
        lock(run),
        pytest.raises(RunError, match=f"is being written by process {os.getpid()}: wait for it"),
        lock(run),
    ):
        pass


def test_what_is_synced_is_open_for_writing_which_windows_asks_for(tmp_path, monkeypatch):
    import fcntl

    synced = []

    def fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "b")
    assert synced and (tmp_path / "a.txt").read_text() == "b"


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system does not say what is mapped")
def test_no_file_is_moved_or_deleted_while_it_is_mapped(tmp_path, monkeypatch):
    """As Windows has it, where weights that were read from a file are the file."""

    def refuse_mapped(name: str) -> None:
        real = getattr(os, name)

        def careful(*paths, **options):
            mapped = Path("/proc/self/maps").read_text(errors="replace")
            if held := [path for path in paths if f" {os.path.realpath(path)}\n" in mapped]:
                raise PermissionError(errno.EACCES, "The process cannot access the file", str(held[0]))
            return real(*paths, **options)

        monkeypatch.setattr(os, name, careful)

    for name in ("replace", "rename", "unlink", "remove"):
        refuse_mapped(name)
    path = tmp_path / "model.safetensors"
    for seed in (0, 1):  # the second takes the first's place
        export_weights(small(1, seed=seed), path, described())
    tensors, _ = read_weights(path)
    assert all(torch.equal(tensors[key], value) for key, value in small(1, seed=1).state_dict().items())
    with pytest.raises(PermissionError):
        os.replace(path, tmp_path / "other")  # it is mapped now: the stand-in sees it


@pytest.mark.parametrize("name", ["con", "NUL", "aux.png", "Com1", "lpt9.a.b", "pets."])
def test_a_run_has_no_name_that_windows_keeps_for_itself(tmp_path, monkeypatch, name):
    assert claim(tmp_path / "elsewhere", "pretrain", name).name == name
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="cannot be a folder's on Windows: choose another") as error:
        claim(tmp_path, "pretrain", name)
    assert error.value.option == "name"
    assert not (tmp_path / "pretrain").exists()


@pytest.mark.parametrize("name", ["console", "auxiliary", "com10", "nul-2", "v1.con"])
def test_names_that_only_look_like_these_are_taken(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sys, "platform", "win32")
    assert claim(tmp_path, "pretrain", name).name == name


@pytest.fixture
def drives(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Two folders that stand for drives of Windows, between which there is no common path."""
    both = tmp_path / "c", tmp_path / "d"
    common, split = os.path.commonpath, os.path.splitdrive

    def drive(path: object) -> Path | None:
        return next((one for one in both if Path(path).is_relative_to(one)), None)

    def commonpath(paths):
        paths = list(paths)
        if len({*map(drive, paths)}) > 1:
            raise ValueError("Paths don't have the same drive")
        return common(paths)

    def relpath(path, start):
        raise AssertionError("Windows has no way from drive to drive")

    def splitdrive(path):
        there = drive(path)
        return (str(there), str(path)[len(str(there)) :]) if there else split(path)

    for name, stand_in in (("commonpath", commonpath), ("relpath", relpath), ("splitdrive", splitdrive)):
        monkeypatch.setattr(os.path, name, stand_in)
    for one in both:
        one.mkdir()
        cv2.imwrite(str(one / "photo.png"), np.full((40, 60, 3), 200, np.uint8))
    return both


def test_photos_on_two_drives_need_a_folder_for_the_file_of_all(drives):
    photos = find_images([str(one / "photo.png") for one in drives])
    with pytest.raises(UsageError, match="the photos lie on several drives: name a folder with -o"):
        plan_outputs(photos, {"coco": ".json"}, one=False)


def test_labels_on_another_drive_name_the_whole_path_of_the_photo(drives, make_model, capsys):
    here, there = drives
    with pytest.raises(SystemExit) as end:
        main(["predict", str(here / "photo.png"), "-o", str(there), "--as", "labelme", "--model", str(make_model())])
    assert end.value.code == 0, capsys.readouterr().err
    assert yaml.safe_load((there / "photo.json").read_text())["imagePath"] == (here / "photo.png").as_posix()


def test_a_set_of_yolo_may_lie_on_another_drive_than_the_file_that_lists_it(drives):
    here, there = drives
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (there / kind / part).mkdir(parents=True)
        cv2.imwrite(str(there / "images" / part / f"{part}.png"), np.full((40, 60, 3), len(part), np.uint8))
        (there / "labels" / part / f"{part}.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    lists = {"path": str(there), "train": "images/train", "val": "images/val", "names": ["leaf"]}
    (here / "data.yaml").write_text(yaml.safe_dump(lists))
    found = drawn_set(here / "data.yaml", DatasetOptions(masks=True))
    assert found is not None
    assert sorted(found.keys) == ["train/train.png", "val/val.png"]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("other", ["Küche.jpg", unicodedata.normalize("NFD", "küche.jpg")])
def test_results_whose_names_a_system_cannot_tell_apart_are_refused(tmp_path, monkeypatch, platform, other):
    photos = []
    for folder, name in (("a", "küche.jpg"), ("b", other)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "photo.png"), np.zeros((8, 8, 3), np.uint8))
        (tmp_path / folder / "photo.png").rename(tmp_path / folder / name)
        photos.append(str(tmp_path / folder / name))
    found = find_images(photos)
    assert len(plan_outputs(found, {"mask": ".png"}, str(tmp_path / "out"), one=False)) == 2
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(UsageError, match=r"would both be written to .*: rename one"):
        plan_outputs(found, {"mask": ".png"}, str(tmp_path / "out"), one=False)


def test_processes_of_windows_meet_without_libuv(monkeypatch):
    asked = []

    def rendezvous(address, timeout):
        asked.append(os.environ.get("USE_LIBUV"))
        yield None, 0, 2

    monkeypatch.setattr("simclrseg.system.distributed.rendezvous", rendezvous)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("USE_LIBUV", "1")  # so that it is as before in the end
    monkeypatch.delenv("USE_LIBUV")
    for platform in ("linux", "win32"):
        with monkeypatch.context() as there:
            there.setattr(sys, "platform", platform)
            distributed.meet()
        distributed.dismiss()
    assert asked == [None, "0"]


def test_a_process_that_waits_for_others_can_be_ended(monkeypatch):
    """It waits in C++, for up to two hours, and what Python would do of a signal waits with it."""
    seen = []

    def rendezvous(address, timeout):
        seen.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)))
        yield None, 0, 2

    monkeypatch.setattr("simclrseg.system.distributed.rendezvous", rendezvous)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # which may be ignored, as in the background
    try:
        with terminable():
            before = signal.getsignal(signal.SIGTERM)
            distributed.meet()
            assert signal.getsignal(signal.SIGTERM) is before != signal.SIG_DFL
        distributed.dismiss()
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert seen == [signal.SIG_DFL, signal.SIG_DFL]


def test_a_reader_that_has_gone_is_no_bug_on_windows(monkeypatch, capsys):
    def write(config, progress):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("simclrseg.commands.pull.pull", write)
    with pytest.raises(OSError, match="Invalid argument"):
        main(["pull"])
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as end:
        main(["pull"])
    assert (end.value.code, capsys.readouterr().err) == (1, "")


def refused(words: list[str], capsys) -> str:
    """The one line of a command that cannot work, without its beginning."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


@pytest.mark.skipif(os.name != "posix", reason="a folder that somebody is in cannot be removed there")
@pytest.mark.parametrize("words", [["pull"], ["predict", "photo.png"], ["pretrain", "shapes"], ["evaluate"]])
def test_a_folder_that_was_removed_under_the_command_is_one_line(tmp_path, monkeypatch, capsys, words):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    line = "the current folder cannot be read (No such file or directory): cd to one that is there"
    assert refused(words, capsys) == line


def test_where_nothing_temporary_can_be_written_it_is_one_line(monkeypatch, capsys):
    resource = pytest.importorskip("resource")

    def draw(config, progress):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            tempfile.gettempdir()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("simclrseg.commands.pull.pull", draw)
    assert refused(["pull"], capsys) == "no folder for temporary files can be written: set TMPDIR to one that can"


@pytest.mark.parametrize(("command", "fits"), [("pretrain", False), ("evaluate", False), ("predict", True)])
def test_without_docstrings_only_what_needs_none_is_done(monkeypatch, command, fits):
    monkeypatch.setattr("simclrseg.system.surroundings.sys", SimpleNamespace(flags=SimpleNamespace(optimize=2)))
    if fits:
        assert check_surroundings(command) is None
        return
    with pytest.raises(UsageError, match=r"PYTHONOPTIMIZE=2 take docstrings away.*: run without them"):
        check_surroundings(command)
    monkeypatch.setattr("simclrseg.system.surroundings.sys", SimpleNamespace(flags=SimpleNamespace(optimize=1)))
    check_surroundings(command)


@pytest.mark.parametrize(("rank", "processes"), [("x", "2"), ("0", "two"), ("2", "2"), ("3", None), ("-1", "2")])
def test_a_process_that_is_none_of_several_does_not_leave_the_work_to_others(monkeypatch, capsys, rank, processes):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("WORLD_SIZE", processes)
    line = refused(["pull"], capsys)
    assert line.startswith(f"RANK is '{rank}' and WORLD_SIZE") and line.endswith("start the processes with torchrun")


def test_a_machine_that_does_not_reach_itself_is_told_before_processes_start(monkeypatch):
    check_loopback()

    def refuse(*_, **__):
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1 \(Cannot assign.*: start the loopback") as error:
        check_loopback()
    assert error.value.option == "devices"


@pytest.fixture
def close(monkeypatch) -> Callable[[Path], None]:
    """Closes a folder to everybody, which chmod does not to root."""
    closed: list[Path] = []

    def refusing(function):
        def asked(path, *args, **options):
            if isinstance(path, str | os.PathLike) and any(one in Path(path).parents for one in closed):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *args, **options)

        return asked

    for module, name in ((builtins, "open"), (io, "open"), (os, "stat")):
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))
    return closed.append


@pytest.mark.parametrize("ask", ["by name", "by folder", "the newest", "as a start"])
def test_another_users_run_is_no_missing_run(tmp_path, close, ask):
    """Else a published backbone of the same name would be taken in its place, or the advice were to train again."""
    run = claim(tmp_path, "pretrain", "pets")
    write_text(run.folder / "backbone.safetensors", "")
    finish(run)

    def find():
        if ask == "the newest":
            return newest_run(tmp_path, "pretrain", holding="backbone.safetensors", remedy="train one")
        if ask == "as a start":
            return find_pretraining(tmp_path, "pets")
        return find_run(tmp_path, "pretrain", "pets" if ask == "by name" else str(run.folder))

    assert find() == run
    close(run.folder)
    with pytest.raises(RunError, match=r"pets cannot be read \(Permission denied\): ask its owner for access") as error:
        find()
    assert error.value.path == run.folder


@pytest.fixture
def nobody(monkeypatch) -> None:
    """A user whom the system does not know, without HOME, as in many a container."""
    for name in ("HOME", "USERPROFILE", "HOMEPATH", "XDG_CACHE_HOME", "SIMCLRSEG_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654, raising=False)


def test_without_a_home_it_is_said_what_stands_in_for_it(nobody, monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="no home folder for what is kept: set HOME, or XDG_CACHE_HOME"):
        data_root()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_root() == tmp_path / "simclrseg" / "data"


@pytest.mark.parametrize("words", [["pretrain", "--config", "~nobody_there/x.yaml"], ["pretrain", "~nobody_there/x"]])
def test_the_home_of_nobody_is_a_folder_that_is_not_there(capsys, words):
    assert "~nobody_there/x" in refused(words, capsys)


def test_a_folder_that_is_not_there_is_no_misspelt_name(monkeypatch):
    monkeypatch.setattr(os, "sep", "\\")  # on Windows both are typed
    with pytest.raises(DataError, match="photos/x: no such folder"):
        open_dataset("photos/x")


def test_onnx_runtime_tells_nobody_how_it_is_used(tmp_path):
    """From 1.31 on it keeps a number for the machine in the home folder, and sends events to its maker."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(TREE)}
    code = "import simclrseg.inference.session, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_be_written_is_not_told_by_those_who_draw():
    import simclrseg.charts.plots  # noqa: F401

    assert not logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.WARNING)


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_no_word_of_the_help_is_cut_on_a_narrow_terminal(monkeypatch, capsys, columns):
    pages = []
    for width in (80, columns):
        monkeypatch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit):
            main(["predict", "--help"])
        pages.append(capsys.readouterr().out)
    wide, narrow = ("".join(re.findall(r"[\w<>|=\[\]*/'.-]", page)) for page in pages)
    assert max(map(len, pages[1].splitlines())) <= columns
    assert "…" not in pages[1] and sorted(narrow) == sorted(wide)


def test_the_workflow_runs_the_readmes_tests_on_three_systems_with_the_versions_of_python_that_are_promised():
    text = (TREE / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    job = workflow["jobs"]["tests"]
    matrix = job["strategy"]["matrix"]
    assert [system.partition("-")[0] for system in matrix["system"]] == ["ubuntu", "macos", "windows"]
    lowest = project["requires-python"].removeprefix(">=")
    stated = [name.rpartition(" ")[2] for name in project["classifiers"] if "Python :: 3." in name]
    assert stated == ["3.11", "3.12", "3.13"]
    assert lowest == stated[0] and matrix["python"] == [stated[0], stated[-1]]
    assert workflow["permissions"] == {"contents": "read"} and job["timeout-minutes"] <= 120
    assert workflow["concurrency"]["cancel-in-progress"] is True
    steps = [step for each in workflow["jobs"].values() for step in each["steps"]]
    pinned = [step["uses"].rpartition("@v")[2] for step in steps if "uses" in step]
    assert pinned and all(version.isdecimal() for version in pinned)
    ran = "\n".join(step.get("run", "") for step in steps)
    readme = (TREE / "README.md").read_text(encoding="utf-8")
    assert next(line for line in readme.splitlines() if "&& pytest" in line).partition("&& ")[2] in ran
    lines = re.findall(r'grep -m 1 "\^(.*?)" README\.md', ran)
    assert len(lines) == 2 and all(re.search(rf"^{line}.*; pip install --no-deps \.$", readme, re.M) for line in lines)
    assert "python -m build" in ran and "twine check --strict" in ran
    assert text.startswith("# Not run by us") and "workflows/tests.yml" in readme


def test_a_path_too_long_for_windows_is_called_so_and_not_missing(tmp_path, monkeypatch):
    """Windows says of it that there is no such path."""

    def refuse(**place):
        raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match=r"its path is longer than the 259 characters that Windows takes\): choose"):
        write_text(tmp_path / ("x" * 260) / "test.json", "")
    with pytest.raises(OutputError, match=r"cannot find the path specified\): choose another folder"):
        write_text(tmp_path / "test.json", "")
