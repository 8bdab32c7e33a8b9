"""Free memory as Linux tells it, with and without a container's limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simclrseg.knobs.sections import Hardware
from simclrseg.system.hardware import available_memory, cpu_cores
from simclrseg.training.machine import prepare_machine

GB = 1 << 30


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {8 * GB // 1024} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_it_is_what_the_system_calls_available(tmp_path):
    assert available_memory(system(tmp_path, {})) == 8 * GB
    assert available_memory(system(tmp_path, {"proc/self/cgroup": "0::/user\n"})) == 8 * GB


@pytest.mark.parametrize("group", ["", "user/job/"])
def test_a_containers_limit_counts_less_what_it_has_used(tmp_path, group):
    files = {
        "proc/self/cgroup": "4:cpu:/x\n0::/user/job\n",
        f"sys/fs/cgroup/{group}memory.max": f"{4 * GB}\n",
        f"sys/fs/cgroup/{group}memory.current": f"{3 * GB}\n",
        f"sys/fs/cgroup/{group}memory.stat": f"anon {GB}\ninactive_file {GB}\n",
    }
    assert available_memory(system(tmp_path, files)) == 2 * GB


def test_a_group_without_a_limit_takes_nothing_away(tmp_path):
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"}
    assert available_memory(system(tmp_path, files)) == 8 * GB


def test_version_1_of_control_groups_is_read_too(tmp_path):
    files = {
        "proc/self/cgroup": "4:memory:/docker/abc\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{6 * GB}",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{2 * GB}",
        "sys/fs/cgroup/memory/memory.stat": f"cache 1\ntotal_inactive_file {GB}\n",
    }
    assert available_memory(system(tmp_path, files)) == 5 * GB


def test_this_system_has_some():
    free = available_memory()
    assert free is None or free > 0


def test_elsewhere_it_is_half_of_what_there_is(tmp_path):
    assert available_memory(tmp_path) > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system grants no single cores")
def test_only_the_cores_that_are_granted_count():
    granted = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(granted)})
    try:
        assert cpu_cores() == 1
        assert prepare_machine(Hardware(device="cpu")).workers == 1
    finally:
        os.sched_setaffinity(0, granted)
    assert cpu_cores() == len(granted)
