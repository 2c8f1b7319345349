"""Which weights a model has, and in which shapes: the list that loading checks, synthesis writes and memory counts.

It follows from the spec alone. What the tensors are called is in `names.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .spec import ModelSpec, Weight

LAYER_WEIGHTS = (
    Weight.ATTENTION_NORM,
    Weight.QUERY,
    Weight.KEY,
    Weight.VALUE,
    Weight.ATTENTION_OUT,
    Weight.FFN_NORM,
    Weight.GATE,
    Weight.UP,
    Weight.DOWN,
)


@dataclass(frozen=True)
class Slot:
    """One tensor that a model needs: its place and its shape. `layer` is 0 for weights that belong to no layer."""

    weight: Weight
    layer: int
    is_bias: bool
    shape: tuple[int, ...]


def weight_shape(spec: ModelSpec, weight: Weight) -> tuple[int, ...]:
    """Return the shape of a weight: (rows, columns) for a matrix, (dim,) for a norm."""
    queries = spec.num_heads * spec.head_dim
    keys = spec.num_kv_heads * spec.head_dim
    match weight:
        case Weight.EMBEDDING | Weight.HEAD:
            return (spec.vocab_size, spec.dim)
        case Weight.ATTENTION_NORM | Weight.FFN_NORM | Weight.FINAL_NORM:
            return (spec.dim,)
        case Weight.QUERY:
            return (queries, spec.dim)
        case Weight.KEY | Weight.VALUE:
            return (keys, spec.dim)
        case Weight.ATTENTION_OUT:
            return (spec.dim, queries)
        case Weight.GATE | Weight.UP:
            return (spec.ffn_dim, spec.dim)
        case Weight.DOWN:
            return (spec.dim, spec.ffn_dim)


def all_slots(spec: ModelSpec) -> Iterator[Slot]:
    """Yield every tensor that the model needs: the embedding, the layers one by one, the final norm, a head of its own
    if it has one.
    """
    yield from _slots(spec, Weight.EMBEDDING)
    for layer in range(spec.num_layers):
        for weight in LAYER_WEIGHTS:
            yield from _slots(spec, weight, layer)
    yield from _slots(spec, Weight.FINAL_NORM)
    if not spec.is_tied:
        yield from _slots(spec, Weight.HEAD)


def _slots(spec: ModelSpec, weight: Weight, layer: int = 0) -> Iterator[Slot]:
    shape = weight_shape(spec, weight)
    yield Slot(weight, layer, False, shape)
    if weight in spec.biased:
        yield Slot(weight, layer, True, shape[:1])
