"""Computed prompts on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camelid.runtime.prefix_files import CHECKSUM_BYTES, PrefixFiles

PAGE = 1000


def opened(folder: Path, identity: str = "model", max_pages: int = 10) -> PrefixFiles:
    return PrefixFiles(folder, identity, PAGE, max_pages * (PAGE + CHECKSUM_BYTES))


def content(number: int) -> NDArray[np.uint8]:
    return np.full(PAGE, number, np.uint8)


def digest(number: int) -> bytes:
    return bytes([number]) * 32


def filled(folder: Path, numbers: range, max_pages: int = 10) -> PrefixFiles:
    files = opened(folder, max_pages=max_pages)
    for number in numbers:
        files.save(digest(number), content(number))
    files.close()
    return files


def test_what_was_saved_is_found_by_the_next_process(tmp_path):
    filled(tmp_path, range(3))
    files = opened(tmp_path)
    assert [files.has(digest(number)) for number in range(4)] == [True, True, True, False]
    loaded = files.load(digest(2))
    assert loaded is not None
    assert loaded.tolist() == content(2).tolist()


def test_another_model_finds_nothing(tmp_path):
    filled(tmp_path, range(3))
    assert not opened(tmp_path, "another model").has(digest(0))


def test_a_damaged_or_short_file_is_not_loaded_and_goes_away(tmp_path):
    files = filled(tmp_path, range(2))
    damaged, short = sorted(tmp_path.rglob("*.page"))
    data = bytearray(damaged.read_bytes())
    data[500] ^= 1
    damaged.write_bytes(data)
    short.write_bytes(short.read_bytes()[:-1])
    assert files.load(digest(0)) is None
    assert files.load(digest(1)) is None
    assert list(tmp_path.rglob("*.page")) == []
    assert not files.has(digest(0))


def test_a_file_that_another_process_deleted_is_not_loaded(tmp_path):
    files = filled(tmp_path, range(1))
    next(tmp_path.rglob("*.page")).unlink()
    assert files.load(digest(0)) is None


def test_what_was_unused_for_longest_makes_room(tmp_path):
    filled(tmp_path, range(4), max_pages=4)
    for age, number in enumerate((1, 3, 0, 2)):
        path = next(tmp_path.rglob(f"{digest(number).hex()}.page"))
        os.utime(path, (1000 + age, 1000 + age))
    files = opened(tmp_path, max_pages=4)
    assert files.load(digest(1)) is not None  # used just now
    files.save(digest(9), content(9))
    files.close()
    assert [number for number in (0, 1, 2, 3, 9) if opened(tmp_path, max_pages=4).has(digest(number))] == [0, 1, 2, 9]


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    files = opened(tmp_path / "file")
    files.save(digest(0), content(0))
    files.close()
    assert not files.has(digest(0))
    assert "is not kept" in caplog.text
