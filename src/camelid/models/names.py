"""What each weight is called in each format, as data.

One row per weight: GGUF's name, Hugging Face's and Meta's, with `{}` for the layer. Bytes are not looked at here, and
shapes are in `weights.py`.
"""

from __future__ import annotations

from enum import Enum

from .spec import Weight


class Naming(Enum):
    """A way of naming weights; the value is its column in the table."""

    GGUF = 0
    HUGGING_FACE = 1
    META = 2


_NAMES: dict[Weight, tuple[str, str, str]] = {
    Weight.EMBEDDING: ("token_embd", "model.embed_tokens", "tok_embeddings"),
    Weight.FINAL_NORM: ("output_norm", "model.norm", "norm"),
    Weight.HEAD: ("output", "lm_head", "output"),
    Weight.ATTENTION_NORM: ("blk.{}.attn_norm", "model.layers.{}.input_layernorm", "layers.{}.attention_norm"),
    Weight.QUERY: ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", "layers.{}.attention.wq"),
    Weight.KEY: ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", "layers.{}.attention.wk"),
    Weight.VALUE: ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj", "layers.{}.attention.wv"),
    Weight.ATTENTION_OUT: ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj", "layers.{}.attention.wo"),
    Weight.FFN_NORM: ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", "layers.{}.ffn_norm"),
    Weight.GATE: ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj", "layers.{}.feed_forward.w1"),
    Weight.UP: ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj", "layers.{}.feed_forward.w3"),
    Weight.DOWN: ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj", "layers.{}.feed_forward.w2"),
    # Models that only read; folders of them are not loaded yet, and the second names are BERT's own.
    Weight.SEGMENTS: ("token_types", "embeddings.token_type_embeddings", "-"),
    Weight.POSITIONS: ("position_embd", "embeddings.position_embeddings", "-"),
    Weight.EMBEDDING_NORM: ("token_embd_norm", "embeddings.LayerNorm", "-"),
    Weight.QUERY_KEY_VALUE: ("blk.{}.attn_qkv", "encoder.layers.{}.attn.Wqkv", "-"),
    Weight.ATTENTION_OUT_NORM: ("blk.{}.attn_output_norm", "encoder.layer.{}.attention.output.LayerNorm", "-"),
    Weight.FFN_OUT_NORM: ("blk.{}.layer_output_norm", "encoder.layer.{}.output.LayerNorm", "-"),
    Weight.CLASSIFIER_DENSE: ("cls", "pooler.dense", "-"),
    Weight.CLASSIFIER: ("cls.output", "classifier", "-"),
}


def tensor_name(naming: Naming, weight: Weight, layer: int = 0, *, is_bias: bool = False) -> str:
    """Return the name of a weight or of its bias; `layer` counts where the weight belongs to one."""
    stem = _NAMES[weight][naming.value].format(layer)
    return f"{stem}.bias" if is_bias else f"{stem}.weight"
