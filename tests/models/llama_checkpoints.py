"""Tiny random Llamas of Transformers, as checkpoints of both kinds: saved by Transformers, and as llama.cpp converts
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_models import MemoryCheckpoint

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


def their_logits(model: Any, ids: list[int]) -> NDArray[np.float64]:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()
