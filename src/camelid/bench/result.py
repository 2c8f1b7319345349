"""What a measurement gives: rows of quantities, each taken several times, and all that is needed to take them again.

Plain values. How they are shown is `table.py` and `plot.py`; nothing here measures.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from camelid.errors import FormatError

from .machine import Machine

RATES = ("tok/s", "GB/s", "GMAC/s", "req/s")  # more is better; of every other unit, less is
FORM = 1  # of the JSON


@dataclass(frozen=True)
class Measure:
    """One quantity, as often as it was taken. `roof`, in the same unit, is what the machine allows at best."""

    unit: str
    samples: tuple[float, ...]
    roof: float | None = None

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Where the middle half of the samples begins and ends."""
        return percentile(self.samples, 25), percentile(self.samples, 75)

    @property
    def of_roof(self) -> float | None:
        """The fraction of the roof that the median reaches: 1 is all that the machine can do."""
        if self.roof is None:
            return None
        return self.median / self.roof if self.unit in RATES else self.roof / self.median


@dataclass(frozen=True)
class Row:
    """One case: what makes it differ from the others, and what was measured of it, by column."""

    labels: Mapping[str, str]
    measures: Mapping[str, Measure]


@dataclass(frozen=True)
class Result:
    """A finished measurement. `notes` are sentences that a reader of the figures must know."""

    name: str
    title: str
    subject: str  # the model and how it was run
    machine: Machine
    version: str
    command: str
    taken_at: str  # ISO 8601, UTC
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return a percentile, interpolated between the samples beside it. Needs at least one sample."""
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def gather(
    units: Mapping[str, str], rounds: Iterable[Mapping[str, float]], roofs: Mapping[str, float]
) -> dict[str, Measure]:
    """Return the measures of one case from the values of its rounds, by column. A column without values is left out."""
    taken = list(rounds)
    measures = {}
    for column, unit in units.items():
        samples = tuple(values[column] for values in taken if column in values)
        if samples:
            measures[column] = Measure(unit, samples, roofs.get(column))
    return measures


def to_json(result: Result) -> str:
    """Write a result as JSON text, medians and fractions of the roof included for those who only read."""
    plain = asdict(result) | {"form": FORM}
    for row, made in zip(result.rows, plain["rows"], strict=True):
        for column, measure in row.measures.items():
            made["measures"][column] |= {"median": measure.median, "of_roof": measure.of_roof}
    return json.dumps(plain, indent=1) + "\n"


def from_json(text: str, name: str = "result") -> Result:
    """Read what `to_json` wrote. Raises FormatError."""
    try:
        return _result(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(name, "content", text[:40], "it must be a result of camelid bench") from error


def _result(plain: Mapping[str, Any]) -> Result:
    if plain["form"] != FORM:
        raise ValueError(plain["form"])
    fields = {name: plain[name] for name in ("name", "title", "subject", "version", "command", "taken_at")}
    rows = tuple(Row(row["labels"], {k: _measure(v) for k, v in row["measures"].items()}) for row in plain["rows"])
    return Result(**fields, machine=Machine(**plain["machine"]), rows=rows, notes=tuple(plain["notes"]))


def _measure(plain: Mapping[str, Any]) -> Measure:
    return Measure(plain["unit"], tuple(plain["samples"]), plain["roof"])
