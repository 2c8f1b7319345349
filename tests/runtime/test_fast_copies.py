"""A copy is read in place of the model's own weights, with the same results, and only where it is a copy of them."""

from __future__ import annotations

import errno
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camelid.backends.base import Array, Batch, Ops, Tensor, Weight
from camelid.backends.cpu.backend import CpuBackend
from camelid.backends.reference.backend import ReferenceBackend
from camelid.formats.blocks import BlockType, encode
from camelid.formats.fast_copy import Matrix, open_fast_copy
from camelid.runtime import fast_copies
from camelid.runtime.fast_copies import FastCopies, make
from camelid.runtime.frames import Load
from camelid.settings import ModelSettings
from camelid.store.copies import CopyPlace, place_of
from tests.models.tiny_models import batch_of

KINDS = {"q8": BlockType.Q8_0, "q4": BlockType.Q4_0, "floats": BlockType.F32, "narrow": BlockType.Q8_0}
COLUMNS = {"narrow": 96}


def tensor(name: str) -> Tensor:
    shape = (40, COLUMNS.get(name, 512))
    values = np.random.default_rng(len(name)).standard_normal(shape, dtype=np.float32)
    return Tensor(name, shape, KINDS[name], encode(values, KINDS[name]))


class Products:
    """A model of products alone."""

    def __init__(self, weights: list[Weight]) -> None:
        self._weights = weights

    def forward(self, ops: Ops, batch: Batch) -> Array:
        rng, every = np.random.default_rng(0), np.arange(3, dtype=np.int32)
        products = [ops.linear(rng.random((3, one.columns), np.float32), [one])[0] for one in self._weights]
        return np.hstack([ops.rows(product, every) for product in products])


def placed(backend: CpuBackend) -> list[Weight]:
    return [backend.place(tensor(name)) for name in KINDS]


def results(backend: CpuBackend) -> NDArray[np.float32]:
    found: NDArray[np.float32] = backend.run(Products(placed(backend)), batch_of([([1], 0, [0])]))
    return found


@pytest.fixture(autouse=True)
def small_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_copies, "LEAST_BYTES", 1)
    monkeypatch.setattr(fast_copies, "SPARE_BYTES", 0)
    monkeypatch.setattr(fast_copies, "DELAY_S", 0.0)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"what the copy is of")
    settings = ModelSettings(models=str(tmp_path / "models"), fast_copies="on")
    return Load(str(weights), settings, num_pages=1, context_length=32)


def copied(load: Load) -> CopyPlace:
    """Load once, and wait for the copy."""
    backend = CpuBackend(threads=1)
    copies = FastCopies.of(load, backend)
    placed(backend)
    copies.make_later()
    for thread in threading.enumerate():
        if thread.name == "copying":
            thread.join()
    assert copies.place is not None
    return copies.place


def uses_copy(load: Load) -> bool:
    backend = CpuBackend(threads=1)
    FastCopies.of(load, backend).use()
    placed(backend)
    return [matrix.name for matrix in backend.copyable()[0]] == []


def test_the_next_loading_reads_the_copy_with_the_same_results(load: Load) -> None:
    expected = results(CpuBackend(threads=1))
    assert not uses_copy(load)
    place = copied(load)
    assert set(open_fast_copy(place.path).matrices) == {"q8", "q4"}  # of the others there is nothing to be turned
    assert uses_copy(load)
    backend = CpuBackend(threads=1)
    FastCopies.of(load, backend).use()
    np.testing.assert_array_equal(results(backend), expected)


def test_a_copy_that_is_wished_first_is_made_before_anything_is_computed(load: Load) -> None:
    settings = replace(load.settings, fast_copies="first")
    wished = Load(load.path, settings, num_pages=1, context_length=32)
    backend = CpuBackend(threads=1)
    placed(backend)
    copies = FastCopies.of(wished, backend)
    assert copies.make_first()
    copies.use()
    placed(backend)
    assert uses_copy(load)


def test_a_copy_of_what_the_file_was_before_is_not_read_and_is_made_anew(load: Load) -> None:
    copied(load)
    Path(load.path).write_bytes(b"other weights")
    assert not uses_copy(load)
    copied(load)
    assert uses_copy(load)


def test_a_damaged_copy_is_not_read_and_is_made_anew(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    path = copied(load).path
    path.write_bytes(path.read_bytes()[:5000])
    assert not uses_copy(load)
    assert "the model's own file is" in caplog.text
    copied(load)
    assert uses_copy(load)


def test_a_copy_that_is_there_is_not_made_again(load: Load) -> None:
    before = copied(load).path.stat().st_ino
    assert copied(load).path.stat().st_ino == before


def test_what_others_left_half_written_goes(load: Load) -> None:
    part = place_of(Path(load.path), Path(load.settings.models or "")).path
    part = part.with_name(f".{part.name}.1.abc.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    assert list(copied(load).path.parent.iterdir()) == [part.parent / part.name[1:].removesuffix(".1.abc.part")]


@pytest.mark.parametrize("change", ["off", "adapters", "reference", "folder"])
def test_where_there_is_no_copy_nothing_is_done(load: Load, change: str, tmp_path: Path) -> None:
    settings = ModelSettings(models=load.settings.models, fast_copies="off" if change == "off" else "on")
    path = str(tmp_path) if change == "folder" else load.path
    other = Load(path, settings, 1, 32, adapters=("some.gguf",) if change == "adapters" else ())
    backend = ReferenceBackend() if change == "reference" else CpuBackend(threads=1)
    assert FastCopies.of(other, backend).place is None


@pytest.mark.parametrize(
    ("wish", "free_times", "is_made"),
    [("auto", 9, False), ("auto", 11, True), ("on", 2, True), ("existing", 99, False)],
)
def test_a_copy_is_made_by_itself_only_where_there_is_ample_room(
    load: Load, monkeypatch: pytest.MonkeyPatch, wish: str, free_times: int, is_made: bool
) -> None:
    backend = CpuBackend(threads=1)
    placed(backend)
    size = fast_copies.copy_bytes(backend.copyable()[0])
    usage = type(shutil.disk_usage("/"))(total=100 * size, used=0, free=free_times * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    asked = Load(load.path, ModelSettings(models=load.settings.models, fast_copies=wish), 1, 32)
    assert copied(asked).path.exists() == is_made


def test_a_disk_that_takes_no_copy_is_no_error(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    backend = CpuBackend(threads=1)
    copies = FastCopies.of(load, backend)
    placed(backend)
    assert copies.place is not None

    def fill(matrix: Matrix, begin: int, out: NDArray[np.uint8]) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    caplog.set_level("INFO", "camelid")
    assert not make(copies.place, fast_copies.origin_of(copies.place, backend), list(backend.copyable()[0]), fill)
    assert "Read-only file system" in caplog.text
    assert not copies.place.path.exists()
