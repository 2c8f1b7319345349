"""Makes a ModelSpec from GGUF metadata. Keys and defaults are those of llama.cpp's `llama` architecture.

What a file says by having or lacking a tensor (a head of its own, biases, rope divisors) is read here too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from camelid.backends.base import RopePairs
from camelid.errors import ModelError, UnsupportedModel
from camelid.formats.checkpoint import Checkpoint, read

from . import spec as bounds
from .fields import Fields, refusal
from .names import Naming, tensor_name
from .spec import DivisorScaling, LinearScaling, ModelSpec, Pooling, RopeScaling, RopeSpec, Weight, YarnScaling
from .weights import LAYER_WEIGHTS

ARCHITECTURES = ("llama",)
FAMILIES = "Llama 2, 3, 3.1, 3.2 (text) and 3.3, TinyLlama, Mistral 7B"
ROPE_DIVISORS = "rope_freqs.weight"
TOKENS = "tokenizer.ggml.tokens"


def read_gguf(checkpoint: Checkpoint) -> ModelSpec:
    """Return the spec. Raises ModelError and UnsupportedModel, neither of which names the file."""
    architecture = Fields(checkpoint.metadata).text("general.architecture")
    if architecture not in ARCHITECTURES:
        hint = f"GGUF architectures that are: {', '.join(ARCHITECTURES)} ({FAMILIES}), bert, nomic-bert (embeddings)"
        raise UnsupportedModel(f"the architecture {architecture!r:.80} is not implemented", hint=hint)
    fields = Fields(checkpoint.metadata, f"{architecture}.")
    _refuse_features(fields)
    num_heads = _per_layer(fields, "attention.head_count", bounds.MAX_HEADS)
    dim = fields.count("embedding_length", bounds.MAX_DIM)
    head_dim = _head_dim(fields, dim, num_heads)
    return ModelSpec(
        architecture=architecture,
        dim=dim,
        num_layers=fields.count("block_count", bounds.MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=_per_layer(fields, "attention.head_count_kv", bounds.MAX_HEADS, default=num_heads),
        head_dim=head_dim,
        ffn_dim=_per_layer(fields, "feed_forward_length", bounds.MAX_FFN_DIM),
        vocab_size=vocab_size_of(checkpoint, fields),
        context_length=_context_length(fields),
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon", 1e-12, 0.1),
        softmax_scale=fields.number("attention.scale", 1e-6, 1e3, default=1.0 / math.sqrt(head_dim)),
        rope=_rope(checkpoint, fields, head_dim),
        is_tied=tensor_name(Naming.GGUF, Weight.HEAD) not in checkpoint.tensors,
        biased=_biased(checkpoint),
        pooling=read_pooling(fields),
    )


def read_pooling(fields: Fields) -> Pooling | None:
    """Return how the model is pooled; None where the file does not say."""
    value = fields.count("pooling_type", 1 << 16, low=0, default=0)
    known = {pooling.value: pooling for pooling in Pooling}
    if value and value not in known:
        raise UnsupportedModel(f"pooling of type {value} is not implemented", hint="types that are: 1 to 4")
    return known.get(value)


def _refuse_features(fields: Fields) -> None:
    """Refuse what would compute something else: mixtures of experts, attention that is not causal, scaled residuals."""
    if fields.count("expert_count", 1 << 16, low=0, default=0):
        raise UnsupportedModel("mixture-of-experts models are not implemented", hint=f"use one of {FAMILIES}")
    if not fields.flag("attention.causal", True):
        raise UnsupportedModel("attention that is not causal is not implemented", hint=f"use one of {FAMILIES}")
    for key in ("embedding_scale", "residual_scale", "logit_scale"):
        if fields.number(key, -1e9, 1e9, default=0.0) not in (0.0, 1.0):
            raise UnsupportedModel(f"{fields.prefix}{key} is not implemented", hint=f"use one of {FAMILIES}")


def _per_layer(fields: Fields, key: str, high: int, *, default: int | None = None) -> int:
    """Return a count that GGUF may give once or as a list with an entry per layer, all of which must agree."""
    values = fields.values.get(fields.prefix + key)
    if isinstance(values, str) or not isinstance(values, Sequence):
        return fields.count(key, high, default=default)
    if not values or any(value != values[0] for value in values):
        raise UnsupportedModel(
            f"{fields.prefix}{key} differs from layer to layer, which is not implemented", hint=f"use one of {FAMILIES}"
        )
    return Fields({fields.prefix + key: values[0]}, fields.prefix).count(key, high)


def _head_dim(fields: Fields, dim: int, num_heads: int) -> int:
    if not fields.has("attention.key_length"):
        if dim % num_heads:
            raise fields.refuse("embedding_length", f"it must be a multiple of attention.head_count, {num_heads}")
        return dim // num_heads
    head_dim = fields.count("attention.key_length", bounds.MAX_HEAD_DIM)
    if fields.count("attention.value_length", bounds.MAX_HEAD_DIM, default=head_dim) != head_dim:
        raise UnsupportedModel(
            "keys and values of different lengths are not implemented", hint=f"use one of {FAMILIES}"
        )
    return head_dim


def vocab_size_of(checkpoint: Checkpoint, fields: Fields) -> int:
    """Return the number of the embedding's rows, which the token list and the metadata must agree with."""
    name = tensor_name(Naming.GGUF, Weight.EMBEDDING)
    info = checkpoint.tensors.get(name)
    tokens = checkpoint.metadata.get(TOKENS)
    if info is None or len(info.shape) != 2:
        # Loading names the tensor and what is wrong with it; until then the metadata's word is all there is.
        return fields.count(
            "vocab_size", bounds.MAX_VOCABULARY, default=len(tokens) if isinstance(tokens, Sequence) else 1
        )
    num_rows = info.shape[0]
    if isinstance(tokens, Sequence) and len(tokens) != num_rows:
        raise ModelError(
            f"the vocabulary has {len(tokens)} tokens, but the embedding {name} has {num_rows} rows",
            hint="the file's tokenizer belongs to another model: convert or download it again",
        )
    if fields.count("vocab_size", bounds.MAX_VOCABULARY, default=num_rows) != num_rows:
        raise fields.refuse("vocab_size", f"the embedding {name} has {num_rows} rows")
    return num_rows


