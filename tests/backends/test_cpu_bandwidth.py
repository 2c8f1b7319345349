"""How fast memory is read is measured once for each machine and way of computing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camelid.backends.cpu import _native
from camelid.backends.cpu.bandwidth import read_bandwidth


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list of what was measured; each measurement finds a gigabyte a second and thread."""
    seen: list[tuple[str, int]] = []

    def probe(isa: str, threads: int, num_bytes: int, ahead: int, seconds: float) -> float:
        seen.append((isa, threads))
        return 1e9 * threads

    monkeypatch.setattr(_native, "probe_reading", probe)
    return seen


def test_it_is_measured_once_for_each_way_of_computing(measured: list[tuple[str, int]], tmp_path: Path) -> None:
    asked = [("avx2", 1), ("avx2", 1), ("avx2", 2), ("portable", 1), ("avx2", 2)]
    assert [read_bandwidth(*one, tmp_path) for one in asked] == [1e9, 1e9, 2e9, 1e9, 2e9]
    assert measured == [("avx2", 1), ("avx2", 2), ("portable", 1)]


def test_another_processor_is_measured_anew(measured: list[tuple[str, int]], tmp_path: Path) -> None:
    for name in ("One", "Two", "One"):
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc" / "cpuinfo").write_text(f"processor : 0\nmodel name : {name}\n")
        read_bandwidth("avx2", 1, tmp_path, tmp_path)
    assert len(measured) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "[" * 100_000, '"avx2"'])
def test_a_damaged_memory_of_it_is_replaced(measured: list[tuple[str, int]], tmp_path: Path, content: str) -> None:
    file = tmp_path / "bandwidth.json"
    file.write_text(content)
    assert read_bandwidth("avx2", 3, tmp_path) == read_bandwidth("avx2", 3, tmp_path) == 3e9
    assert len(measured) == 1
    for wrong in (-1.0, 1e30, "fast", None):
        file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), wrong)))
        assert read_bandwidth("avx2", 3, tmp_path) == 3e9


def test_where_nothing_can_be_remembered_it_is_measured(measured: list[tuple[str, int]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_bandwidth("avx2", 1, tmp_path / "file" / "folder") == 1e9
    assert len(measured) == 1
