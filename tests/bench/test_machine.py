"""What a result says of its machine: enough to know it, and no folder of whoever ran it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from camelid.bench.machine import command_line, describe, this_machine, version


def test_the_processor_is_named_with_family_and_model(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    core = "processor\t: {}\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: A Xeon @ 2.50GHz\nstepping\t: 4\n\n"
    (tmp_path / "proc/cpuinfo").write_text(core.format(0) + core.format(1))
    assert this_machine(tmp_path).processor == "A Xeon @ 2.50GHz (family 6, model 85, stepping 4)"


def test_a_machine_without_proc_is_still_described(tmp_path: Path) -> None:
    machine = this_machine(tmp_path)
    assert machine.cores >= 1
    assert describe(machine).startswith(f"{machine.processor}, {machine.cores} cores, ")


def test_the_command_is_told_without_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/a/b/__main__.py", "bench", "decode", "/m/1b.gguf", "--json=/o/x.json", "-n", "3"]
    )
    assert command_line() == "camelid bench decode 1b.gguf --json=x.json -n 3"


def test_the_version_is_camelids_own() -> None:
    from camelid import __version__

    assert version().startswith(__version__)
