"""Results as text: an aligned table for a terminal, a Markdown one for a page."""

from __future__ import annotations

from .machine import Machine, describe
from .result import Measure, Result

SPARSE = 0.5  # of the cells filled: with fewer, a table is mostly dashes


def text_table(result: Result) -> str:
    """Return a result for people at a terminal: title, table, circumstances, notes."""
    cells = table_cells(result)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    num_labels = len(_label_names(result))
    lines = [result.title, ""]
    for row in cells:
        aligned = (
            cell.ljust(width) if column < num_labels else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(aligned).rstrip())
    return "\n".join([*lines, "", *circumstances(result)]) + "\n"


def markdown_table(result: Result) -> str:
    """Return a result as a section's body in Markdown."""
    head, *rows = table_cells(result)
    rule = ["---"] * len(_label_names(result)) + ["---:"] * (len(head) - len(_label_names(result)))
    lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]
    return "\n".join([*lines, "", *(f"* {line}" for line in circumstances(result))]) + "\n"


def circumstances(result: Result) -> list[str]:
    """Return the lines under a table: what, where, when, with which command."""
    return [
        f"Subject: {result.subject}",
        f"Command: `{result.command}`",
        f"Machine: {describe(result.machine)}",
        f"Camelid {result.version}, {result.taken_at}",
        *_said_of_load(result.machine),
        *result.notes,
    ]


def _said_of_load(machine: Machine) -> list[str]:
    if machine.load <= machine.cores:
        return []
    return [f"The machine was busy with other work (load {machine.load:g} on {machine.cores} cores): take these again"]


def table_cells(result: Result) -> list[list[str]]:
    """Return the table's cells, its head first. A measure with a roof has a second column: the fraction reached.

    Rows that have little in common get a line for each of their quantities instead.
    """
    labels, columns = _label_names(result), _columns(result)
    if sum(len(row.measures) for row in result.rows) < SPARSE * len(result.rows) * len(columns):
        return _long_cells(result, labels)
    head = [*labels]
    for column, unit, has_roof in columns:
        head += [f"{column}, {unit}", "of the roof"] if has_roof else [f"{column}, {unit}"]
    return [head, *([*_labels(result, i, labels), *_measures(result, i, columns)] for i in range(len(result.rows)))]


def _long_cells(result: Result, labels: list[str]) -> list[list[str]]:
    lines = [
        [*_labels(result, index, labels), column, _spread(measure), measure.unit]
        for index, row in enumerate(result.rows)
        for column, measure in row.measures.items()
    ]
    return [[*labels, "quantity", "median", "unit"], *lines]


def _label_names(result: Result) -> list[str]:
    return list(dict.fromkeys(name for row in result.rows for name in row.labels)) or ["case"]


def _columns(result: Result) -> list[tuple[str, str, bool]]:
    found: dict[str, tuple[str, bool]] = {}
    for row in result.rows:
        for column, measure in row.measures.items():
            has_roof = found.get(column, ("", False))[1] or measure.roof is not None
            found[column] = measure.unit, has_roof
    return [(column, unit, has_roof) for column, (unit, has_roof) in found.items()]


def _labels(result: Result, index: int, names: list[str]) -> list[str]:
    return [result.rows[index].labels.get(name, "") for name in names]


def _measures(result: Result, index: int, columns: list[tuple[str, str, bool]]) -> list[str]:
    cells: list[str] = []
    for column, _, has_roof in columns:
        measure = result.rows[index].measures.get(column)
        cells.append("–" if measure is None else _spread(measure))
        if has_roof:
            fraction = measure.of_roof if measure else None
            cells.append("–" if fraction is None else f"{fraction:.0%}")
    return cells


def _spread(measure: Measure) -> str:
    """Return the median, and the middle half of the samples if there are several."""
    if len(measure.samples) == 1:
        return _number(measure.median)
    low, high = measure.quartiles
    return f"{_number(measure.median)} ({_number(low)}–{_number(high)})"


def _number(value: float) -> str:
    """Write three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
