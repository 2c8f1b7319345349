"""Results as a picture: one panel of bars per column, written as SVG by hand.

A bar is a median, its whisker the middle half of the samples, the tick beyond it the roof. No library: thirty lines of
text need none, and the file can be read in a change.
"""

from __future__ import annotations

from html import escape

from .result import Measure, Result, Row

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 860, 300, 90
BAR_HEIGHT, GAP, HEAD = 18, 8, 30
BAR, WHISKER, ROOF = "#4477aa", "#222222", "#cc6677"


def svg_plot(result: Result) -> str:
    """Return a result as an SVG document."""
    columns = list(dict.fromkeys(column for row in result.rows for column in row.measures))
    parts, top = [_text(10, 22, result.title, size=15)], 34
    for column in columns:
        rows = [row for row in result.rows if column in row.measures]
        parts += _panel(column, rows, top)
        top += HEAD + len(rows) * (BAR_HEIGHT + GAP) + GAP
    parts.append(
        _text(10, top + 12, f"{result.machine.processor}; Camelid {result.version}; {result.taken_at}", size=10)
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 20}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _panel(column: str, rows: list[Row], top: int) -> list[str]:
    measures = [row.measures[column] for row in rows]
    longest = max(max(measure.quartiles[1], measure.roof or 0.0, 1e-9) for measure in measures)
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / longest
    parts = [_text(10, top + 18, f"{column}, {measures[0].unit}", size=12, weight="bold")]
    for index, (row, measure) in enumerate(zip(rows, measures, strict=True)):
        parts += _bar(", ".join(row.labels.values()), measure, top + HEAD + index * (BAR_HEIGHT + GAP), scale)
    return parts


def _bar(label: str, measure: Measure, top: int, scale: float) -> list[str]:
    low, high = (LABEL_WIDTH + value * scale for value in measure.quartiles)
    end, middle = LABEL_WIDTH + measure.median * scale, top + BAR_HEIGHT / 2
    shown = f"{measure.median:.3g}" + (f" ({measure.of_roof:.0%})" if measure.of_roof is not None else "")
    parts = [
        _text(10, top + 13, label, size=11),
        f'<rect x="{LABEL_WIDTH}" y="{top}" width="{end - LABEL_WIDTH:.1f}" height="{BAR_HEIGHT}" fill="{BAR}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{WHISKER}" stroke-width="2"/>',
        _text(WIDTH - VALUE_WIDTH + 6, top + 13, shown, size=11),
    ]
    if measure.roof is not None:
        at = LABEL_WIDTH + measure.roof * scale
        parts.append(f'<path d="M{at:.1f} {top - 2}v{BAR_HEIGHT + 4}" stroke="{ROOF}" stroke-width="2"/>')
    return parts


def _text(x: float, y: float, text: str, *, size: int, weight: str = "normal") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'
