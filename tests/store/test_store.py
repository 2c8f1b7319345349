"""A store of models: what is listed is whole, what is removed frees its files, others' stores are left alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import camelid
from camelid.errors import DamagedBlob, DamagedManifest, NotFound, StoreError, UnsupportedModel
from camelid.store.blobs import Digest, digest_of
from camelid.store.local import find
from camelid.store.manifests import DOCKER_LAYER, DOCKER_MANIFEST, OLLAMA_LAYER, Layer, parse_manifest, write_manifest
from camelid.store.names import Name, parse_name
from camelid.store.places import all_stores, own_store
from camelid.store.store import MAX_TEXT_BYTES, Store

NAME = parse_name("someone/thing:1")
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"


def add(store: Store, name: Name, **contents: bytes) -> None:
    """Put a model into a store whose layers of Ollama's kinds are `contents`."""
    layers = [
        Layer(f"{OLLAMA_LAYER}{kind}", store.blobs.add(content), len(content)) for kind, content in contents.items()
    ]
    config = Layer(CONFIG_TYPE, store.blobs.add(b"{}"), 2)
    store.manifests.write(name, write_manifest(DOCKER_MANIFEST, config, tuple(layers)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    add(store, NAME, model=b"weights", system=b"Be kind.", params=b'{"temperature": 0.25}')
    return store


def test_a_model_is_listed_and_opened(store: Store) -> None:
    (entry,) = store.entries()
    assert entry.name == NAME
    assert store.weights(entry).read_bytes() == b"weights"
    assert store.text(entry, "system") == "Be kind."
    assert store.parameters(entry) == {"temperature": 0.25}


def test_case_does_not_count_in_names_and_the_stored_one_stays(store: Store) -> None:
    assert store.entry(parse_name("SomeOne/Thing:1")).name == NAME


def test_a_copy_takes_no_space_and_outlives_the_original(store: Store) -> None:
    before = list(store.blobs)
    copy = parse_name("someone/other:2")
    store.copy(NAME, copy)
    assert list(store.blobs) == before
    assert store.remove(NAME) == []
    assert store.weights(store.entry(copy)).read_bytes() == b"weights"


def test_removing_deletes_what_no_other_model_needs(store: Store) -> None:
    add(store, parse_name("someone/second"), model=b"other weights", system=b"Be kind.")
    store.remove(NAME)
    left = {store.blobs.path(digest).read_bytes() for digest in store.blobs}
    assert left == {b"other weights", b"Be kind.", b"{}"}
    with pytest.raises(NotFound):
        store.entry(NAME)
    assert not (store.manifests.folder / NAME.host / NAME.namespace / NAME.model).exists()


def test_verifying_finds_a_changed_and_a_missing_blob(store: Store) -> None:
    entry = store.entry(NAME)
    store.verify(entry)
    path = store.blobs.path(digest_of(b"weights"))
    path.write_bytes(b"wEights")
    with pytest.raises(DamagedBlob, match="is sha256:"):
        store.verify(entry)
    path.unlink()
    with pytest.raises(DamagedBlob, match="is gone"):
        store.verify(entry)
    with pytest.raises(StoreError, match="are gone"):
        store.weights(entry)


def test_leftovers_are_what_no_manifest_names_and_old_downloads(store: Store) -> None:
    unused = store.blobs.path(store.blobs.add(b"nobody's"))
    new, old = (store.blobs.partial(Digest(digit * 64)) for digit in "ab")
    store.making.mkdir()
    made, manifest = store.making / "1.gguf", store.manifests.path(NAME).with_name(".1.2.part")
    for path in (new, old, made, manifest):
        path.write_bytes(b"half")
    for path in (old, made, manifest):
        os.utime(path, (0, 0))
    assert {leftover.path for leftover in store.leftovers()} == {unused, old, made, manifest}
    assert {leftover.path for leftover in store.prune()} == {unused, old, made, manifest}
    assert store.leftovers() == []
    assert new.exists()


def test_leftovers_are_not_guessed_while_a_manifest_cannot_be_read(store: Store) -> None:
    store.manifests.path(NAME).write_bytes(b"{")
    assert list(store.entries()) == []
    with pytest.raises(DamagedManifest):
        store.leftovers()
    with pytest.raises(DamagedManifest):
        store.remove(NAME)


def test_a_blob_is_only_named_when_its_content_is_right(store: Store) -> None:
    digest = Digest("0" * 64)
    store.blobs.partial(digest).write_bytes(b"anything")
    with pytest.raises(DamagedBlob):
        store.blobs.commit(digest)
    assert not store.blobs.has(digest)
    assert not store.blobs.partial(digest).exists()


def test_what_cannot_be_honoured_is_refused_by_name(store: Store) -> None:
    add(store, NAME, model=b"weights", projector=b"x")
    with pytest.raises(UnsupportedModel, match="projector"):
        store.weights(store.entry(NAME))


def test_texts_and_adapters_are_found_by_their_kinds(store: Store) -> None:
    add(store, NAME, model=b"weights", adapter=b"lora", prompt=b"old", template=b"{{ .Prompt }}", license=b"MIT")
    entry = store.entry(NAME)
    assert [path.read_bytes() for path in store.adapters(entry)] == [b"lora"]
    assert (store.template(entry), store.texts(entry, "license"), store.texts(entry, "system")) == (
        "{{ .Prompt }}",
        ("MIT",),
        (),
    )
    assert store.requires(entry) is None


def test_a_text_without_measure_is_not_read(store: Store) -> None:
    add(store, NAME, model=b"weights", template=b" " * (MAX_TEXT_BYTES + 1))
    with pytest.raises(StoreError, match="bytes of text"):
        store.template(store.entry(NAME))


def test_a_model_of_several_files_is_opened_as_a_folder(store: Store) -> None:
    contents = {"config.json": b"{}", "sub/model.safetensors": b"tensors"}
    kinds = {path: "safetensors" if "model" in path else "model.file" for path in contents}
    layers = tuple(
        Layer(
            f"{DOCKER_LAYER}{kinds[path]}",
            store.blobs.add(content),
            len(content),
            path,
        )
        for path, content in contents.items()
    )
    store.manifests.write(NAME, write_manifest(DOCKER_MANIFEST, Layer(CONFIG_TYPE, digest_of(b"{}"), 2), layers))
    folder = store.weights(store.entry(NAME))
    assert {path: (folder / path).read_bytes() for path in contents} == contents
    assert store.weights(store.entry(NAME)) == folder


@pytest.mark.parametrize("path", ["../x", "/x", "a/../x", "a//b", "", ".", "a\\b", "a\0"])
def test_a_layer_cannot_lie_outside_its_folder(path: str) -> None:
    layer = {
        "mediaType": "x",
        "digest": f"sha256:{'0' * 64}",
        "size": 1,
        "annotations": {"org.cncf.model.filepath": path},
    }
    content = json.dumps({"schemaVersion": 2, "config": layer, "layers": [layer]}).encode()
    with pytest.raises(DamagedManifest):
        parse_manifest(content, "m")


def test_another_programs_store_is_read_and_never_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is what Ollama leaves: manifests by host, blobs with a dash, no folder of ours."""
    monkeypatch.setenv("OLLAMA_MODELS", str(store.folder))
    own, ollama = all_stores(str(tmp_path / "own"))
    assert (own.folder, ollama.folder, ollama.is_own) == (tmp_path / "own", store.folder, False)
    found = find("someone/thing:1", str(tmp_path / "own"))
    assert (found.weights.read_bytes(), found.system) == (b"weights", "Be kind.")
    for change in (lambda: ollama.remove(NAME), lambda: ollama.copy(NAME, NAME), ollama.leftovers):
        with pytest.raises(StoreError, match="another program"):
            change()


def test_our_store_lies_where_the_system_keeps_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert own_store(None).folder == Path("/data/camelid/models")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert own_store(None).folder == Path("/home/someone/.local/share/camelid/models")


def test_a_stored_model_answers_with_its_makers_parameters(tmp_path: Path) -> None:
    store = Store(tmp_path)
    weights = find("cria").weights.read_bytes()
    add(store, parse_name("mine"), model=weights, params=b'{"temperature": 0, "top_k": 7, "stop": ["x"]}')
    with camelid.load("mine", models=str(tmp_path), threads=1) as model:
        assert model.name == "mine:latest"
        sampling = model._model.model.sampling
        assert (sampling.temperature, sampling.top_k) == (0, 7)
        assert model.chat("Hello!", max_tokens=3).usage.completion_tokens > 0
