"""Makes a ModelSpec from Meta's params.json, and back.

The file says less than the others: the width of the inner layers is a rule of three numbers, and the context length is
nowhere. What it leaves out is known of the models that Meta published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from camelid.backends.base import RopePairs
from camelid.errors import UnsupportedModel
from camelid.formats.checkpoint import Checkpoint

from . import spec as bounds
from .fields import Fields
from .names import Naming, tensor_name
from .spec import Llama3Scaling, ModelSpec, RopeSpec, Weight

# Meta's own numbers for use_scaled_rope. The factor of the small 3.2 models is 32, and no parameter says so.
LOW_FACTOR, HIGH_FACTOR, ORIGINAL_CONTEXT = 1.0, 4.0, 8192
FACTOR, SMALL_FACTOR, SMALL_DIM = 8.0, 32.0, 4096
MULTIPLES = (4096, 1024, 256, 32, 8, 1)


def read_meta(checkpoint: Checkpoint) -> ModelSpec:
    """Return the spec. Raises ModelError and UnsupportedModel, neither of which names the file."""
    fields = Fields(checkpoint.metadata)
    if fields.has("quantization_args") or fields.has("lora_args") or fields.has("vision_chunk_size"):
        raise UnsupportedModel("quantized, adapted and vision models are not read from Meta's layout")
    dim = fields.count("dim", bounds.MAX_DIM)
    num_heads = fields.count("n_heads", bounds.MAX_HEADS)
    if dim % num_heads:
        raise fields.refuse("dim", f"it must be a multiple of n_heads, {num_heads}")
    head_dim = dim // num_heads
    embedding = checkpoint.tensors.get(tensor_name(Naming.META, Weight.EMBEDDING))
    num_rows = embedding.shape[0] if embedding is not None else 1
    given_rows = fields.count("vocab_size", bounds.MAX_VOCABULARY, default=num_rows, low=-1)  # Llama 2 says -1
    is_scaled = fields.flag("use_scaled_rope", False)
    theta = fields.number("rope_theta", 2.0, 1e15, default=10000.0)
    return ModelSpec(
        architecture="llama",
        dim=dim,
        num_layers=fields.count("n_layers", bounds.MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=fields.count("n_kv_heads", bounds.MAX_HEADS, default=num_heads),
        head_dim=head_dim,
        ffn_dim=_ffn_dim(fields, dim),
        vocab_size=num_rows if given_rows < 1 else given_rows,
        context_length=fields.count("max_seq_len", bounds.MAX_CONTEXT, default=_context(is_scaled, theta)),
        norm_epsilon=fields.number("norm_eps", 1e-12, 0.1),
        softmax_scale=1.0 / math.sqrt(head_dim),
        rope=RopeSpec(theta, head_dim, RopePairs.INTERLEAVED, _scaling(fields, dim) if is_scaled else None),
        is_tied=tensor_name(Naming.META, Weight.HEAD) not in checkpoint.tensors,
    )


def meta_params(spec: ModelSpec) -> dict[str, Any]:
    """Return the params.json that `read_meta` turns back into `spec`, together with its tensors.

    Raises UnsupportedModel for what Meta's layout cannot say.
    """
    if spec.biased or spec.head_dim * spec.num_heads != spec.dim or spec.rope.rotary_dim != spec.head_dim:
        raise UnsupportedModel("Meta's layout has no biases, and heads as wide as the model together")
    base = int(8 * spec.dim / 3)
    values: dict[str, Any] = {
        "dim": spec.dim,
        "n_layers": spec.num_layers,
        "n_heads": spec.num_heads,
        "n_kv_heads": spec.num_kv_heads,
        "vocab_size": spec.vocab_size,
        "multiple_of": next(multiple for multiple in MULTIPLES if spec.ffn_dim % multiple == 0),
        "ffn_dim_multiplier": spec.ffn_dim / base,
        "norm_eps": float(f"{spec.norm_epsilon:.7g}"),  # 1e-5 that was once a float32
        "rope_theta": spec.rope.theta,
        "use_scaled_rope": spec.rope.scaling is not None,
    }
    scaling = spec.rope.scaling
    if scaling is not None:
        if not isinstance(scaling, Llama3Scaling) or scaling != Llama3Scaling(
            scaling.factor, LOW_FACTOR, HIGH_FACTOR, ORIGINAL_CONTEXT
        ):
            raise UnsupportedModel(f"Meta's layout cannot say {scaling}")
        values["rope_scaling_factor"] = scaling.factor
    if spec.context_length != _context(scaling is not None, spec.rope.theta):
        values["max_seq_len"] = spec.context_length
    return values


def _scaling(fields: Fields, dim: int) -> Llama3Scaling:
    factor = fields.number("rope_scaling_factor", 1.0, 1e6, default=SMALL_FACTOR if dim < SMALL_DIM else FACTOR)
    return Llama3Scaling(factor, LOW_FACTOR, HIGH_FACTOR, ORIGINAL_CONTEXT)


def _ffn_dim(fields: Fields, dim: int) -> int:
    """Return the width of the inner layers. Source: llama-models, FeedForward of models/llama3/model.py."""
    multiple = fields.count("multiple_of", bounds.MAX_DIM, default=256)
    width = int(2 * (4 * dim) / 3)
    if fields.has("ffn_dim_multiplier"):
        width = int(fields.number("ffn_dim_multiplier", 1e-3, 1e3) * width)
    return multiple * -(-width // multiple)


def _context(is_scaled: bool, theta: float) -> int:
    """Return the context of the generation that the rotation tells: Llama 3.1 and later, 3, 2."""
    return 131_072 if is_scaled else 8192 if theta >= 500_000 else 4096


def is_meta(metadata: Mapping[str, Any]) -> bool:
    """Whether metadata are those of params.json."""
    return "n_layers" in metadata and "dim" in metadata and "model_type" not in metadata
