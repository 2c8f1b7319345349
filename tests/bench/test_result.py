"""Results: quantities, their spread, the fraction of a roof, and JSON that gives them back whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.bench.machine import Machine
from camelid.bench.result import Measure, Result, Row, from_json, gather, percentile, to_json
from camelid.errors import FormatError

MACHINE = Machine("A Processor", 2, 23.5, "Linux 6.1, Python 3.11.7", 0.5)


def result(*rows: Row, notes: tuple[str, ...] = ("A note",)) -> Result:
    return Result("decode", "W1: one stream", "1b", MACHINE, "0.1.0", "camelid bench decode", "2026-11-21", rows, notes)


TWO_ROWS = result(
    Row({"depth": "0"}, {"decode": Measure("tok/s", (10.0, 30.0, 20.0), 40.0), "gap": Measure("ms", (50.0,))}),
    Row({"depth": "4,096"}, {"decode": Measure("tok/s", (8.0, 8.0, 8.0), 32.0), "gap": Measure("ms", (125.0,))}),
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0, 100))
def test_percentiles_are_those_of_numpy(samples: list[float], percent: float) -> None:
    assert percentile(samples, percent) == pytest.approx(float(np.percentile(samples, percent)), abs=1e-6)


def test_a_rate_reaches_a_fraction_of_its_roof_and_a_time_is_held_against_the_least_one() -> None:
    assert Measure("tok/s", (10.0, 30.0, 20.0), 40.0).of_roof == 0.5
    assert Measure("s", (4.0,), 1.0).of_roof == 0.25
    assert Measure("s", (4.0,)).of_roof is None


def test_columns_without_a_value_are_left_out() -> None:
    rounds = [{"decode": 1.0}, {"decode": 3.0}]
    assert gather({"decode": "tok/s", "gap": "ms"}, rounds, {"decode": 5.0}) == {
        "decode": Measure("tok/s", (1.0, 3.0), 5.0)
    }


def test_json_gives_the_same_result_back_and_tells_medians_to_other_readers() -> None:
    text = to_json(TWO_ROWS)
    assert from_json(text) == TWO_ROWS
    told = json.loads(text)["rows"][0]["measures"]["decode"]
    assert (told["median"], told["of_roof"]) == (20.0, 0.5)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"form": 2}', to_json(TWO_ROWS).replace('"rows"', '"lines"')])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        from_json(text)
