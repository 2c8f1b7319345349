"""`camelid bench roofline`: the machine's own limits, as a table: reading with 1 … n threads, arithmetic by instruction
set.

The fraction that is stated here is that of the best row of its kind: what fewer threads or narrower instructions leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from camelid.settings import ModelSettings

from . import machine
from .result import Measure, Result, Row
from .roofs import AHEAD_BYTES, READ_BYTES, available_isas, usual_isa, usual_threads

Probe = Callable[[], float]  # bytes or multiply-adds a second


def measure_roofline(settings: ModelSettings, runs: int, seconds: float) -> Result:
    """Probe everything `runs` times, in turns. Raises MissingDependency without the compiled part."""
    threads = usual_threads(settings)
    rows = _reading_rows(usual_isa(settings), threads, runs, seconds) + _arithmetic_rows(threads, runs, seconds)
    return Result(
        name="roofline",
        title="What this machine can do: reading memory, and multiply-adds on registers alone",
        subject=f"{READ_BYTES / 2**30:g} GiB of memory read with the widest loads; loops of register instructions",
        machine=machine.this_machine(),
        version=machine.version(),
        command=machine.command_line(),
        taken_at=machine.now(),
        rows=tuple(rows),
        notes=(
            f"Median and middle half of {runs} runs of {seconds:g} s, all probes in turns. The roof is the best row",
        ),
    )


def _reading_rows(isa: str, threads: int, runs: int, seconds: float) -> list[Row]:
    import camelid.backends.cpu._native as native

    def probe(count: int, ahead: int) -> Probe:
        return lambda: native.probe_reading(isa, count, READ_BYTES, ahead, seconds)

    cases = {
        (f"read, {isa} loads" + (f", prefetching {ahead} bytes ahead" if ahead else ""), count): probe(count, ahead)
        for count in _counts(threads)
        for ahead in AHEAD_BYTES
    }
    return _rows(_in_turns(cases, runs), "read", "GB/s")


def _arithmetic_rows(threads: int, runs: int, seconds: float) -> list[Row]:
    import camelid.backends.cpu._native as native

    def probe(isa: str, kind: str, count: int) -> Probe:
        return lambda: native.probe_arithmetic(isa, kind, count, seconds)

    rows: list[Row] = []
    for kind in ("int8", "fp32"):
        cases = {
            (f"{kind}, {isa}: {instructions}", count): probe(isa, kind, count)
            for isa, of_kind, instructions in native.arithmetic_probes()
            if of_kind == kind and isa in available_isas()
            for count in sorted({1, threads})
        }
        rows += _rows(_in_turns(cases, runs), "multiply-adds", "GMAC/s")
    return rows


def _counts(threads: int) -> Iterable[int]:
    """Yield 1, 2, 4, … and all of them."""
    return sorted({*(1 << power for power in range(threads.bit_length()) if 1 << power < threads), threads})


def _in_turns(cases: dict[tuple[str, int], Probe], runs: int) -> dict[tuple[str, int], list[float]]:
    taken: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(runs):
        for case, probe in cases.items():
            taken[case].append(probe() / 1e9)
    return taken


def _rows(taken: dict[tuple[str, int], list[float]], column: str, unit: str) -> list[Row]:
    best = max(Measure(unit, tuple(samples)).median for samples in taken.values())
    return [
        Row({"probe": name, "threads": str(count)}, {column: Measure(unit, tuple(samples), best)})
        for (name, count), samples in taken.items()
    ]
