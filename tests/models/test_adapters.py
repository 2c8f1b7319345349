"""LoRA adapters: what a merged model computes is what the merged matrices say, and what does not fit is refused."""

# ruff: noqa: E501 - the table of types is easier to read in one line

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from camelid.errors import ModelError, UnsupportedModel
from camelid.formats import (
    BlockType,
    GgufCheckpoint,
    open_checkpoint,
    read,
    tensor_from_raw,
    tensor_from_values,
    write_gguf,
)
from camelid.models.adapters import open_adapted
from camelid.models.load import read_spec, used_tensors
from camelid.models.synth import write_synthetic

QUERY, DOWN = "blk.0.attn_q.weight", "blk.1.ffn_down.weight"
LORA = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": 8.0}
RANK = 4


def base(folder: Path, quant: str) -> Path:
    path = folder / f"{quant}.gguf"
    write_synthetic(path, "tiny", quant)
    return path


def matrices(path: Path, *names: str) -> dict[str, NDArray[np.float32]]:
    """Return seeded random pairs for tensors of a model, by the names that an adapter gives them."""
    rng = np.random.default_rng(7)
    found: dict[str, NDArray[np.float32]] = {}
    with open_checkpoint(path) as checkpoint:
        for name in names:
            rows, columns = checkpoint.tensors[name].shape
            found[f"{name}.lora_a"] = rng.normal(0, 0.1, (RANK, columns)).astype(np.float32)
            found[f"{name}.lora_b"] = rng.normal(0, 0.1, (rows, RANK)).astype(np.float32)
    return found


def adapter(
    folder: Path, pairs: dict[str, NDArray[np.float32]], metadata: dict[str, Any] = LORA, name: str = "lora"
) -> Path:
    path = folder / f"{name}.gguf"
    write_gguf(path, metadata, [tensor_from_values(key, values, BlockType.F32) for key, values in pairs.items()])
    return path


def merged_by_hand(path: Path, pairs: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    with open_checkpoint(path) as checkpoint:
        change = pairs[f"{name}.lora_b"] @ pairs[f"{name}.lora_a"]
        return read(checkpoint, name) + np.float32(8.0 / RANK) * change


@pytest.mark.parametrize(
    ("quant", "kind", "tolerance"),
    [("F32", BlockType.F32, 0), ("F16", BlockType.F16, 1e-3), ("Q8_0", BlockType.Q8_0, 8e-3), ("Q4_K_M", BlockType.Q8_0, 8e-3)],
)  # fmt: skip
def test_changed_tensors_are_merged_and_others_stay_as_they_lie(
    tmp_path: Path, quant: str, kind: BlockType, tolerance: float
) -> None:
    path = base(tmp_path, quant)
    pairs = matrices(path, QUERY, DOWN)
    with open_adapted(path, [adapter(tmp_path, pairs)]) as adapted, open_checkpoint(path) as plain:
        assert adapted.metadata == plain.metadata
        assert adapted.tensors.keys() == plain.tensors.keys()
        assert set(used_tensors(adapted, read_spec(adapted))) <= adapted.tensors.keys()
        for name, info in plain.tensors.items():
            if name in (QUERY, DOWN):
                assert adapted.tensors[name].block_type is kind
                assert adapted.raw(name).nbytes == adapted.tensors[name].size_bytes
                expected = merged_by_hand(path, pairs, name)
                assert np.abs(read(adapted, name) - expected).max() <= tolerance * np.abs(expected).max()
            else:
                assert adapted.tensors[name] == info
                assert adapted.raw(name).tobytes() == plain.raw(name).tobytes()


def test_several_adapters_are_merged_one_after_the_other(tmp_path: Path) -> None:
    path = base(tmp_path, "F32")
    pairs = matrices(path, QUERY)
    lora = adapter(tmp_path, pairs)
    with open_adapted(path, [lora, lora]) as twice, open_checkpoint(path) as plain:
        once = merged_by_hand(path, pairs, QUERY)
        np.testing.assert_allclose(read(twice, QUERY), 2 * once - read(plain, QUERY), rtol=1e-5, atol=1e-6)


def test_without_alpha_the_matrices_count_as_they_are(tmp_path: Path) -> None:
    path = base(tmp_path, "F32")
    pairs = matrices(path, QUERY)
    plain = {key: value for key, value in LORA.items() if key != "adapter.lora.alpha"}
    with open_adapted(path, [adapter(tmp_path, pairs, plain)]) as adapted, open_checkpoint(path) as original:
        change = pairs[f"{QUERY}.lora_b"] @ pairs[f"{QUERY}.lora_a"]
        np.testing.assert_allclose(read(adapted, QUERY), read(original, QUERY) + change, rtol=1e-5, atol=1e-6)


def test_an_adapted_model_answers_like_one_that_was_merged_before(tmp_path: Path) -> None:
    import camelid
    from camelid.store.local import find
    from camelid.store.making import create
    from camelid.store.modelfile import parse_modelfile
    from camelid.store.names import parse_name
    from camelid.store.store import Store

    weights = find("cria").weights
    pairs = {key: 5 * values for key, values in matrices(weights, QUERY, "blk.1.ffn_down.weight").items()}
    lora = adapter(tmp_path, pairs)
    store = Store(tmp_path / "store")
    create(store, parse_name("adapted"), parse_modelfile(f"FROM cria\nADAPTER {lora.name}"), tmp_path)
    with open_adapted(weights, [lora]) as adapted:
        infos = adapted.tensors.values()
        tensors = [tensor_from_raw(info.name, info.shape, info.block_type, adapted.raw(info.name)) for info in infos]
        write_gguf(tmp_path / "merged.gguf", GgufCheckpoint(weights).typed_metadata, tensors)
    answers = []
    for name in ("adapted", str(tmp_path / "merged.gguf"), "cria"):
        with camelid.load(name, models=str(store.folder), threads=1, device="cpu") as model:
            answers.append(model.chat("What is 17 + 25?", temperature=0, max_tokens=6).text)
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(
    ("metadata", "change", "error", "says"),
    [
        ({}, None, UnsupportedModel, "is no adapter in GGUF"),
        ({**LORA, "adapter.type": "dora"}, None, UnsupportedModel, "of the type 'dora'"),
        ({**LORA, "general.architecture": "bert"}, None, ModelError, "for the architecture 'bert', not 'llama'"),
        (LORA, ("blk.0.attn_q.weight.lora_b", None), UnsupportedModel, "lacks"),
        (LORA, ("blk.0.attn_q.weight.lora_b", (3, RANK)), ModelError, "does not fit"),
        (LORA, ("blk.0.attn_q.weight.lora_a", (RANK + 1, 64)), ModelError, "does not fit"),
        (LORA, ("blk.9.attn_q.weight.lora_a", (RANK, 64)), UnsupportedModel, "lacks"),
        (LORA, ("nothing.weight", (RANK, 64)), UnsupportedModel, "lacks"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    tmp_path: Path,
    metadata: dict[str, Any],
    change: tuple[str, tuple[int, int] | None] | None,
    error: type[Exception],
    says: str,
) -> None:
    path = base(tmp_path, "F32")
    pairs = matrices(path, QUERY)
    if change is not None and change[1] is None:
        del pairs[change[0]]
    elif change is not None and change[1] is not None:
        pairs[change[0]] = np.zeros(change[1], np.float32)
    metadata = metadata or {"general.architecture": "llama"}
    with pytest.raises(error, match=says):
        open_adapted(path, [adapter(tmp_path, pairs, metadata)])
