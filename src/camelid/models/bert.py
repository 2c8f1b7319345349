"""The BERT architecture: encoders that read a text whole, written once over a backend's operations.

BERT proper (all-MiniLM, bge, e5, cross-encoders) and Nomic's BERT differ in numbers and in parts that are there or not:
a table of positions or rotation, a plain or a gated feed-forward layer. Nothing is generated, so there is no head but,
in models that rank, a small classifier over the first token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import Array, AttentionSpec, Batch, Ops, Vector, Weight
from camelid.errors import UnsupportedModel

from .llama import Linear
from .spec import ModelSpec


@dataclass(frozen=True, eq=False)
class Norm:
    """A placed layer norm."""

    weight: Vector
    bias: Vector


@dataclass(frozen=True, eq=False)
class BertLayer:
    """One layer's placed weights. `up` holds the gate and the up matrix where the layer is gated."""

    query_key_value: Linear
    attention_out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    ffn_norm: Norm


@dataclass(frozen=True, eq=False)
class Classifier:
    """A score for each label from the first token's hidden state: a dense layer with tanh, if there is one, and a
    linear one.
    """

    dense: Linear | None
    out: Linear


@dataclass(frozen=True, eq=False)
class Bert:
    """A BERT model: its numbers and its placed weights."""

    spec: ModelSpec
    attention: AttentionSpec
    embedding: Weight
    positions: Weight | None
    segments: Weight | None
    embedding_norm: Norm
    layers: tuple[BertLayer, ...]
    classifier: Classifier | None

    def forward(self, ops: Ops, batch: Batch) -> Array:
        """Refuse: this model generates nothing. Raises UnsupportedModel."""
        raise UnsupportedModel("this model has no head to generate with", hint="it makes embeddings")

    def hidden(self, ops: Ops, batch: Batch) -> Array:
        """Run the sequences of `batch`, which are whole, and return their last hidden states: (T, dim).

        Source: Devlin et al. 2019 (BERT); Nussbaum et al. 2024 (Nomic Embed).
        """
        x = self._embed(ops, batch)
        for layer in self.layers:
            q, k, v = _apply(ops, layer.query_key_value, x)
            (attended,) = _apply(ops, layer.attention_out, ops.attend_whole(q, k, v, self.attention, batch))
            x = self._norm(ops, layer.attention_norm, x, attended)
            inner = _apply(ops, layer.up, x)  # (T, ffn_dim): one, or gate and up
            (fed,) = _apply(ops, layer.down, ops.gate(*inner) if len(inner) == 2 else ops.gelu(*inner))
            x = self._norm(ops, layer.ffn_norm, x, fed)
        return x

    def scores(self, ops: Ops, batch: Batch) -> Array:
        """Return what the classifier makes of the first token of each sequence: (S, labels). Raises
        UnsupportedModel.
        """
        if self.classifier is None:
            raise UnsupportedModel("this model has no classifier", hint="rank with a model that was made for it")
        x = ops.rows(self.hidden(ops, batch), batch.row_starts[:-1])
        if self.classifier.dense is not None:
            (x,) = _apply(ops, self.classifier.dense, x)
            x = ops.tanh(x)
        (scores,) = _apply(ops, self.classifier.out, x)
        return scores

    def _embed(self, ops: Ops, batch: Batch) -> Array:
        parts = [ops.embed(batch.ids, self.embedding)]
        if self.positions is not None:
            parts.append(ops.embed(batch.positions, self.positions))
        if self.segments is not None:
            parts.append(ops.embed(self._segments(batch), self.segments))
        return self._norm(ops, self.embedding_norm, *parts)

    def _segments(self, batch: Batch) -> NDArray[np.int32]:
        """Return which segment each token belongs to; models that know one only have all in it."""
        is_one = self.spec.encoder is None or self.spec.encoder.num_segments == 1
        return np.zeros_like(batch.ids) if batch.segments is None or is_one else batch.segments

    def _norm(self, ops: Ops, norm: Norm, *parts: Array) -> Array:
        return ops.layer_norm(parts, norm.weight, norm.bias, self.spec.norm_epsilon)


def _apply(ops: Ops, linear: Linear, x: Array) -> tuple[Array, ...]:
    return ops.linear(x, linear.weights, linear.biases)