def _context_length(fields: Fields) -> int:
    context_length = fields.count("context_length", bounds.MAX_CONTEXT)
    window = fields.count("attention.sliding_window", bounds.MAX_CONTEXT, low=0, default=0)
    return min(context_length, window or context_length)


def _biased(checkpoint: Checkpoint) -> frozenset[Weight]:
    return frozenset(
        weight for weight in LAYER_WEIGHTS if tensor_name(Naming.GGUF, weight, is_bias=True) in checkpoint.tensors
    )


def _rope(checkpoint: Checkpoint, fields: Fields, head_dim: int) -> RopeSpec:
    rope = RopeSpec(
        theta=fields.number("rope.freq_base", 2.0, 1e15, default=10000.0),
        rotary_dim=fields.count("rope.dimension_count", bounds.MAX_HEAD_DIM, default=head_dim),
        pairs=RopePairs.INTERLEAVED,
        scaling=_scaling(fields),
    )
    if ROPE_DIVISORS not in checkpoint.tensors:
        return rope
    if rope.scaling is not None:
        raise UnsupportedModel(
            f"{ROPE_DIVISORS} together with {fields.prefix}rope.scaling is not implemented",
            hint="convert the model again from its original weights",
        )
    return RopeSpec(rope.theta, rope.rotary_dim, rope.pairs, DivisorScaling(_divisors(checkpoint)))


def _divisors(checkpoint: Checkpoint) -> tuple[float, ...]:
    divisors = read(checkpoint, ROPE_DIVISORS).reshape(-1)
    if len(divisors) > bounds.MAX_HEAD_DIM // 2 or not (np.isfinite(divisors).all() and (divisors > 0).all()):
        raise refusal(
            ROPE_DIVISORS, divisors[:8].tolist(), "it must hold a positive number for each pair of rotated dimensions"
        )
    return tuple(divisors.tolist())


def _scaling(fields: Fields) -> RopeScaling | None:
    """Return the scaling that the keys under `rope.scaling` describe. A factor without a type means linear, as in
    llama.cpp.
    """
    kind = fields.text("rope.scaling.type", "linear")
    factor_key = "rope.scaling.factor" if fields.has("rope.scaling.factor") else "rope.scale_linear"
    factor = fields.number(factor_key, 0.0, 1e6, default=0.0) or 1.0
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return None
    if kind == "linear":
        return LinearScaling(factor)
    if kind == "yarn":
        return _yarn(fields, factor)
    raise UnsupportedModel(f"rope scaling of type {kind!r:.80} is not implemented", hint="types that are: linear, yarn")


def _yarn(fields: Fields, factor: float) -> YarnScaling:
    if fields.number("rope.scaling.yarn_log_multiplier", -1e3, 1e3, default=0.0):
        raise UnsupportedModel(
            f"{fields.prefix}rope.scaling.yarn_log_multiplier is not implemented", hint=f"use one of {FAMILIES}"
        )
    attention_factor = fields.number("rope.scaling.attn_factor", 1e-3, 1e3, default=1.0)
    return YarnScaling(
        factor=factor,
        original_context=fields.count(
            "rope.scaling.original_context_length",
            bounds.MAX_CONTEXT,
            default=fields.count("context_length", bounds.MAX_CONTEXT),
        ),
        amplitude=attention_factor * (0.1 * math.log(max(factor, 1.0)) + 1.0),
        beta_fast=fields.number("rope.scaling.yarn_beta_fast", 1e-3, 1e6, default=32.0),
        beta_slow=fields.number("rope.scaling.yarn_beta_slow", 1e-3, 1e6, default=1.0),
    )


def gguf_metadata(spec: ModelSpec) -> dict[str, Any]:
    """Return the metadata that `read_gguf` turns back into `spec`, together with its tensors.

    Tying, biases and rope divisors are for the tensors to tell. Raises UnsupportedModel for scalings other than these
    divisors and linear ones.
    """
    if not isinstance(spec.rope.scaling, DivisorScaling | LinearScaling | None):
        raise UnsupportedModel(f"{type(spec.rope.scaling).__name__} cannot be written to GGUF yet")
    values: dict[str, Any] = {
        "vocab_size": spec.vocab_size,
        "context_length": spec.context_length,
        "embedding_length": spec.dim,
        "block_count": spec.num_layers,
        "feed_forward_length": spec.ffn_dim,
        "attention.head_count": spec.num_heads,
        "attention.head_count_kv": spec.num_kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_rms_epsilon": spec.norm_epsilon,
        "rope.freq_base": spec.rope.theta,
        "rope.dimension_count": spec.rope.rotary_dim,
    }
    if isinstance(spec.rope.scaling, LinearScaling):
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": spec.rope.scaling.factor}
    return {"general.architecture": "llama", **{f"llama.{key}": value for key, value in values.items()}}
