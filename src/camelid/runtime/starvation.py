"""How long a process has waited for a processor: what tells one that hangs from one that is not let run.

A thread that hangs sleeps or computes; only one that could run and is not let waits in the kernel's queue, and Linux
keeps count of that. Separate because it is the one question that is put to the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def waited_s(pid: int, proc: Path = PROC) -> float:
    """Return for how long the threads of a process have waited for a processor, all together; 0 where nobody counts.

    Format: Linux, Documentation/scheduler/sched-stats.rst, the second number of /proc/PID/schedstat, in nanoseconds.
    """
    return sum(_waited_ns(proc / str(pid) / "task")) / 1e9


def _waited_ns(tasks: Path) -> Iterator[int]:
    try:
        threads = list(tasks.iterdir())
    except OSError:  # another system, or the process is gone
        return
    for thread in threads:
        try:
            yield int((thread / "schedstat").read_text().split()[1])
        except (OSError, ValueError, IndexError):  # this thread has just ended, or the kernel counts nothing
            continue
