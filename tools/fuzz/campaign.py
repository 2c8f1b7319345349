"""Runs a fuzz target many times and holds every run against the same rules.

A reader may accept a file, in which case the target holds what it read against another reader or a rule, or refuse it
with one of the target's errors. Any other exception is a failure, and so is a run that takes long, or a campaign whose
memory grows.
"""

from __future__ import annotations

import random
import re
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from camelid.errors import CamelidError, FormatError

MAX_SECONDS = 1.0  # of CPU time, for files of a few KiB; typical is under a millisecond
MAX_GROWTH_BYTES = 64 << 20
MAX_ADDRESS_SPACE_BYTES = 4 << 30  # a lying size that is believed ends in MemoryError here, not in swapping


@dataclass
class Report:
    """What a campaign saw."""

    runs: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    growth_bytes: int = 0


class Failure(Exception):
    """A run that broke the rules. Carries its number and its file."""

    def __init__(self, number: int, raw: bytes, reason: str) -> None:
        super().__init__(f"run {number}: {reason}")
        self.number = number
        self.raw = raw


def run_campaign(
    make: Callable[[random.Random], bytes],
    check: Callable[[Path], None],
    seed: int,
    runs: int,
    first: int = 0,
    refusals: tuple[type[CamelidError], ...] = (FormatError,),
) -> Report:
    """Make and check `runs` files, which `refusals` may refuse. Raises Failure at the first that breaks the rules."""
    report = Report()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed"
        before = 0
        for number in range(first, first + runs):
            raw = make(random.Random(f"{seed}:{number}"))
            _run_one(path, raw, number, check, report, refusals)
            if number == first + 100:  # by now everything is imported and warm
                before = _peak_bytes()
        report.growth_bytes = _peak_bytes() - before if before else 0
    if report.growth_bytes > MAX_GROWTH_BYTES:
        raise Failure(first, b"", f"memory grew by {report.growth_bytes} bytes over the campaign")
    return report


def _run_one(
    path: Path,
    raw: bytes,
    number: int,
    check: Callable[[Path], None],
    report: Report,
    refusals: tuple[type[CamelidError], ...],
) -> None:
    path.unlink(missing_ok=True)  # a new file, since views of the last one may still be mapped
    path.write_bytes(raw)
    started = time.process_time()
    try:
        check(path)
        report.accepted += 1
    except refusals as error:
        rule = error.violation.rule if isinstance(error, FormatError) else error.message
        report.refused[f"{type(error).__name__}: {_general(rule)}"] += 1
    except Exception as error:
        raise Failure(number, raw, f"{type(error).__name__}: {error}") from error
    spent = time.process_time() - started
    report.runs += 1
    report.slowest_s = max(report.slowest_s, spent)
    if spent > MAX_SECONDS:
        raise Failure(number, raw, f"took {spent:.2f} s of CPU time")


def limit_memory() -> None:
    """Cap this process's address space, so that an allocation without measure fails at once."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE_BYTES, resource.RLIM_INFINITY))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _general(rule: str) -> str:
    """Return a rule with what varies left out, so that alike refusals are counted together."""
    start, _, rest = re.sub(r"\[.*]|[0-9]+|'.*?'|\".*?\"", "#", rule).partition(":")
    return start if "#" not in start else f"{start}:{rest[:60]}"
