"""What a workload is: sizes that can be chosen, cases, and the order they are run in.

All cases of a workload are run once, then all again: what the machine does meanwhile strikes all alike. Before each
round the roofs are probed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from camelid.settings import ModelSettings

from . import machine
from .result import Result, Row, gather
from .roofs import Roofs, usual_isa, usual_threads
from .subject import Needs, Subject, opened
from .work import Work

Values = Mapping[str, float]  # by column
Ideal = Callable[[Work, Roofs], float]  # what a column's value would be on the roof


@dataclass(frozen=True)
class Case:
    """One row: `run` is given a number that differs in every round and returns a value for each column."""

    labels: Mapping[str, str]
    run: Callable[[int], Awaitable[Values]]
    ideals: Mapping[str, Ideal] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a workload found, and what must be known of it."""

    rows: tuple[Row, ...]
    subject: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    """A measurement by name. `sizes` are frozen dataclasses of numbers, by the name of the size."""

    name: str
    title: str
    sizes: Mapping[str, Any]
    measure: Callable[[str, ModelSettings, Any, int], Outcome]


def run_workload(workload: Workload, model: str, settings: ModelSettings, sizes: Any, runs: int) -> Result:
    """Measure and return the result. Raises what loading raises."""
    before = machine.this_machine()
    outcome = workload.measure(model, settings, sizes, runs)
    return Result(
        name=workload.name,
        title=workload.title,
        subject=outcome.subject,
        machine=before,
        version=machine.version(),
        command=machine.command_line(),
        taken_at=machine.now(),
        rows=outcome.rows,
        notes=outcome.notes,
    )


def in_engine(
    units: Mapping[str, str],
    needs: Callable[[Any], Needs],
    cases: Callable[[Subject, Any], Sequence[Case]],
    *notes: str,
) -> Callable[[str, ModelSettings, Any, int], Outcome]:
    """Return the `measure` of a workload whose cases are put to a loaded model."""

    def measure(model: str, settings: ModelSettings, sizes: Any, runs: int) -> Outcome:
        return asyncio.run(_measure(model, settings, sizes, runs))

    async def _measure(model: str, settings: ModelSettings, sizes: Any, runs: int) -> Outcome:
        async with opened(model, settings, needs(sizes)) as subject:
            rows = await in_rounds(subject, settings, cases(subject, sizes), units, runs)
            about = f"{subject.model.name}, {subject.model.engine.backend}, cache {settings.cache_type}"
            return Outcome(tuple(rows), about, (*notes, *said_of_rounds(subject, runs)))

    return measure


async def in_rounds(
    subject: Subject, settings: ModelSettings, cases: Sequence[Case], units: Mapping[str, str], runs: int
) -> list[Row]:
    """Run every case once to warm up what it uses, then all of them `runs` times in turns, and return their rows."""
    taken: list[list[Values]] = [[] for _ in cases]
    await subject.ask(subject.prompt("warm-up", 8), 2)
    for number in range(runs):
        if subject.work is not None:
            subject.probe(usual_isa(settings), usual_threads(settings))
        for case, values in zip(cases, taken, strict=True):
            values.append(await case.run(number))
    return [
        Row(case.labels, gather(units, values, _roof_values(subject, case)))
        for case, values in zip(cases, taken, strict=True)
    ]


def _roof_values(subject: Subject, case: Case) -> dict[str, float]:
    work, roofs = subject.work, subject.roofs
    if work is None or roofs is None:
        return {}
    return {column: ideal(work, roofs) for column, ideal in case.ideals.items()}


def said_of_rounds(subject: Subject, runs: int) -> tuple[str, ...]:
    """Return what must be known of rounds that were run."""
    said = f"Median and middle half of {runs} runs, all cases in turns" if runs > 1 else "One run"
    if subject.work is None or subject.roofs is None:
        return (said,)
    roofs, work = subject.roofs, subject.work
    return (
        f"{said}; roofs probed before each round: {roofs.read_bytes / 1e9:.1f} GB/s read, "
        f"{roofs.int8_macs / 1e9:.0f} GMAC/s int8, {roofs.fp32_macs / 1e9:.0f} GMAC/s fp32 "
        f"({roofs.isa}, {roofs.threads} threads)",
        f"A token reads {work.weight_bytes / 1e9:.3f} GB of weights and makes "
        f"{(work.int8_macs + work.fp32_macs) / 1e9:.3f} G multiply-adds, {work.head_macs / 1e9:.3f} G for its logits",
    )
