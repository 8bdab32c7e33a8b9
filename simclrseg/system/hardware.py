"""Resources of the machine, asked of the system and not of torch or ONNX Runtime."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

from simclrseg.errors import OutOfMemory, SimclrsegError

# Where Linux keeps control groups: folder, limit, use, and the part of the use that gives way at once (files that were
# read lately). By their name in /proc/self/cgroup; version 2 has none.
_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}

# in the words of torch, of CUDA and its libraries, and of ONNX Runtime and OpenCV
_SHORTAGES = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "Failed to allocate", "bad_alloc")


def nvidia_gpu_is_there() -> bool:
    """Tell whether the driver shows an NVIDIA GPU to this process; a hidden one does not count."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/usr/lib/wsl/lib/libcuda.so.1").exists()


def cpu_cores() -> int:
    """Cores that this process may use: fewer than the machine has where a scheduler or ``taskset`` grants some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes of RAM that can be taken without swapping or passing a container's limit; None where nobody says.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    meminfo = root / "proc/meminfo"
    if meminfo.is_file():
        return max(0, min([_table(meminfo)["MemAvailable:"] * 1024, *_left_in_groups(root)]))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # macOS says at least how much there is
    except (AttributeError, ValueError, OSError):  # Windows
        return None


@contextmanager
def explained_shortage(doing: str, remedy: str) -> Iterator[None]:
    """Turn being out of memory, in whosever words, into an OutOfMemory of one line.

    Args:
        doing: what, with how many images at once, as "in training with micro-batch 4".
    """
    try:
        yield
    except SimclrsegError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _SHORTAGES):
            raise OutOfMemory(f"out of memory {doing}", remedy) from error
        raise


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes that the control groups of this process, from its own up to the topmost, have left of their limits."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in _GROUPS.keys() & controllers.split(","):
            base, limit, use, reclaimable = _GROUPS[name]
            own = Path(path.lstrip("/"))
            for group in (own, *own.parents):
                folder = root / base / group
                try:
                    most = int((folder / limit).read_bytes())
                    used = int((folder / use).read_bytes()) - _table(folder / "memory.stat").get(reclaimable, 0)
                except (OSError, ValueError):  # "max"; and in a container, groups of the host that cannot be seen
                    continue
                yield most - used


def _table(file: Path) -> dict[str, int]:
    """The first number of each line, by its first word."""
    rows = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
