"""Fast copies go with the weights that they are of, and other files of the store are not touched for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camelid.formats.fast_copy import Matrix, Origin, write_fast_copy
from camelid.store.copies import CopyPlace, place_of, useless_copies
from camelid.store.store import Store

from .test_store import NAME, add


def fill(matrix: Matrix, begin: int, out: NDArray[np.uint8]) -> None:
    out[:] = 7


def make(weights: Path, store: Store) -> CopyPlace:
    place = place_of(weights, store.folder)
    place.path.parent.mkdir(exist_ok=True)
    origin = Origin(str(place.source), place.identity, "some layout")
    write_fast_copy(place.path, origin, [Matrix("one", 12, 16, 144)], fill)
    return place


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    add(store, NAME, model=b"weights")
    return store


def test_a_blobs_copy_is_known_by_its_digest_wherever_the_store_is(store: Store, tmp_path: Path) -> None:
    weights = store.weights(store.entry(NAME))
    place = place_of(weights, store.folder)
    assert place.path == store.copies / f"{weights.name}.fast"
    assert place.identity == weights.name.replace("-", ":")
    link = tmp_path / "link.gguf"
    link.symlink_to(weights)
    assert place_of(link, store.folder) == place


def test_a_files_copy_is_of_its_place_and_its_present_content(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "plain.gguf"
    file.write_bytes(b"one")
    before = place_of(file, store.folder)
    file.write_bytes(b"another")
    after = place_of(file, store.folder)
    assert (before.path, before.source) == (after.path, after.source)
    assert before.identity != after.identity


def test_copies_are_of_use_while_their_weights_are_as_they_were(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "plain.gguf"
    file.write_bytes(b"weights of a file")
    places = [make(file, store), make(store.weights(store.entry(NAME)), store)]
    assert list(useless_copies(store.copies)) == []
    file.write_bytes(b"changed")
    assert list(useless_copies(store.copies)) == [places[0].path]


def test_removing_a_model_deletes_its_copy(store: Store) -> None:
    place = make(store.weights(store.entry(NAME)), store)
    assert place.path in store.remove(NAME)
    assert not place.path.exists()


def test_pruning_deletes_copies_without_weights_and_old_beginnings(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "plain.gguf"
    file.write_bytes(b"weights")
    gone, kept = make(file, store), make(store.weights(store.entry(NAME)), store)
    file.unlink()
    old, young = (kept.path.with_name(f".{kept.path.name}.{number}.part") for number in (1, 2))
    damaged = store.copies / "file-0.fast"
    for path in (old, young, damaged):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert {leftover.path for leftover in store.prune()} == {gone.path, old, damaged}
    assert set(store.copies.iterdir()) == {kept.path, young}


def test_verifying_deletes_a_damaged_copy_and_leaves_a_sound_one(store: Store) -> None:
    entry = store.entry(NAME)
    assert not store.drop_damaged_copy(entry)
    place = make(store.weights(entry), store)
    assert not store.drop_damaged_copy(entry)
    with place.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"x")
    assert store.drop_damaged_copy(entry)
    assert not place.path.exists()
