"""The whole forward pass, on the reference backend, against Transformers and against itself in another format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import MemoryCheckpoint, all_logits, batch_of, relative_rms

from camelid.backends.base import Batch, CacheType
from camelid.backends.reference import ReferenceBackend
from camelid.formats import open_checkpoint
from camelid.formats.gguf_writer import tensor_from_raw, write_gguf
from camelid.models.load import Model, load_model
from camelid.models.rope import attention_spec
from camelid.models.spec_hf import read_hugging_face

BASE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.15,
}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
CONFIGS: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "a key/value head for each query head": {"num_key_value_heads": 4},
    "one key/value head": {"num_key_value_heads": 1},
    "tied head": {"tie_word_embeddings": True},
    "biases everywhere": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 24},
    "linear scaling": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "llama 3.1 scaling": {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, **LLAMA3}},
    "yarn scaling": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
}
IDS = np.random.default_rng(1).integers(0, 97, 75).tolist()


def transformers_model(changes: dict[str, Any]) -> Any:
    """Return a seeded Llama of Transformers in which every norm and bias is something else than its usual 1 or 0."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**BASE, **changes}, attn_implementation="eager")).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.randn_like(parameter) * 0.3 + (0.0 if name.endswith("bias") else 1.0))
    return model


def hugging_face_checkpoint(model: Any) -> MemoryCheckpoint:
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return MemoryCheckpoint(model.config.to_dict(), weights)


def gguf_checkpoint(model: Any) -> MemoryCheckpoint:
    """Return the same model as llama.cpp's converter writes it: other names, and the rows of q and k in interleaved
    order.
    """
    config = model.config
    spec = read_hugging_face(hugging_face_checkpoint(model))
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": spec.num_layers,
        "llama.context_length": spec.context_length,
        "llama.embedding_length": spec.dim,
        "llama.feed_forward_length": spec.ffn_dim,
        "llama.attention.head_count": spec.num_heads,
        "llama.attention.head_count_kv": spec.num_kv_heads,
        "llama.attention.key_length": spec.head_dim,
        "llama.attention.value_length": spec.head_dim,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": spec.rope.theta,
    }
    return MemoryCheckpoint(metadata, dict(_gguf_tensors(model, spec.num_heads, spec.num_kv_heads, spec.head_dim)))


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers.": "blk.",
}


