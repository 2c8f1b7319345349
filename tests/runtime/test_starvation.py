"""How long a process has waited for a processor, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

from camelid.runtime.starvation import waited_s


def test_the_waits_of_all_threads_are_added(tmp_path: Path) -> None:
    for thread, line in {"7": "900 1500000000 3", "8": "900 250000000 3", "9": "", "10": None}.items():
        folder = tmp_path / "7" / "task" / thread
        folder.mkdir(parents=True)
        if line is not None:
            (folder / "schedstat").write_text(line)
    assert waited_s(7, tmp_path) == 1.75


def test_where_nobody_counts_nothing_was_waited(tmp_path: Path) -> None:
    assert waited_s(7, tmp_path) == 0.0
