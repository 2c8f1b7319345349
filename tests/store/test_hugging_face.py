"""Models of the Hugging Face hub: which files a name means, every byte checked, the token kept with its host."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import camelid
from camelid.errors import DamagedBlob, NotFound, RegistryError
from camelid.formats import GgufCheckpoint, open_checkpoint, tensor_from_raw, write_gguf, write_safetensors
from camelid.store.hub_files import HubFile, choose, variants_of
from camelid.store.local import find
from camelid.store.names import parse_name
from camelid.store.store import Store
from camelid.store.transfer import Watcher, pull
from tests.store.hub_server import Hub, serve

REPOSITORY = "org/Model-3B-GGUF"


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 10, "0" * 64, "1" * 40) for path in paths]


SEVERAL = files(
    "README.md",
    "Model-3B.Q8_0.gguf",
    "Model-3B-Q4_K_M.gguf",
    "Model-3B-IQ4_XS.gguf",
    "mmproj-Model-f16.gguf",
    "BF16/Model-3B-BF16-00001-of-00002.gguf",
    "BF16/Model-3B-BF16-00002-of-00002.gguf",
)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("latest", ["Model-3B-Q4_K_M.gguf"]),
        ("q8_0", ["Model-3B.Q8_0.gguf"]),
        ("IQ4_XS", ["Model-3B-IQ4_XS.gguf"]),
        ("Model-3B-IQ4_XS.gguf", ["Model-3B-IQ4_XS.gguf"]),
        ("bf16", ["BF16/Model-3B-BF16-00001-of-00002.gguf", "BF16/Model-3B-BF16-00002-of-00002.gguf"]),
    ],
)
def test_a_tag_means_a_quantization_or_a_file(tag: str, expected: list[str]) -> None:
    chosen = choose(parse_name(f"hf.co/{REPOSITORY}:{tag}"), SEVERAL)
    assert [file.path for file in chosen.weights] == expected


def test_what_is_not_there_is_answered_with_what_is() -> None:
    with pytest.raises(NotFound, match="Q4_K_M") as told:
        choose(parse_name(f"hf.co/{REPOSITORY}:Q2_K"), SEVERAL)
    assert "hf.co/org/Model-3B-GGUF:" in (told.value.hint or "")
    with pytest.raises(RegistryError, match="1 of its 3 shards"):
        variants_of(files("m-Q8_0-00001-of-00003.gguf"))
    with pytest.raises(NotFound, match="neither"):
        choose(parse_name("hf.co/org/empty"), files("README.md"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    hub = Hub()
    with serve(hub) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fetch(store: Store, name: str) -> None:
    pull(store, parse_name(name), Watcher(), lambda *_: None)
    store.verify(store.entry(parse_name(name)))


def test_a_gguf_file_is_pulled_by_quantization_and_answers(hub: Hub, store: Store) -> None:
    weights = find("cria").weights.read_bytes()
    hub.repositories[REPOSITORY] = {"m-Q8_0.gguf": weights, "m-Q2_K.gguf": os.urandom(99), "LICENSE": b"Be kind."}
    fetch(store, f"hf.co/{REPOSITORY}:Q8_0")
    entry = store.entry(parse_name(f"hf.co/{REPOSITORY}:Q8_0"))
    assert store.weights(entry).read_bytes() == weights
    assert store.text(entry, "license") == "Be kind."
    with camelid.load(f"hf.co/{REPOSITORY}:Q8_0", models=str(store.folder), threads=1) as model:
        assert model.chat("Hello!", max_tokens=3).usage.completion_tokens > 0
    assert not any("Q2_K" in path for _, path, _ in hub.seen)


def split_in_two(path: Path, folder: Path) -> dict[str, bytes]:
    """Write a GGUF file as two shards, as llama.cpp's splitter does."""
    with open_checkpoint(path) as whole:
        assert isinstance(whole, GgufCheckpoint)
        names, made = list(whole.tensors), {}
        for number, part in enumerate((names[:5], names[5:])):
            file = folder / f"m-Q8_0-0000{number + 1}-of-00002.gguf"
            split = {"split.no": number, "split.count": 2, "split.tensors.count": len(names)}
            metadata = {**whole.typed_metadata, **split} if number == 0 else split
            infos = [whole.tensors[name] for name in part]
            sources = [tensor_from_raw(info.name, info.shape, info.block_type, whole.raw(info.name)) for info in infos]
            write_gguf(file, metadata, sources)
            made[f"Q8_0/{file.name}"] = file.read_bytes()
    return made


def test_a_model_in_shards_is_run_from_its_first_file(hub: Hub, store: Store, tmp_path: Path) -> None:
    hub.repositories[REPOSITORY] = split_in_two(find("cria").weights, tmp_path)
    fetch(store, f"hf.co/{REPOSITORY}")
    opened = store.weights(store.entry(parse_name(f"hf.co/{REPOSITORY}")))
    with open_checkpoint(opened) as sharded, open_checkpoint(find("cria").weights) as whole:
        assert set(sharded.tensors) == set(whole.tensors)
        assert all(np.array_equal(sharded.raw(name), whole.raw(name)) for name in whole.tensors)


def test_safetensors_are_pulled_with_what_lies_beside_them(hub: Hub, store: Store, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    write_safetensors(weights, {"w": np.ones((2, 3), np.float32)}, {})
    beside = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}"}
    other = {"consolidated.00.pth": b"pickle", "original/params.json": b"{}", "README.md": b"# read me"}
    hub.repositories["org/tensors"] = {"model.safetensors": weights.read_bytes(), **beside, **other}
    fetch(store, "hf.co/org/tensors")
    folder = store.weights(store.entry(parse_name("hf.co/org/tensors")))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    with open_checkpoint(folder) as checkpoint:
        assert dict(checkpoint.metadata) == json.loads(beside["config.json"])


@pytest.mark.parametrize("spoiled", ["model.safetensors", "config.json"])
def test_a_flipped_bit_is_seen_in_large_and_small_files(hub: Hub, store: Store, spoiled: str) -> None:
    hub.repositories["org/tensors"] = {"model.safetensors": os.urandom(5000), "config.json": b"{}"}
    hub.spoiled = spoiled
    with pytest.raises(DamagedBlob):
        fetch(store, "hf.co/org/tensors")
    assert list(store.entries()) == []


def test_the_token_goes_to_the_hub_and_to_nobody_else(hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[REPOSITORY], hub.token = {"m-Q8_0.gguf": os.urandom(5000)}, "hf_secret"
    with pytest.raises(NotFound, match="does not show it"):
        fetch(store, f"hf.co/{REPOSITORY}")
    hub.is_gated = True
    with pytest.raises(RegistryError, match="gated") as told:
        fetch(store, f"hf.co/{REPOSITORY}")
    assert "HF_TOKEN" in (told.value.hint or "")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.seen.clear()
    fetch(store, f"hf.co/{REPOSITORY}")
    assert {(host, secret) for host, _, secret in hub.seen} == {("127.0.0.1", "Bearer hf_secret"), ("localhost", None)}


def test_a_hub_that_is_not_there_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match="cannot be asked"):
        fetch(store, "hf.co/org/any")
