"""The Llama architecture: its forward pass, written once over a backend's operations.

Llama 2, 3, 3.1, 3.2 (text), 3.3, TinyLlama and Mistral 7B differ in numbers only, and the numbers are in the spec. This
file says neither device nor block type, and computes nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from camelid.backends.base import Array, Batch, Ops, Vector, Weight
from camelid.errors import UnsupportedModel

from .spec import ModelSpec


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
    """A Llama model: its numbers and its placed weights. `head` is the placed embedding where the two are tied."""

    spec: ModelSpec
    embedding: Weight
    layers: tuple[Layer, ...]
    final_norm: Vector
    head: Weight

    def forward(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return the logits of its wanted rows: (W, V)."""
        return ops.logits(self.hidden(ops, batch), self.head, batch.wanted)

    def hidden(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return their last hidden states, normed: (T, dim).

        Source: Touvron et al. 2023 (Llama 2); Grattafiori et al. 2024 (Llama 3).
        """
        epsilon = self.spec.norm_epsilon
        next_norms = [*(layer.attention_norm for layer in self.layers[1:]), self.final_norm]
        x = ops.embed(batch.ids, self.embedding)  # (T, dim)
        h = ops.norm(x, self.layers[0].attention_norm, epsilon)
        for index, (layer, next_norm) in enumerate(zip(self.layers, next_norms, strict=True)):
            q, k, v = _apply(ops, layer.query_key_value, h)  # (T, H·D), (T, K·D), (T, K·D)
            (attended,) = _apply(ops, layer.attention_out, ops.attend(q, k, v, index, batch))
            x, h = ops.add_norm(x, attended, layer.ffn_norm, epsilon)
            gate, up = _apply(ops, layer.gate_up, h)  # (T, ffn_dim) each
            (fed,) = _apply(ops, layer.down, ops.gate(gate, up))
            x, h = ops.add_norm(x, fed, next_norm, epsilon)
        return h

    def scores(self, ops: Ops, batch: Batch) -> Array:
        """Refuse: there is no classifier in this architecture. Raises UnsupportedModel."""
        raise UnsupportedModel("this model has no classifier", hint="rank with a model that was made for it")


def _apply(ops: Ops, linear: Linear, x: Array) -> tuple[Array, ...]:
    return ops.linear(x, linear.weights, linear.biases)
