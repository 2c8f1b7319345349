"""Makes a ModelSpec from the GGUF metadata of models that only read: llama.cpp's `bert` and `nomic-bert`.

Apart from `spec_gguf.py` because other keys count, and because what parts such a model has is told by its tensors.
"""

from __future__ import annotations

import logging
import math

from camelid.backends.base import RopePairs
from camelid.errors import UnsupportedModel
from camelid.formats.checkpoint import Checkpoint

from . import spec as bounds
from .fields import Fields
from .names import Naming, tensor_name
from .spec import EncoderSpec, ModelSpec, Pooling, RopeSpec, Weight
from .spec_gguf import read_pooling, vocab_size_of
from .weights import ENCODER_WEIGHTS, HEAD_WEIGHTS

ENCODERS = ("bert", "nomic-bert")
NORMS = frozenset({Weight.EMBEDDING_NORM, Weight.ATTENTION_OUT_NORM, Weight.FFN_OUT_NORM})
_log = logging.getLogger(__name__)
MAX_SEGMENTS = 1 << 10
MAX_LABELS = 1 << 16


def read_encoder(checkpoint: Checkpoint) -> ModelSpec:
    """Return the spec. Raises ModelError and UnsupportedModel, neither of which names the file."""
    architecture = Fields(checkpoint.metadata).text("general.architecture")
    fields = Fields(checkpoint.metadata, f"{architecture}.")
    _refuse_features(fields)
    num_heads = fields.count("attention.head_count", bounds.MAX_HEADS)
    dim = fields.count("embedding_length", bounds.MAX_DIM)
    if dim % num_heads:
        raise fields.refuse("embedding_length", f"it must be a multiple of attention.head_count, {num_heads}")
    encoder = _encoder(checkpoint)
    if encoder.num_labels and not encoder.has_dense:
        _log.warning(
            "the classifier has no dense layer: converters leave BERT's out, and the scores are not what was trained"
        )
    pooling = read_pooling(fields) or (Pooling.RANK if encoder.num_labels else Pooling.MEAN)
    if pooling is Pooling.RANK and not encoder.num_labels:
        raise UnsupportedModel("the model is to rank, but has no classifier", hint="convert it again, with cls.output")
    return ModelSpec(
        architecture=architecture,
        dim=dim,
        num_layers=fields.count("block_count", bounds.MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=dim // num_heads,
        ffn_dim=fields.count("feed_forward_length", bounds.MAX_FFN_DIM),
        vocab_size=vocab_size_of(checkpoint, fields),
        context_length=_context_length(checkpoint, fields),
        norm_epsilon=fields.number("attention.layer_norm_epsilon", 1e-14, 0.1),
        softmax_scale=1.0 / math.sqrt(dim // num_heads),
        rope=_rope(fields, dim // num_heads, encoder),
        is_tied=True,
        biased=NORMS | {w for w in (*ENCODER_WEIGHTS, *HEAD_WEIGHTS) if _has(checkpoint, w, is_bias=True)},
        pooling=pooling,
        encoder=encoder,
    )


def _refuse_features(fields: Fields) -> None:
    if fields.flag("attention.causal", False):
        raise UnsupportedModel("an encoder with causal attention is not implemented")
    if fields.count("expert_count", 1 << 16, low=0, default=0):
        raise UnsupportedModel("mixture-of-experts encoders are not implemented", hint="nomic-embed-text v1.5 is one")
    if fields.number("attention.max_alibi_bias", 0.0, 1e9, default=0.0):
        raise UnsupportedModel("encoders with ALiBi (Jina's) are not implemented")


def _encoder(checkpoint: Checkpoint) -> EncoderSpec:
    """Return which parts the model has."""
    return EncoderSpec(
        num_segments=_num_rows(checkpoint, Weight.SEGMENTS, MAX_SEGMENTS),
        num_positions=_num_rows(checkpoint, Weight.POSITIONS, bounds.MAX_CONTEXT),
        num_labels=_num_rows(checkpoint, Weight.CLASSIFIER, MAX_LABELS),
        has_dense=_has(checkpoint, Weight.CLASSIFIER_DENSE),
        is_gated=_has(checkpoint, Weight.GATE),
        is_fused=_has(checkpoint, Weight.QUERY_KEY_VALUE),
    )


def _context_length(checkpoint: Checkpoint, fields: Fields) -> int:
    context_length = fields.count("context_length", bounds.MAX_CONTEXT)
    return min(context_length, _num_rows(checkpoint, Weight.POSITIONS, bounds.MAX_CONTEXT) or context_length)


def _rope(fields: Fields, head_dim: int, encoder: EncoderSpec) -> RopeSpec:
    """Return how positions turn: not at all where there is a table of them."""
    if encoder.num_positions:
        return RopeSpec(10000.0, 0, RopePairs.HALVES)
    if fields.text("rope.scaling.type", "none") != "none":
        raise UnsupportedModel("encoders with scaled rotation are not implemented")
    return RopeSpec(fields.number("rope.freq_base", 2.0, 1e15, default=10000.0), head_dim, RopePairs.HALVES)


def _has(checkpoint: Checkpoint, weight: Weight, *, is_bias: bool = False) -> bool:
    return tensor_name(Naming.GGUF, weight, 0, is_bias=is_bias) in checkpoint.tensors


def _num_rows(checkpoint: Checkpoint, weight: Weight, most: int) -> int:
    """Return the rows of a matrix that may be absent: then 0."""
    info = checkpoint.tensors.get(tensor_name(Naming.GGUF, weight))
    return min(info.shape[0], most) if info is not None and len(info.shape) == 2 else 0
