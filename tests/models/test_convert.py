"""A model is the same in every layout: its logits are those of Transformers, whichever way it was converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama_checkpoints import CONFIGS, their_logits, transformers_model
from tiny_models import all_logits

from camelid.backends.reference import ReferenceBackend
from camelid.errors import InvalidRequest, UnsupportedModel
from camelid.formats import open_checkpoint
from camelid.formats.blocks import BlockType
from camelid.models.convert import Companions, convert
from camelid.models.load import load_model, read_spec
from camelid.models.names import Naming

NOTHING = Companions({}, {})
IDS = np.random.default_rng(1).integers(0, 97, 40).tolist()
SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_31: dict[str, Any] = {
    "vocab_size": 96,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {**SCALED, "original_max_position_embeddings": 8192},
}


def saved(model: Any, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    return folder


def converted(source: Path, target: Path, layout: Naming, **options: Any) -> Path:
    with open_checkpoint(source) as checkpoint:
        convert(checkpoint, target, layout, NOTHING, **options)
    return target


def our_logits(path: Path, ids: list[int]) -> np.ndarray:
    with open_checkpoint(path) as checkpoint:
        backend = ReferenceBackend()
        return all_logits(load_model(checkpoint, backend), backend, ids)


@pytest.mark.parametrize("changes", [LLAMA_31, {**LLAMA_31, "tie_word_embeddings": True}], ids=["head", "tied"])
def test_logits_are_equal_in_all_layouts_and_those_of_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = transformers_model(changes)
    ids = [token % 96 for token in IDS]
    first = saved(model, tmp_path / "first", max_shard_size="60KB")
    gguf = converted(first, tmp_path / "model.gguf", Naming.GGUF)
    meta = converted(gguf, tmp_path / "meta", Naming.META)
    meta_in_two = converted(first, tmp_path / "meta2", Naming.META, num_files=2)
    back = converted(meta_in_two, tmp_path / "back", Naming.HUGGING_FACE)
    last = converted(meta_in_two, tmp_path / "last.gguf", Naming.GGUF)
    logits = {path.name: our_logits(path, ids) for path in (first, gguf, meta, meta_in_two, back, last)}
    assert np.abs(logits["first"] - their_logits(model, ids)).max() < 2e-4
    for name, found in logits.items():
        assert np.abs(found - logits["first"]).max() < 1e-5, name  # rope_freqs are rounded to float32 in GGUF
    assert np.array_equal(logits["meta"], logits["meta2"])
    from transformers import LlamaForCausalLM

    reloaded = LlamaForCausalLM.from_pretrained(back, attn_implementation="eager").eval()
    assert np.array_equal(their_logits(reloaded, ids), their_logits(model, ids))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("yarn scaling", "llama 3.1 scaling")])
def test_every_kind_of_llama_goes_to_gguf_and_back(tmp_path: Path, name: str) -> None:
    model = transformers_model(CONFIGS[name])
    gguf = converted(saved(model, tmp_path / "a"), tmp_path / "a.gguf", Naming.GGUF)
    back = converted(gguf, tmp_path / "b", Naming.HUGGING_FACE)
    with open_checkpoint(tmp_path / "a") as before, open_checkpoint(back) as after:
        assert read_spec(after) == read_spec(before)
        assert all(np.array_equal(after.raw(tensor), before.raw(tensor)) for tensor in after.tensors)
    assert np.abs(our_logits(gguf, IDS) - their_logits(model, IDS)).max() < 2e-4


def test_metas_files_are_what_torch_loads(tmp_path: Path) -> None:
    model = transformers_model(LLAMA_31)
    folder = converted(saved(model, tmp_path / "a"), tmp_path / "meta", Naming.META, quantization="BF16", num_files=2)
    parts = [torch.load(folder / f"consolidated.0{number}.pth", weights_only=True) for number in range(2)]
    assert parts[0]["layers.0.attention.wo.weight"].shape == (64, 32)
    assert parts[0]["layers.0.attention.wq.weight"].shape == (32, 64)
    down = torch.cat([part["layers.1.feed_forward.w2.weight"] for part in parts], dim=1)
    assert torch.equal(down, model.state_dict()["model.layers.1.mlp.down_proj.weight"].bfloat16())


@pytest.mark.parametrize(("quantization", "kind"), [("F16", BlockType.F16), ("Q8_0", BlockType.Q8_0)])
def test_a_type_is_written_where_it_is_asked_for(tmp_path: Path, quantization: str, kind: BlockType) -> None:
    gguf = converted(
        saved(transformers_model({}), tmp_path / "a"), tmp_path / "a.gguf", Naming.GGUF, quantization=quantization
    )
    with open_checkpoint(gguf) as checkpoint:
        assert checkpoint.tensors["blk.0.attn_q.weight"].block_type is kind
        assert checkpoint.tensors["blk.0.attn_norm.weight"].block_type is BlockType.F32


def test_what_a_layout_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = saved(transformers_model(CONFIGS["biases everywhere"]), tmp_path / "a")
    with pytest.raises(UnsupportedModel, match="no biases"):
        converted(source, tmp_path / "meta", Naming.META)
    with pytest.raises(InvalidRequest, match="Q4_K_M"):
        converted(source, tmp_path / "b", Naming.HUGGING_FACE, quantization="Q4_K_M")
    with pytest.raises(InvalidRequest, match="there already"):
        converted(source, source, Naming.HUGGING_FACE)
    plain = saved(transformers_model({}), tmp_path / "plain")
    with pytest.raises(InvalidRequest, match="3 files are not possible"):
        converted(plain, tmp_path / "meta", Naming.META, num_files=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "plain"]
