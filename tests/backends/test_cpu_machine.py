"""What the machine leaves to this process, read from folders made for the purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from camelid.backends.base import Memory
from camelid.backends.cpu.machine import default_threads, memory

GIB = 2**30


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def siblings(groups: list[str], cpus: int) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": groups[cpu] + "\n" for cpu in range(cpus)}


MEMORY = {"proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {8 * 2**20} kB\n"}


def test_threads_on_one_core_count_once(tmp_path: Path) -> None:
    root = lay_out(tmp_path, siblings(["0,4", "1,5", "2,6", "3,7"] * 2, 8))

    assert default_threads(root, set(range(8))) == 4
    assert default_threads(root, {0, 4}) == 1
    assert default_threads(root, {0, 5}) == 2


def test_a_machine_that_does_not_tell_its_cores_gets_a_thread_for_each_cpu(tmp_path: Path) -> None:
    assert default_threads(tmp_path, {0, 1, 2}) == 3


@pytest.mark.parametrize(("quota", "threads"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)])
def test_the_quota_of_any_group_above_counts(tmp_path: Path, quota: str, threads: int) -> None:
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/container\n",
            "sys/fs/cgroup/pod/cpu.max": quota + "\n",
            "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
        },
    )

    assert default_threads(root, set(range(8))) == threads


def test_the_first_version_of_cgroups_has_a_quota_too(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )

    assert default_threads(root, set(range(8))) == 3


def test_without_a_container_the_memory_is_the_machines(tmp_path: Path) -> None:
    assert memory(lay_out(tmp_path, MEMORY)) == Memory(16 * GIB, 8 * GIB)


def test_a_container_has_its_limit_less_what_it_uses_and_cannot_give_back(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        MEMORY
        | {
            "proc/self/cgroup": "0::/box\n",
            "sys/fs/cgroup/box/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/box/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/box/memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
        },
    )

    assert memory(root) == Memory(4 * GIB, 3 * GIB)


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_no_limit_is_no_limit(tmp_path: Path, limit: str) -> None:
    root = lay_out(
        tmp_path,
        MEMORY
        | {
            "proc/self/cgroup": "5:memory:/\n0::/\n",
            "sys/fs/cgroup/memory.max": limit,
            "sys/fs/cgroup/memory.current": "1",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": limit,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
        },
    )

    assert memory(root) == Memory(16 * GIB, 8 * GIB)


def test_this_machine_has_a_core_and_some_memory() -> None:
    assert default_threads() >= 1
    found = memory()
    assert 0 < found.available_bytes <= found.total_bytes
