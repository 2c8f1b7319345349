"""A copy of matrices is read back as it was written, and what is not whole is refused."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camelid.errors import FormatError
from camelid.formats.fast_copy import Matrix, Origin, copy_bytes, open_fast_copy, write_fast_copy

ORIGIN = Origin("/models/one.gguf", "7:100:5", "some layout")
MATRICES = [Matrix("first", 12, 48, 144), Matrix("second", 14, 21, 210)]


def content(matrix: Matrix) -> NDArray[np.uint8]:
    rng = np.random.default_rng(len(matrix.name))
    return rng.integers(0, 256, (matrix.num_rows, matrix.row_bytes), dtype=np.uint8)


def fill(matrix: Matrix, begin: int, out: NDArray[np.uint8]) -> None:
    out[:] = content(matrix)[begin : begin + len(out)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "copy"
    write_fast_copy(path, ORIGIN, MATRICES, fill)
    return path


def test_a_copy_holds_what_was_written(path: Path) -> None:
    copy = open_fast_copy(path)
    assert copy.origin == ORIGIN
    assert copy.is_sound()
    for matrix in MATRICES:
        rows = copy.rows(matrix)
        assert rows is not None
        np.testing.assert_array_equal(rows, content(matrix))
    assert 0 < path.stat().st_size - copy_bytes(MATRICES) <= 4096


def test_matrices_of_another_name_type_or_size_are_not_there(path: Path) -> None:
    copy = open_fast_copy(path)
    for other in (Matrix("third", 12, 48, 144), Matrix("first", 2, 48, 144), Matrix("first", 12, 32, 144)):
        assert copy.rows(other) is None


def test_a_changed_byte_is_found(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 + 500)
        file.write(bytes([content(MATRICES[0]).flat[500] ^ 1]))
    assert not open_fast_copy(path).is_sound()


@pytest.mark.parametrize("kept", [1, 15, 24, 60, 4096, 5000])
def test_a_copy_that_was_cut_off_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FormatError):
        open_fast_copy(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"camelid copy 1", b"camelid copy 2"),
        (b'"layout"', b'"lavout"'),
        (b'"num_rows": 48', b'"num_rows": -8'),
        (b'"at": "0000000000004096"', b'"at": "0000000000004097"'),
        (b'"at": "0000000000004096"', b'"at": "9999999999994096"'),
        (b'"crc": "', b'"crc": "x'),
    ],
)
def test_a_header_that_says_something_else_is_refused(path: Path, old: bytes, new: bytes) -> None:
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))
    with pytest.raises(FormatError):
        open_fast_copy(path)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(matrix: Matrix, begin: int, out: NDArray[np.uint8]) -> None:
        if matrix.name == "second":
            raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"):
        write_fast_copy(tmp_path / "copy", ORIGIN, MATRICES, fail)
    assert list(tmp_path.iterdir()) == []
