"""Tables for terminals and pages: every cell, and the circumstances under them."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from camelid.bench.plot import svg_plot
from camelid.bench.result import Measure, Row
from camelid.bench.table import circumstances, markdown_table, table_cells, text_table

from .test_result import TWO_ROWS, result

SVG = "{http://www.w3.org/2000/svg}"


def test_a_table_has_medians_spreads_and_fractions_of_the_roof() -> None:
    assert table_cells(TWO_ROWS) == [
        ["depth", "decode, tok/s", "of the roof", "gap, ms"],
        ["0", "20 (15–25)", "50%", "50"],
        ["4,096", "8 (8–8)", "25%", "125"],
    ]


def test_rows_with_little_in_common_get_a_line_for_each_quantity() -> None:
    rows = [Row({"case": name}, {f"{name} {i}": Measure("ms", (1.5,)) for i in range(2)}) for name in ("a", "b", "c")]
    assert table_cells(result(*rows))[:3] == [
        ["case", "quantity", "median", "unit"],
        ["a", "a 0", "1.5", "ms"],
        ["a", "a 1", "1.5", "ms"],
    ]


def test_a_terminal_is_shown_aligned_columns_and_all_circumstances() -> None:
    assert text_table(TWO_ROWS).splitlines() == [
        "W1: one stream",
        "",
        "depth  decode, tok/s  of the roof  gap, ms",
        "0         20 (15–25)          50%       50",
        "4,096        8 (8–8)          25%      125",
        "",
        "Subject: 1b",
        "Command: `camelid bench decode`",
        "Machine: A Processor, 2 cores, 23.5 GiB, Linux 6.1, Python 3.11.7, load 0.5",
        "Camelid 0.1.0, 2026-11-21",
        "A note",
    ]


def test_figures_of_a_busy_machine_say_so() -> None:
    busy = replace(TWO_ROWS, machine=replace(TWO_ROWS.machine, load=2.5))
    assert "The machine was busy with other work (load 2.5 on 2 cores): take these again" in circumstances(busy)


def test_a_page_gets_a_markdown_table_and_a_list() -> None:
    lines = markdown_table(TWO_ROWS).splitlines()
    assert lines[:3] == ["| depth | decode, tok/s | of the roof | gap, ms |", "| --- | ---: | ---: | ---: |",
                         "| 0 | 20 (15–25) | 50% | 50 |"]  # fmt: skip
    assert lines[-1] == "* A note"


def test_a_picture_has_a_bar_as_long_as_its_median_and_escapes_labels() -> None:
    row = Row({"engine": "<a & b>"}, {"speed": Measure("tok/s", (10.0,), 40.0)})
    tree = ElementTree.fromstring(svg_plot(result(row, Row({"engine": "c"}, {"speed": Measure("tok/s", (20.0,))}))))
    widths = [float(bar.attrib["width"]) for bar in tree.iter(f"{SVG}rect") if bar.attrib["width"] != "100%"]
    assert widths[1] == 2 * widths[0]
    assert "<a & b>" in [text.text for text in tree.iter(f"{SVG}text")]
