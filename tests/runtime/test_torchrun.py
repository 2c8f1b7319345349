"""Processes that torchrun starts: the first serves, the others leave with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from camelid.errors import InvalidSetting
from camelid.runtime.torchrun import Launch, launch_of

STARTED = {"TORCHELASTIC_RUN_ID": "none", "MASTER_PORT": "29500", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}


def test_a_process_is_told_apart_by_what_torchrun_says() -> None:
    assert launch_of({"RANK": "3"}) is None
    assert launch_of({**STARTED, "RANK": "3"}) == Launch(3, 4, "camelid-none-29500")
    with pytest.raises(InvalidSetting, match="several machines"):
        launch_of({**STARTED, "LOCAL_WORLD_SIZE": "2"})


FIRST = """
import sys
from camelid.runtime.torchrun import Launch, Places
places = Places(Launch(0, 3, sys.argv[1]))
assert places.all_here.wait(30)
print("all here", flush=True)
sys.stdin.read()
"""
OTHER = (
    "import sys; from camelid.runtime.torchrun import Launch, wait_for_first; wait_for_first(Launch(1, 3, sys.argv[1]))"
)


def test_the_others_leave_when_the_first_has_left(tmp_path: Path) -> None:
    others = [subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)]) for _ in range(2)]
    command = [sys.executable, "-c", FIRST, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "all here\n"
        assert [other.poll() for other in others] == [None, None]
        first.kill()
    assert [other.wait(30) for other in others] == [0, 0]
