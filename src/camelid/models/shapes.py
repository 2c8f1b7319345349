"""The shapes of published models, by the names people use for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from camelid.backends.base import RopePairs
from camelid.errors import InvalidRequest

from .rope import inverse_frequencies, llama3_divisors
from .spec import MAX_LAYERS, DivisorScaling, Llama3Scaling, ModelSpec, RopeSpec

LLAMA3_VOCABULARY = 128_256


@dataclass(frozen=True)
class Shape:
    """What differs between the models of the Llama 3.1 and 3.2 families. Source: their published config.json."""

    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_dim: int
    is_tied: bool
    rope_factor: float
    vocab_size: int = LLAMA3_VOCABULARY


SHAPES = {
    "tiny": Shape(256, 4, 4, 2, 64, 768, is_tied=True, rope_factor=8.0, vocab_size=512),  # not published: for tests
    "1b": Shape(2048, 16, 32, 8, 64, 8192, is_tied=True, rope_factor=32.0),  # Llama 3.2 1B
    "3b": Shape(3072, 28, 24, 8, 128, 8192, is_tied=True, rope_factor=32.0),  # Llama 3.2 3B
    "8b": Shape(4096, 32, 32, 8, 128, 14336, is_tied=False, rope_factor=8.0),  # Llama 3.1 8B
    "70b": Shape(8192, 80, 64, 8, 128, 28672, is_tied=False, rope_factor=8.0),  # Llama 3.1 and 3.3 70B
    "405b": Shape(16384, 126, 128, 8, 128, 53248, is_tied=False, rope_factor=8.0),  # Llama 3.1 405B
}


def shape_spec(name: str, *, num_layers: int | None = None, vocab_size: int | None = None) -> ModelSpec:
    """Return the spec of a shape, as its GGUF file gives it, with another number of layers or tokens if asked for.

    Raises InvalidRequest for a name that is not known.
    """
    shape = SHAPES.get(name.lower())
    if shape is None:
        raise InvalidRequest(f"no shape is called {name!r:.80}", field="shape", hint=f"use one of {', '.join(SHAPES)}")
    if num_layers is not None and not 1 <= num_layers <= MAX_LAYERS:
        raise InvalidRequest(f"the number of layers must be 1–{MAX_LAYERS}, got {num_layers}", field="num_layers")
    return ModelSpec(
        architecture="llama",
        dim=shape.dim,
        num_layers=num_layers or shape.num_layers,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        ffn_dim=shape.ffn_dim,
        vocab_size=vocab_size or shape.vocab_size,
        context_length=131_072,
        norm_epsilon=float(np.float32(1e-5)),  # as a GGUF file gives it back
        softmax_scale=1.0 / math.sqrt(shape.head_dim),
        rope=_rope(shape),
        is_tied=shape.is_tied,
    )


def _rope(shape: Shape) -> RopeSpec:
    plain = RopeSpec(500_000.0, shape.head_dim, RopePairs.INTERLEAVED)
    scaling = Llama3Scaling(shape.rope_factor, low_factor=1.0, high_factor=4.0, original_context=8192)
    divisors = llama3_divisors(inverse_frequencies(plain), scaling).astype(np.float32)
    return replace(plain, scaling=DivisorScaling(tuple(divisors.tolist())))
