"""The numbers of an architecture: one frozen value that everything above the file formats works from.

A `ModelSpec` that exists is consistent. `spec_gguf.py` and `spec_hf.py` make one from a checkpoint's metadata. It knows
no tensors' names and no backend's memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from camelid.backends.base import RopePairs

from .fields import refusal

# Bounds for believing a file: several times what any model of the family has (Llama 3.1 405B: 16384 wide, 126 layers).
MAX_DIM = 1 << 17
MAX_LAYERS = 1 << 12
MAX_HEADS = 1 << 12
MAX_HEAD_DIM = 1 << 10
MAX_FFN_DIM = 1 << 20
MAX_VOCABULARY = 1 << 22
MAX_CONTEXT = 1 << 25


@dataclass(frozen=True)
class LinearScaling:
    """Positions divided by `factor`. Source: Chen et al. 2023 (position interpolation)."""

    factor: float


@dataclass(frozen=True)
class YarnScaling:
    """Slow frequencies divided by `factor`, fast ones left, a ramp between. Source: Peng et al. 2023 (YaRN).

    A frequency is fast when it turns more than `beta_fast` times within the original context, slow below `beta_slow`
    turns. `amplitude` multiplies cos and sin.
    """

    factor: float
    original_context: int
    amplitude: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    is_truncated: bool = True  # the ramp's ends are rounded outwards to whole dimensions


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's scaling: wavelengths beyond original_context / low_factor are stretched by `factor`, those below
    original_context / high_factor are left, and between the two the frequency is blended. Source: Meta's llama-models,
    `apply_scaling`.
    """

    factor: float
    low_factor: float
    high_factor: float
    original_context: int


@dataclass(frozen=True)
class DivisorScaling:
    """Every frequency divided by its own number: Llama 3.1's scaling as GGUF's `rope_freqs` tensor spells it out."""

    divisors: tuple[float, ...]  # rotary_dim / 2


RopeScaling = LinearScaling | YarnScaling | Llama3Scaling | DivisorScaling


@dataclass(frozen=True)
class RopeSpec:
    """How positions turn queries and keys. The first `rotary_dim` elements of a head rotate."""

    theta: float
    rotary_dim: int
    pairs: RopePairs
    scaling: RopeScaling | None = None


class Weight(Enum):
    """What a weight does. Matrices are (rows, columns) and apply as y = x · Wᵀ; norms are vectors."""

    EMBEDDING = "embedding"
    FINAL_NORM = "final_norm"
    HEAD = "head"
    ATTENTION_NORM = "attention_norm"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    ATTENTION_OUT = "attention_out"
    FFN_NORM = "ffn_norm"
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    # models that only read
    SEGMENTS = "segments"
    POSITIONS = "positions"
    EMBEDDING_NORM = "embedding_norm"
    QUERY_KEY_VALUE = "query_key_value"  # one matrix for the three
    ATTENTION_OUT_NORM = "attention_out_norm"
    FFN_OUT_NORM = "ffn_out_norm"
    CLASSIFIER_DENSE = "classifier_dense"
    CLASSIFIER = "classifier"


class Pooling(Enum):
    """How the hidden states of a text become one vector; the values are GGUF's `pooling_type`."""

    MEAN = 1
    CLS = 2  # the first token's
    LAST = 3
    RANK = 4  # a classifier's score of the first token's, for pairs of texts


@dataclass(frozen=True)
class EncoderSpec:
    """Which parts a model has that only reads. A number of 0 means that the table is not there."""

    num_segments: int
    num_positions: int  # without a table of positions, queries and keys rotate
    num_labels: int  # of a classifier
    has_dense: bool  # the classifier has a layer of its own before the last
    is_gated: bool  # the feed-forward layers are gated with SiLU, else plain with GELU
    is_fused: bool  # queries, keys and values have one matrix


@dataclass(frozen=True)
class ModelSpec:
    """An architecture's numbers.

    `biased` names the matrices that have a bias in every layer. Attention is full: where the model was trained with a
    sliding window (Mistral 0.1), `context_length` ends with the window, within which sliding and full attention are the
    same.
    """

    architecture: str
    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_dim: int
    vocab_size: int
    context_length: int
    norm_epsilon: float
    softmax_scale: float  # 1 / sqrt(head_dim), unless the file says otherwise
    rope: RopeSpec
    is_tied: bool  # the head is the embedding
    biased: frozenset[Weight] = field(default_factory=frozenset)
    pooling: Pooling | None = None  # None: the file does not say
    encoder: EncoderSpec | None = None  # None: a model that generates

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            rule = f"it must be a multiple of the number of key/value heads, {self.num_kv_heads}"
            raise refusal("the number of heads", self.num_heads, rule)
        rotary_dim = self.rope.rotary_dim
        if rotary_dim % 2 or rotary_dim > self.head_dim:
            rule = f"it must be even and at most {self.head_dim}, the size of a head"
            raise refusal("the number of rotated dimensions", rotary_dim, rule)
        scaling = self.rope.scaling
        if isinstance(scaling, DivisorScaling) and len(scaling.divisors) != rotary_dim // 2:
            rule = f"it must be {rotary_dim // 2}, half the rotated dimensions"
            raise refusal("the number of rope divisors", len(scaling.divisors), rule)
