"""Makes a ModelSpec from a Hugging Face folder's config.json. Keys and defaults are those of Transformers' Llama and
Mistral configurations.
"""

from __future__ import annotations

import math
from typing import Any

from camelid.backends.base import RopePairs
from camelid.errors import UnsupportedModel
from camelid.formats.checkpoint import Checkpoint

from . import spec as bounds
from .fields import Fields
from .names import Naming, tensor_name
from .spec import LinearScaling, Llama3Scaling, ModelSpec, RopeScaling, RopeSpec, Weight, YarnScaling

# What Transformers takes for a key that is not there. One that is there and null means "none", or "as many as heads".
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {"max_position_embeddings": 131_072, "sliding_window": 4096, "num_key_value_heads": 8},
}
ATTENTION_MATRICES = frozenset({Weight.QUERY, Weight.KEY, Weight.VALUE, Weight.ATTENTION_OUT})
FFN_MATRICES = frozenset({Weight.GATE, Weight.UP, Weight.DOWN})
SCALINGS = "types that are: default, linear, llama3, yarn"


def read_hugging_face(checkpoint: Checkpoint) -> ModelSpec:
    """Return the spec. Raises ModelError and UnsupportedModel, neither of which names the file."""
    architecture = Fields(checkpoint.metadata).text("model_type")
    if architecture not in DEFAULTS:
        raise UnsupportedModel(
            f"the architecture {architecture!r:.80} is not implemented",
            hint=f"those that are: {', '.join(DEFAULTS)}",
        )
    fields = Fields({**DEFAULTS[architecture], **checkpoint.metadata})
    _refuse_features(fields)
    num_heads = fields.count("num_attention_heads", bounds.MAX_HEADS)
    dim = fields.count("hidden_size", bounds.MAX_DIM)
    head_dim = _head_dim(fields, dim, num_heads)
    return ModelSpec(
        architecture=architecture,
        dim=dim,
        num_layers=fields.count("num_hidden_layers", bounds.MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=fields.count("num_key_value_heads", bounds.MAX_HEADS, default=num_heads),
        head_dim=head_dim,
        ffn_dim=fields.count("intermediate_size", bounds.MAX_FFN_DIM),
        vocab_size=_vocab_size(checkpoint, fields),
        context_length=_context_length(fields, architecture),
        norm_epsilon=fields.number("rms_norm_eps", 1e-12, 0.1, default=1e-6),
        softmax_scale=1.0 / math.sqrt(head_dim),
        rope=_rope(fields, head_dim),
        is_tied=fields.flag(
            "tie_word_embeddings", tensor_name(Naming.HUGGING_FACE, Weight.HEAD) not in checkpoint.tensors
        ),
        biased=_biased(fields),
    )


def _refuse_features(fields: Fields) -> None:
    activation = fields.text("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise UnsupportedModel(f"the activation {activation!r:.80} is not implemented", hint="only silu is")
    if fields.has("quantization_config"):
        method = fields.section("quantization_config").text("quant_method", "unknown")
        raise UnsupportedModel(
            f"safetensors quantized with {method!r:.80} are not read",
            hint="use the unquantized weights, or a GGUF file",
        )


def _head_dim(fields: Fields, dim: int, num_heads: int) -> int:
    if fields.has("head_dim"):
        return fields.count("head_dim", bounds.MAX_HEAD_DIM)
    if dim % num_heads:
        raise fields.refuse("hidden_size", f"it must be a multiple of num_attention_heads, {num_heads}")
    return dim // num_heads


def _vocab_size(checkpoint: Checkpoint, fields: Fields) -> int:
    vocab_size = fields.count("vocab_size", bounds.MAX_VOCABULARY)
    name = tensor_name(Naming.HUGGING_FACE, Weight.EMBEDDING)
    info = checkpoint.tensors.get(name)
    if info is not None and len(info.shape) == 2 and info.shape[0] != vocab_size:
        raise fields.refuse("vocab_size", f"the embedding {name} has {info.shape[0]} rows")
    return vocab_size


def _context_length(fields: Fields, architecture: str) -> int:
    """Return the longest context, which ends with the window where attention slides. Only Mistral's does."""
    context_length = fields.count("max_position_embeddings", bounds.MAX_CONTEXT)
    if architecture != "mistral":
        return context_length
    return min(context_length, fields.count("sliding_window", bounds.MAX_CONTEXT, default=context_length))


def _biased(fields: Fields) -> frozenset[Weight]:
    attention = ATTENTION_MATRICES if fields.flag("attention_bias", False) else frozenset()
    return attention | (FFN_MATRICES if fields.flag("mlp_bias", False) else frozenset())


def _rope(fields: Fields, head_dim: int) -> RopeSpec:
    """Return the rope; `rope_parameters` is where newer files keep what older ones keep in `rope_theta` and
    `rope_scaling`.
    """
    scaling = fields.section("rope_parameters" if fields.has("rope_parameters") else "rope_scaling")
    where = scaling if scaling.has("rope_theta") else fields
    partial = scaling if scaling.has("partial_rotary_factor") else fields
    if partial.number("partial_rotary_factor", 0.0, 1.0, default=1.0) != 1.0:
        raise UnsupportedModel("heads that rotate in part (partial_rotary_factor) are not implemented")
    theta = where.number("rope_theta", 2.0, 1e15, default=10000.0)
    return RopeSpec(theta, head_dim, RopePairs.HALVES, _scaling(scaling, fields))


def _scaling(scaling: Fields, fields: Fields) -> RopeScaling | None:
    kind = scaling.text("rope_type" if scaling.has("rope_type") else "type", "default")
    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(_factor(scaling))
        case "llama3":
            return _llama3(scaling, fields)
        case "yarn":
            return _yarn(scaling, fields)
    raise UnsupportedModel(f"rope scaling of type {kind!r:.80} is not implemented", hint=SCALINGS)


def _factor(scaling: Fields) -> float:
    return scaling.number("factor", 1e-3, 1e6)


def _original_context(scaling: Fields, fields: Fields) -> int:
    longest = fields.count("max_position_embeddings", bounds.MAX_CONTEXT)
    return scaling.count("original_max_position_embeddings", bounds.MAX_CONTEXT, default=longest)


def _llama3(scaling: Fields, fields: Fields) -> Llama3Scaling:
    low = scaling.number("low_freq_factor", 1e-3, 1e6)
    high = scaling.number("high_freq_factor", 1e-3, 1e6)
    if high <= low:
        raise scaling.refuse("high_freq_factor", f"it must be more than low_freq_factor, {low:g}")
    return Llama3Scaling(_factor(scaling), low, high, _original_context(scaling, fields))


def _yarn(scaling: Fields, fields: Fields) -> YarnScaling:
    factor = _factor(scaling)
    return YarnScaling(
        factor=factor,
        original_context=_original_context(scaling, fields),
        amplitude=scaling.number("attention_factor", 1e-3, 1e3, default=_yarn_amplitude(scaling, factor)),
        beta_fast=scaling.number("beta_fast", 1e-3, 1e6, default=32.0),
        beta_slow=scaling.number("beta_slow", 1e-3, 1e6, default=1.0),
        is_truncated=scaling.flag("truncate", True),
    )


def _yarn_amplitude(scaling: Fields, factor: float) -> float:
    """Return YaRN's attention factor: 0.1 ln(factor) + 1, or a quotient of two such terms where both have weights."""
    above = scaling.number("mscale", 0.0, 1e3, default=0.0)
    below = scaling.number("mscale_all_dim", 0.0, 1e3, default=0.0)
    growth = 0.1 * math.log(max(factor, 1.0))
    if above and below:
        return (above * growth + 1.0) / (below * growth + 1.0)
    return growth + 1.0


def hugging_face_config(spec: ModelSpec, dtype: str) -> dict[str, Any]:
    """Return the config.json that `read_hugging_face` turns back into `spec`. dtype: as torch calls it.

    Raises UnsupportedModel for what Transformers' Llama cannot say.
    """
    has_attention, has_ffn = spec.biased >= ATTENTION_MATRICES, spec.biased >= FFN_MATRICES
    said = (ATTENTION_MATRICES if has_attention else frozenset()) | (FFN_MATRICES if has_ffn else frozenset())
    if spec.biased != said or spec.rope.rotary_dim != spec.head_dim:
        raise UnsupportedModel("Transformers' Llama has biases on all matrices of a kind, and heads that rotate whole")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": spec.dim,
        "intermediate_size": spec.ffn_dim,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.context_length,
        "rms_norm_eps": float(f"{spec.norm_epsilon:.7g}"),  # 1e-5 that was once a float32
        "rope_theta": spec.rope.theta,
        "rope_scaling": _written_scaling(spec.rope.scaling),
        "tie_word_embeddings": spec.is_tied,
        "attention_bias": has_attention,
        "mlp_bias": has_ffn,
        "torch_dtype": dtype,
    }


def _written_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    match scaling:
        case None:
            return None
        case LinearScaling(factor):
            return {"rope_type": "linear", "factor": factor}
        case Llama3Scaling(factor, low, high, original):
            factors = {"factor": factor, "low_freq_factor": low, "high_freq_factor": high}
            return {"rope_type": "llama3", **factors, "original_max_position_embeddings": original}
    raise UnsupportedModel(f"{type(scaling).__name__} cannot be written to config.json yet")
