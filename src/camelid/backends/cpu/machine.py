"""What this process may use of the machine: the cores and the memory that affinity mask and container limits leave it.

Apart from the backend because it only reads small text files of the system. `root` stands in for / in tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..base import Memory

ROOT = Path("/")
UNLIMITED = 2**60  # bytes; version 1 of cgroups writes a number near 2^63 for "no limit"


def default_threads(root: Path = ROOT, cpus: set[int] | None = None) -> int:
    """Return how many threads compute fastest: one for each physical core in the affinity mask, within the CPU quota.

    Two threads on one core share its arithmetic and its path to memory; beyond a quota, all are stopped together.
    """
    allowed = _affinity() if cpus is None else cpus
    cores = {_core_of(root, cpu) for cpu in allowed}
    return max(1, min(len(cores), int(_quota(root))))


def memory(root: Path = ROOT) -> Memory:
    """Return the memory of the machine, or of the container if that is less; file cache counts as available."""
    total, available = _machine_memory(root)
    for folder in _cgroup_folders(root, "memory"):
        limit = _read_number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _read_number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is None or used is None or limit >= UNLIMITED:
            continue
        total = min(total, limit)
        available = min(available, max(0, limit - used + _reclaimable(folder)))
    return Memory(total, available)


def processor_name(root: Path = ROOT) -> str:
    """Return what the system calls the processor, empty where it says nothing."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "CPU part"):
            return value.strip()
    return ""


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _core_of(root: Path, cpu: int) -> str:
    """Return a name that the hardware threads of one core share."""
    siblings = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    return _read(siblings) or str(cpu)


def _quota(root: Path) -> float:
    """Return how many CPUs' worth of time the container may use."""
    quota = float("inf")
    for folder in _cgroup_folders(root, "cpu"):
        if text := _read(folder / "cpu.max"):
            limit, period = text.split()
        else:
            limit, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if limit.isdigit() and period.isdigit() and int(period):
            quota = min(quota, int(limit) / int(period))
    return min(quota, 1 << 20)


def _machine_memory(root: Path) -> tuple[int, int]:
    """Return the total and available bytes of the whole machine."""
    fields = dict(line.split(":", 1) for line in _read(root / "proc/meminfo").splitlines() if ":" in line)
    if "MemTotal" in fields and "MemAvailable" in fields:
        total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return total, available
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total, total


def _reclaimable(folder: Path) -> int:
    """Return the bytes of file cache that the container's memory counts as used, but gives back when asked."""
    fields = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
    return int(fields.get("inactive_file", fields.get("total_inactive_file", 0)))


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders with this process's limits: its own group and all that hold it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = base / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base))


def _read_number(*files: Path) -> int | None:
    """Return the number in the first file that holds one; `max` is none."""
    return next((int(text) for text in map(_read, files) if text.isdigit()), None)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
