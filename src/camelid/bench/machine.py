"""What a measurement was taken on: the processor, its memory, the system, how busy it was, and which Camelid.

Apart from the measuring because it only reads small text files of the system. Of the host's name and folders it takes
nothing: results are published.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from camelid import __version__

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Machine:
    """A machine in the words that decide its speed. `load` is the load average of a minute when it was looked at."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    load: float


def this_machine(root: Path = Path("/")) -> Machine:
    """Return what this process can see of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return Machine(_processor(root), cores, round(memory, 1), _system(), round(os.getloadavg()[0], 2))


def describe(machine: Machine) -> str:
    """Return one line about a machine."""
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:g} GiB, {machine.system}, "
        f"load {machine.load:g}"
    )


def version() -> str:
    """Return Camelid's version, and the commit when it runs from a checkout: `+` marks one with changes."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    if not commit:
        return __version__
    changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{__version__}, commit {commit}{changed}"


def command_line() -> str:
    """Return the command that runs now, with file names in place of paths."""
    words = ["camelid" if index == 0 else _without_folder(word) for index, word in enumerate(sys.argv)]
    return " ".join(words)


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _without_folder(word: str) -> str:
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{Path(value).name}" if value.startswith("/") else word


def _processor(root: Path) -> str:
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = dict(line.replace("\t", "").split(":", 1) for line in reversed(lines) if ":" in line)
    name = fields.get("model name", platform.processor() or platform.machine()).strip()
    if "model" in fields and "cpu family" in fields:  # a virtual machine's processor often has no name that says more
        steps = (fields[key].strip() for key in ("cpu family", "model", "stepping"))
        name += " (family {}, model {}, stepping {})".format(*steps)
    return name


def _system() -> str:
    return f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"


def _git(*arguments: str) -> str:
    """Return what git says of the checkout that this package is part of; nothing if it is in none."""
    root = PACKAGE.parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        said = subprocess.run(
            ("git", "-C", str(root), *arguments), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""
