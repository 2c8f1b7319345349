"""The Llama architecture: its forward pass, written once over a backend's operations.

Llama 2, 3, 3.1, 3.2 (text), 3.3, TinyLlama and Mistral 7B differ in numbers only, and the numbers are in the spec. This
file says neither device nor block type, and computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from camelid.backends.base import Array, Batch, Ops, RowChange, Vector, Weight
from camelid.errors import UnsupportedModel

from .low_rank import AdaptedRows, Adapters
from .spec import ModelSpec
from .spec import Weight as Role

ATTENTION_IN, ATTENTION_OUT = (Role.QUERY, Role.KEY, Role.VALUE), (Role.ATTENTION_OUT,)
FFN_IN, FFN_OUT = (Role.GATE, Role.UP), (Role.DOWN,)


@dataclass(frozen=True, eq=False)
class Linear:
    """Matrices that are applied to the same input, with a bias or None for each."""

    weights: tuple[Weight, ...]
    biases: tuple[Vector | None, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer's placed weights."""

    attention_norm: Vector
    query_key_value: Linear
    attention_out: Linear
    ffn_norm: Vector
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, eq=False)
class Llama:
    """A Llama model: its numbers and its placed weights. `head` is the placed embedding where the two are tied.

    `adapters` are those that a batch may name.
    """

    spec: ModelSpec
    embedding: Weight
    layers: tuple[Layer, ...]
    final_norm: Vector
    head: Weight
    adapters: Adapters = field(default_factory=Adapters)

    def forward(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return the logits of its wanted rows: (W, V)."""
        hidden, adapted = self.hidden(ops, batch), self.adapters.of(batch)
        logits = ops.logits(hidden, self.head, batch.wanted)
        changes = adapted.head_changes() if adapted is not None else []
        return ops.add_low_rank((logits,), ops.rows(hidden, batch.wanted), changes)[0] if changes else logits

    def hidden(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return their last hidden states, normed: (T, dim).

        Source: Touvron et al. 2023 (Llama 2); Grattafiori et al. 2024 (Llama 3).
        """
        epsilon = self.spec.norm_epsilon
        next_norms = [*(layer.attention_norm for layer in self.layers[1:]), self.final_norm]
        adapted = self.adapters.of(batch)
        x = ops.embed(batch.ids, self.embedding)  # (T, dim)
        h = ops.norm(x, self.layers[0].attention_norm, epsilon)
        for index, (layer, next_norm) in enumerate(zip(self.layers, next_norms, strict=True)):
            q, k, v = _apply(
                ops, layer.query_key_value, h, _changes(adapted, ATTENTION_IN, index)
            )  # (T, H·D), (T, K·D), (T, K·D)
            mixed = ops.attend(q, k, v, index, batch)
            (attended,) = _apply(ops, layer.attention_out, mixed, _changes(adapted, ATTENTION_OUT, index))
            x, h = ops.add_norm(x, attended, layer.ffn_norm, epsilon)
            gate, up = _apply(ops, layer.gate_up, h, _changes(adapted, FFN_IN, index))  # (T, ffn_dim) each
            (fed,) = _apply(ops, layer.down, ops.gate(gate, up), _changes(adapted, FFN_OUT, index))
            x, h = ops.add_norm(x, fed, next_norm, epsilon)
        return h

    def scores(self, ops: Ops, batch: Batch) -> Array:
        """Refuse: there is no classifier in this architecture. Raises UnsupportedModel."""
        raise UnsupportedModel("this model has no classifier", hint="rank with a model that was made for it")


def _changes(adapted: AdaptedRows | None, roles: Sequence[Role], layer: int) -> list[RowChange]:
    return adapted.changes(roles, layer) if adapted is not None else []


def _apply(ops: Ops, linear: Linear, x: Array, changes: Sequence[RowChange]) -> tuple[Array, ...]:
    outputs = ops.linear(x, linear.weights, linear.biases)
    return ops.add_low_rank(outputs, x, changes) if changes else outputs
