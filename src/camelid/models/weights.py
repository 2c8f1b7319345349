"""Which weights a model has, and in which shapes: the list that loading checks, synthesis writes and memory counts.

It follows from the spec alone. What the tensors are called is in `names.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .spec import EncoderSpec, ModelSpec, Weight

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

ENCODER_WEIGHTS = (
    Weight.EMBEDDING_NORM,
    Weight.QUERY_KEY_VALUE,
    Weight.QUERY,
    Weight.KEY,
    Weight.VALUE,
    Weight.ATTENTION_OUT,
    Weight.ATTENTION_OUT_NORM,
    Weight.GATE,
    Weight.UP,
    Weight.DOWN,
    Weight.FFN_OUT_NORM,
)
HEAD_WEIGHTS = (Weight.CLASSIFIER_DENSE, Weight.CLASSIFIER)


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
        case Weight.EMBEDDING_NORM | Weight.ATTENTION_OUT_NORM | Weight.FFN_OUT_NORM:
            return (spec.dim,)
        case Weight.QUERY_KEY_VALUE:
            return (3 * queries, spec.dim)
        case Weight.CLASSIFIER_DENSE:
            return (spec.dim, spec.dim)
        case _:
            return (_num_rows(spec.encoder, weight), spec.dim)


def _num_rows(encoder: EncoderSpec | None, weight: Weight) -> int:
    """Return the rows of an encoder's own tables; a model that is none has none of them."""
    assert encoder is not None
    return {
        Weight.SEGMENTS: encoder.num_segments,
        Weight.POSITIONS: encoder.num_positions,
        Weight.CLASSIFIER: encoder.num_labels,
    }[weight]


def all_slots(spec: ModelSpec) -> Iterator[Slot]:
    """Yield every tensor that the model needs: the embedding, the layers one by one, the final norm, a head of its own
    if it has one.
    """
    if spec.encoder is not None:
        yield from _encoder_slots(spec, spec.encoder)
        return
    yield from _slots(spec, Weight.EMBEDDING)
    for layer in range(spec.num_layers):
        for weight in LAYER_WEIGHTS:
            yield from _slots(spec, weight, layer)
    yield from _slots(spec, Weight.FINAL_NORM)
    if not spec.is_tied:
        yield from _slots(spec, Weight.HEAD)


def _encoder_slots(spec: ModelSpec, encoder: EncoderSpec) -> Iterator[Slot]:
    yield from _slots(spec, Weight.EMBEDDING)
    for table, count in ((Weight.POSITIONS, encoder.num_positions), (Weight.SEGMENTS, encoder.num_segments)):
        if count:
            yield from _slots(spec, table)
    yield from _slots(spec, Weight.EMBEDDING_NORM)
    for layer in range(spec.num_layers):
        for weight in encoder_layer(encoder):
            yield from _slots(spec, weight, layer)
    if encoder.num_labels:
        for weight in HEAD_WEIGHTS if encoder.has_dense else HEAD_WEIGHTS[1:]:
            yield from _slots(spec, weight)


def encoder_layer(encoder: EncoderSpec) -> tuple[Weight, ...]:
    """Return the weights of one layer of a model that only reads."""
    split = (Weight.QUERY, Weight.KEY, Weight.VALUE)
    return (
        *((Weight.QUERY_KEY_VALUE,) if encoder.is_fused else split),
        Weight.ATTENTION_OUT,
        Weight.ATTENTION_OUT_NORM,
        *((Weight.GATE, Weight.UP) if encoder.is_gated else (Weight.UP,)),
        Weight.DOWN,
        Weight.FFN_OUT_NORM,
    )


def _slots(spec: ModelSpec, weight: Weight, layer: int = 0) -> Iterator[Slot]:
    shape = weight_shape(spec, weight)
    yield Slot(weight, layer, False, shape)
    if weight in spec.biased:
        yield Slot(weight, layer, True, shape[:1])