def _gguf_tensors(
    model: Any, num_heads: int, num_kv_heads: int, head_dim: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, value in model.state_dict().items():
        values = value.detach().numpy()
        for kind, heads in (("q_proj", num_heads), ("k_proj", num_kv_heads)):
            if kind in name:
                halves = values.reshape(heads, 2, head_dim // 2, -1)
                values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
        for theirs, ours in GGUF_NAMES.items():
            name = name.replace(theirs, ours)
        yield name, values


@contextmanager
def double_precision() -> Iterator[None]:
    """Let Transformers compute norms and rotations in float64, where its code falls back to float32."""
    from transformers.models.llama import modeling_llama as llama

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary(self: Any, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None].double() * self.inverse_frequencies
        doubled = torch.cat((angles, angles), dim=-1)
        return doubled.cos() * self.attention_scaling, doubled.sin() * self.attention_scaling

    with (
        mock.patch.object(llama.LlamaRMSNorm, "forward", norm),
        mock.patch.object(llama.LlamaRotaryEmbedding, "forward", rotary),
        mock.patch.object(llama.nn.functional, "softmax", lambda x, dim, dtype=None: torch.softmax(x, dim)),
    ):
        yield


def their_logits(model: Any, ids: list[int]) -> NDArray[np.float64]:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_those_of_transformers(name: str) -> None:
    theirs = transformers_model(CONFIGS[name])
    checkpoint = hugging_face_checkpoint(theirs)
    backend = ReferenceBackend()

    ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5
    theirs.double()
    # Their frequencies are float32; with ours, which a test of their own compares, all the rest must agree to float64.
    frequencies = attention_spec(read_hugging_face(checkpoint)).inverse_frequencies
    theirs.model.rotary_emb.inverse_frequencies = torch.from_numpy(frequencies)
    with double_precision():
        assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-9


@pytest.mark.parametrize("name", ["grouped queries", "tied head", "biases everywhere", "wide heads"])
def test_gguf_and_hugging_face_checkpoints_give_the_same_logits(name: str) -> None:
    theirs = transformers_model(CONFIGS[name])
    backend = ReferenceBackend()

    from_folder = all_logits(load_model(hugging_face_checkpoint(theirs), backend), backend, IDS)
    from_gguf = all_logits(load_model(gguf_checkpoint(theirs), backend), backend, IDS)

    assert relative_rms(from_gguf, from_folder) < 1e-12


def test_rope_divisors_in_gguf_give_the_logits_of_llama_31_scaling() -> None:
    from camelid.models.rope import inverse_frequencies, llama3_divisors
    from camelid.models.spec import Llama3Scaling, RopeSpec

    theirs = transformers_model(CONFIGS["llama 3.1 scaling"])
    scaled = read_hugging_face(hugging_face_checkpoint(theirs)).rope
    checkpoint = gguf_checkpoint(theirs)
    assert isinstance(scaled.scaling, Llama3Scaling)
    plain = inverse_frequencies(RopeSpec(scaled.theta, scaled.rotary_dim, scaled.pairs))
    checkpoint.add("rope_freqs.weight", llama3_divisors(plain, scaled.scaling).astype(np.float32))
    backend = ReferenceBackend()

    ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(hugging_face_checkpoint(transformers_model({})), ReferenceBackend())


@pytest.mark.parametrize("chunk", [1, 7, 32, 33])
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(model: Model, chunk: int) -> None:
    whole = all_logits(model, ReferenceBackend(), IDS)

    assert relative_rms(all_logits(model, ReferenceBackend(), IDS, chunk=chunk), whole) < 1e-13


def test_sequences_of_one_batch_do_not_see_each_other(model: Model) -> None:
    backend = ReferenceBackend()
    backend.open_pages(attention_spec(model.spec), CacheType.F32, 8)
    alone = [all_logits(model, ReferenceBackend(), ids) for ids in (IDS[:40], IDS[40:50])]
    backend.run(model, batch_of([(IDS[:38], 0, [6, 1])]))

    together = backend.run(model, batch_of([(IDS[38:40], 38, [6, 1]), (IDS[40:50], 0, [3])]))

    assert relative_rms(together, np.concatenate([alone[0][38:], alone[1]])) < 1e-13


def test_a_copied_page_continues_as_the_original_would(model: Model) -> None:
    backend = ReferenceBackend()
    backend.open_pages(attention_spec(model.spec), CacheType.F32, 4)
    backend.run(model, batch_of([(IDS[:40], 0, [0, 1])]))
    batch = batch_of([(IDS[40:41], 40, [0, 1]), (IDS[50:51], 40, [0, 3])])
    copying = Batch(
        batch.ids,
        batch.positions,
        batch.row_starts,
        batch.page_table,
        batch.wanted,
        page_copies=np.array([[1, 3]], np.int32),
    )

    logits = backend.run(model, copying)

    expected = [all_logits(model, ReferenceBackend(), [*IDS[:40], token])[-1] for token in (IDS[40], IDS[50])]
    assert relative_rms(logits, np.stack(expected)) < 1e-13


def test_only_wanted_rows_get_logits(model: Model) -> None:
    backend = ReferenceBackend()
    backend.open_pages(attention_spec(model.spec), CacheType.F32, 4)

    logits = backend.run(model, batch_of([(IDS[:10], 0, [2]), (IDS[10:15], 0, [1])], wants_all=False))

    expected = [all_logits(model, ReferenceBackend(), ids)[-1] for ids in (IDS[:10], IDS[10:15])]
    assert relative_rms(logits, np.stack(expected)) < 1e-13


def test_a_float16_cache_changes_logits_by_its_rounding_only(model: Model) -> None:
    exact = all_logits(model, ReferenceBackend(), IDS)

    rounded = all_logits(model, ReferenceBackend(), IDS, cache_type=CacheType.F16)

    assert 1e-6 < relative_rms(rounded, exact) < 2e-3


def test_8192_positions_equal_transformers() -> None:
    theirs = transformers_model(
        {
            "max_position_embeddings": 8192,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_theta": 500000.0,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, **LLAMA3},
        }
    )
    theirs.config._attn_implementation = "sdpa"
    ids = np.random.default_rng(2).integers(0, 97, 8192).tolist()
    backend = ReferenceBackend(np.float32)

    ours = all_logits(load_model(hugging_face_checkpoint(theirs), backend), backend, ids, chunk=2048)

    assert relative_rms(ours[-512:], their_logits(theirs, ids)[-512:]) < 1e-4


@pytest.mark.parametrize("shard_size", ["5GB", "100KB"])
def test_a_saved_folder_loads_from_disk(tmp_path: Path, shard_size: str) -> None:
    theirs = transformers_model(CONFIGS["tied head"])
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    backend = ReferenceBackend()

    with open_checkpoint(tmp_path) as checkpoint:
        ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5


def test_a_gguf_file_loads_from_disk(tmp_path: Path) -> None:
    theirs = transformers_model({})
    converted = gguf_checkpoint(theirs)
    sources = [
        tensor_from_raw(name, info.shape, info.block_type, converted.raw(name))
        for name, info in converted.tensors.items()
    ]
    write_gguf(tmp_path / "model.gguf", converted.metadata, sources)
    backend = ReferenceBackend()

    with open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        ours = all_logits(load_model(checkpoint, backend), backend, IDS)

    assert relative_rms(ours, their_logits(theirs, IDS)) < 1e-5
