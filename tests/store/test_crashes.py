"""A short stretch of the campaign that cuts the power; the long one is a command (see tools/campaign/crashes.py)."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.campaign import crashes

from camelid.store.files import Disk
from camelid.store.store import Store
from tests.store.crashes import RecordingDisk, contents_of, crash_states


def test_no_crash_leaves_a_listed_model_that_is_not_whole(tmp_path: Path) -> None:
    assert sum(crashes.run(120, 3, tmp_path).values()) == 120


@pytest.mark.parametrize("forgotten", ["sync", "sync_folder"])
def test_the_check_sees_a_sync_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    monkeypatch.setattr(RecordingDisk, forgotten, lambda self, what: getattr(Disk, forgotten)(self, what))
    with pytest.raises((AssertionError, crashes.NotFound, crashes.DamagedBlob)):
        crashes.run(4000, 3, tmp_path)


def test_what_was_synced_is_in_every_state_and_what_was_not_in_some(tmp_path: Path) -> None:
    disk, path = RecordingDisk(), tmp_path / "file"
    before = contents_of(tmp_path)
    file = disk.create(path)
    disk.write(file, b"safe", 0)
    disk.sync(file)
    disk.sync_folder(tmp_path)
    safe = len(disk.operations)
    disk.write(file, b"lost", 4)
    disk.close(file)
    states = list(crash_states(before, disk.operations, 100, random.Random(0)))
    assert {state.files.get(path) for state in states} == {None, b"", b"sa", b"safe", b"safelo", b"safelost"}
    after = list(crash_states(before, disk.operations[:safe], 100, random.Random(0)))[-1]
    assert after.files == {path: b"safe"}


def test_a_store_is_written_by_its_disk_only(tmp_path: Path) -> None:
    """Built again from the record alone, without any loss, a store is the one that was written."""
    disk, place = RecordingDisk(), tmp_path / "recorded"
    crashes._prepare(Store(place, disk=disk))
    before = contents_of(tmp_path / "nothing")
    whole = list(crash_states(before, disk.operations, 1 << 12, random.Random(0)))
    crashes._pull(Store(place, disk=disk))
    found = contents_of(place)
    last = list(crash_states(before, disk.operations, 2, random.Random(0)))[-2]  # nothing lost
    locks = place / "locks"
    assert last.files == {path: content for path, content in found.files.items() if locks not in path.parents}
    assert whole
