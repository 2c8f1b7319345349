"""The workloads on a tiny model: each measures what it says, in small sizes."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest

from camelid.bench.result import from_json
from camelid.bench.roofs import Roofs
from camelid.bench.subject import Timeline
from camelid.bench.workload import run_workload
from camelid.bench.workloads import WORKLOADS, find_workload
from camelid.bench.workloads.arrivals import arrivals, is_in_time
from camelid.bench.workloads.batch import together
from camelid.bench.workloads.mixed import gaps
from camelid.cli.main import run
from camelid.engine.payoff import Payoff
from camelid.errors import InvalidRequest
from camelid.models.synth import write_synthetic
from camelid.settings import ModelSettings

SETTINGS = ModelSettings(device="cpu", threads=1, max_guessed=0, cache_memory=2**26)

SMALL: dict[str, dict[str, Any]] = {
    "decode": {"depths": (0, 64), "prompt_tokens": 8, "new_tokens": 4},
    "prefill": {"prompt_tokens": (40,)},
    "batch": {"streams": (1, 3), "prompt_tokens": 8, "new_tokens": 4},
    "chats": {"users": (3,), "shared_tokens": 64, "question_tokens": (4, 8), "answer_tokens": (3, 5)},
    "arrivals": {"requests": 3, "mean_prompt_tokens": 16, "mean_answer_tokens": 8, "rates": (0.0, 9.0)},
    "choices": {"choices": (1, 2), "prompt_tokens": 8, "new_tokens": 4},
    "beams": {"beams": (2,), "prompt_tokens": 8, "new_tokens": 4},
    "adapters": {"adapters": 2, "rank": 4, "streams": (1, 3), "prompt_tokens": 8, "new_tokens": 4},
    "mixed": {"streams": 2, "arriving_tokens": 200, "prompt_tokens": 4},
}  # fmt: skip

COLUMNS = {
    "decode": {"decode", "longest gap"},
    "prefill": {"prefill", "first token"},
    "batch": {"decode, all streams", "prompts"},
    "choices": {"answers", "first token"},
    "beams": {"all beginnings"},
    "adapters": {"decode, all streams", "prompts"},
    "mixed": {"gap alone, median", "gap beside, median", "longest gap", "longest / usual", "first token of the prompt"},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("bench") / "tiny.gguf"
    write_synthetic(file, "tiny", "Q4_K_M", num_layers=1)
    return str(file)


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "camelid.bench.subject.probe_roofs", lambda isa, threads: Roofs(isa, threads, 20e9, 400e9, 100e9)
    )


@pytest.mark.usefixtures("quick_probes")
@pytest.mark.parametrize("name", SMALL)
def test_a_workload_measures_every_case_in_every_round(name: str, tiny: str) -> None:
    workload = find_workload(name)
    sizes = dataclasses.replace(workload.sizes["small"], **SMALL[name])
    result = run_workload(workload, tiny, SETTINGS, sizes, runs=2)
    assert result.name == name
    assert result.subject.startswith("tiny, cpu (")
    for row in result.rows:
        assert set(row.measures) == COLUMNS.get(name, set(row.measures)) != set()
        for measure in row.measures.values():
            assert len(measure.samples) == 2
            assert min(measure.samples) >= 0
            assert measure.of_roof is None or measure.of_roof > 0


def test_every_workload_of_the_table_has_two_sizes() -> None:
    for name in WORKLOADS:
        workload = find_workload(name)
        assert (workload.name, list(workload.sizes)) == (name, ["small", "full"])


@pytest.mark.usefixtures("quick_probes")
def test_answers_are_held_to_a_schema_beside_free_ones() -> None:
    workload = find_workload("schema")
    sizes = dataclasses.replace(workload.sizes["small"], prompt_tokens=8, new_tokens=6)
    result = run_workload(workload, "cria", SETTINGS, sizes, runs=1)
    assert [row.labels for row in result.rows] == [{"answer": "free"}, {"answer": "a JSON schema"}]
    assert all(set(row.measures) == {"decode", "first token", "longest gap"} for row in result.rows)


def test_a_process_tells_its_start_and_its_memory(tiny: str) -> None:
    result = run_workload(find_workload("memory"), tiny, SETTINGS, find_workload("memory").sizes["small"], runs=1)
    most, file = (result.rows[0].measures[column].median for column in ("most memory", "file"))
    assert file == Path(tiny).stat().st_size / 2**20
    assert 20 < most < 500


def test_the_command_writes_a_table_json_and_a_picture(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], quick_probes: None
) -> None:
    files = tmp_path / "prefill.json", tmp_path / "prefill.svg"
    flags = ["--runs", "1", "--json", str(files[0]), "--plot", str(files[1]), "--prompt-tokens", "20,40"]
    assert run(["bench", "prefill", tiny, *flags]) == 0
    printed = capsys.readouterr().out
    result = from_json(files[0].read_text())
    assert [row.labels for row in result.rows] == [{"prompt": "20"}, {"prompt": "40"}]
    assert printed.startswith("W2: prompts\n")
    assert files[1].read_text().startswith("<svg ")


def test_json_can_be_the_output(tiny: str, capsys: pytest.CaptureFixture[str], quick_probes: None) -> None:
    assert run(["bench", "prefill", tiny, "--runs", "1", "--json", "-", "--prompt-tokens", "20"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "prefill"


@pytest.mark.parametrize("value", ["-1", "many", "", "1,,2", "1.5"])
def test_a_size_that_is_no_number_is_refused_with_an_example(
    value: str, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "decode", tiny, "--depths", value]) == 1
    assert "hint: for instance 0" in capsys.readouterr().err


def line(asked: float, *token_s: float) -> Timeline:
    return Timeline(asked, token_s)


def test_streams_are_counted_from_when_all_have_begun() -> None:
    lines = [line(0, 1, 2, 3, 4), line(0, 2, 3, 4)]
    assert together(lines) == 4 / 2


def test_gaps_beside_a_prompt_are_told_from_the_others() -> None:
    seen = [[0.0, 0.1, 0.2, 0.9, 1.0], [0.0, 0.1, 0.3, 0.5, 1.2, 1.3]]
    found = gaps(seen, asked_s=0.25, answered_s=1.0)
    assert found["longest gap"] == pytest.approx(700)
    assert found["gap alone, median"] == pytest.approx(100)
    assert found["first token of the prompt"] == 0.75


def test_an_answer_is_in_time_by_its_first_token_and_its_pace() -> None:
    assert is_in_time(line(0, 1, 1.1, 1.2), first_s=1.0, gap_s=0.11)
    assert not is_in_time(line(0, 1.01, 1.1), first_s=1.0, gap_s=0.11)
    assert not is_in_time(line(0, 1, 1.1, 1.3), first_s=1.0, gap_s=0.11)
    assert is_in_time(line(0, 1), first_s=1.0, gap_s=0.0)


def test_arrivals_are_all_at_once_or_at_a_rate() -> None:
    assert arrivals(3, 0.0, random.Random(0)) == [0.0, 0.0, 0.0]
    starts = arrivals(4000, 2.0, random.Random(0))
    assert starts == sorted(starts)
    assert starts[-1] == pytest.approx(2000, rel=0.1)


@pytest.mark.usefixtures("quick_probes")
def test_a_draft_model_guesses_for_a_model_that_is_the_same_but_deeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Payoff, "is_worth_it", lambda *_: True)  # what pays here depends on what else the machine does
    write_synthetic(tmp_path / "deep.gguf", "tiny", "Q8_0", num_layers=3, active_layers=1)
    write_synthetic(tmp_path / "draft.gguf", "tiny", "Q8_0", num_layers=1)
    workload = find_workload("draft")
    sizes = dataclasses.replace(workload.sizes["small"], prompt_tokens=8, new_tokens=40)
    settings = dataclasses.replace(SETTINGS, draft=str(tmp_path / "draft.gguf"))
    result = run_workload(workload, str(tmp_path / "deep.gguf"), settings, sizes, runs=1)
    assert [row.labels["guesses"] for row in result.rows] == ["none", "draft"] * 2
    found = [(row.measures["guessed"].median > 0, row.measures["guesses right"].median) for row in result.rows]
    assert found[0] == found[2] == (False, 0)
    assert found[3] == (True, 100)
    with pytest.raises(InvalidRequest, match="needs a draft model"):
        run_workload(workload, str(tmp_path / "deep.gguf"), SETTINGS, sizes, runs=1)
