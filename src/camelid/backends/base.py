"""What a backend owes: the operations that a model's forward pass is written in, and the memory they work on.

The operations are coarse so that each side may fuse inside: `linear` hides dequantization and the quantization of its
input, `attend` hides rotation, the page writes and paged attention. A model says neither device nor block type; a
backend knows no model names and no text. Three backends implement this file (reference, cpu, gpu) and never import each
other. `Array` is whatever the backend computes with; only `run` and `sample` speak numpy.

Promise of the `cpu` backend (and of no other by default): a token's logits depend on the tokens before it and on
nothing else. Not on the other rows of the batch, how the prompt was cut into chunks, the number of threads, or whether
its prefix came from the cache. So every reduction has one order, fixed by the shapes of the weight and the position,
never by the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from camelid.formats.blocks import BlockType
from camelid.formats.fast_copy import FastCopy, Fill, Matrix
from camelid.rules import Rules
from camelid.types import Sampling

Array = Any  # numpy for reference and cpu, a torch tensor for gpu
Weight = Any  # a placed weight matrix, opaque to the model: (rows, columns), y = x · Wᵀ
Vector = Any  # a placed norm or bias
LowRank = Any  # a placed pair of small matrices, opaque to the model: it adds up · (down · x)

PAGE_TOKENS = 32  # positions per page: one page of keys is one or two cache lines wide per dimension on every CPU


class Axis(Enum):
    """Along what a matrix is cut. Cut by rows, each part gives a part of the outputs; cut by columns, each takes a part
    of the inputs, and what the parts give is summed.
    """

    ROWS = 0
    COLUMNS = 1


@dataclass(frozen=True)
class Part:
    """Rows or columns `start` … `stop` − 1, of `whole`: what one of several ranks has of a matrix."""

    axis: Axis
    start: int
    stop: int
    whole: int


@dataclass(frozen=True)
class Team:
    """The ranks that compute one model together, and which of them this process is.

    `meeting` is a folder that exists on this machine for this team alone: there the ranks find each other.
    """

    rank: int
    size: int
    meeting: str


@dataclass(frozen=True)
class Tensor:
    """A weight as it lies in the file.

    `rows` is (shape[0], bytes per row) of uint8, usually a view of the mapped file. Where `part` is given, this is that
    part of a matrix, and `shape` is the part's; only a backend that was opened for several ranks is given one.
    """

    name: str
    shape: tuple[int, ...]
    block_type: BlockType
    rows: NDArray[np.uint8]
    part: Part | None = None


class RopePairs(Enum):
    """Which two elements of a head rotate together."""

    INTERLEAVED = "interleaved"  # (2i, 2i + 1): Meta's checkpoints and GGUF's `llama`
    HALVES = "halves"  # (i, i + D/2): Hugging Face's checkpoints


@dataclass(frozen=True, eq=False)
class AttentionSpec:
    """All that attention needs to know of a model, the same for every layer.

    `inverse_frequencies` is (rotary dimensions / 2,) float64, already scaled (Llama 3.1, linear, YaRN); elements of a
    head beyond the rotary dimensions are not rotated. `rope_amplitude` multiplies cos and sin (YaRN's attention factor,
    else 1). Scores are q·k × `softmax_scale`.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    inverse_frequencies: NDArray[np.float64]
    rope_pairs: RopePairs
    softmax_scale: float
    rope_amplitude: float = 1.0


class CacheType(Enum):
    """How keys and values are kept: as floats, or as codes of 8 bits with a scale for each token and head."""

    F32 = "f32"
    F16 = "f16"
    I8 = "q8_0"

    @property
    def bits(self) -> int:
        """Return the size of a number kept, its share of a scale apart."""
        return {CacheType.F32: 32, CacheType.F16: 16, CacheType.I8: 8}[self]


@dataclass(frozen=True, eq=False)
class Batch:
    """The arrays of one step: T new tokens of S sequences, sequence by sequence.

    Sequence s owns tokens row_starts[s] … row_starts[s + 1] − 1; their positions are consecutive. Position p of
    sequence s lives in page page_table[s, p // PAGE_TOKENS], slot p % PAGE_TOKENS. Entries of the table beyond a
    sequence's last page are never read.
    """

    ids: NDArray[np.int32]  # (T,)
    positions: NDArray[np.int32]  # (T,)
    row_starts: NDArray[np.int32]  # (S + 1,)
    page_table: NDArray[np.int32]  # (S, most pages of a sequence)
    wanted: NDArray[np.int32]  # (W,) indexes into the T tokens whose logits are wanted, ascending
    page_copies: NDArray[np.int32] = field(  # (C, 2) from, to; copied before all else
        default_factory=lambda: np.empty((0, 2), np.int32)
    )
    segments: NDArray[np.int32] | None = None  # (T,) 0 or 1: which of a pair's two texts; None: all of one text
    adapters: NDArray[np.int32] | None = None  # (S,) the number of each sequence's adapter, 0 for none; None: all none


@dataclass(frozen=True, eq=False)
class RowChange:
    """What one adapter adds to products that share their input, in the rows that use it.

    `pairs` has an entry for each product, None where the adapter leaves it as it is. Shapes: down (rank, columns), up
    (rows of W, rank).
    """

    rows: NDArray[np.int32]  # ascending
    pairs: tuple[LowRank | None, ...]


@dataclass(frozen=True)
class SpreadDraw:
    """What a search with beams asks of a row: its `count` best tokens instead of one.

    With `samples` they are drawn, without replacement, from what temperature and filters leave, which is `keep` tokens
    at least.
    """

    count: int
    samples: bool = False
    keep: int = 1


@dataclass(frozen=True, eq=False)
class Spread:
    """The best tokens that may follow, by ascending id, fewer than asked for if there are no more.

    `scores` are log-probabilities after all that changes them. `noise` is there where they were drawn: added to the
    scores, it makes the best of several rows together a draw from all of them. `logprobs` are the model's own, where
    log-probabilities are asked for.
    """

    ids: NDArray[np.intp]
    scores: NDArray[np.float32]
    noise: NDArray[np.float64] | None = None
    logprobs: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class Draw:
    """All that decides how one row of logits becomes a token.

    `prompt` and `answer` are the ids so far, for the penalties.
    """

    sampling: Sampling
    choice: int
    position: int  # of the token to be drawn; with seed and choice it keys the generator
    prompt: Sequence[int]
    answer: Sequence[int]
    banned: frozenset[int] = frozenset()  # ids that must not be drawn (end tokens before min_tokens)
    top_logprobs: int | None = None
    allowed: bytes | None = None  # bit i % 8 of byte i // 8: whether a grammar lets id i be drawn; None: it lets all
    given: int | None = None  # the token is known already: only its log-probability is wanted
    rules: Rules | None = None
    ends: frozenset[int] = frozenset()  # ids that end an answer; looked at by rules only
    is_last: bool = False  # the answer may have no token behind this one; looked at by rules only
    spread: SpreadDraw | None = None  # a search wants to know the best tokens; none is drawn
    is_guide: bool = False  # the row guides the one before it, whose rules say how much; nothing is drawn


@dataclass(frozen=True)
class Drawn:
    """A drawn token, with its log-probability and the likeliest alternatives if they were asked for."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    spread: Spread | None = None


class Ops(Protocol):
    """The operations. T counts the new tokens of the whole batch; activations are (T, n) float.

    Only operations look into what operations return: it may not be filled before the forward pass has ended.
    """

    def embed(self, ids: NDArray[np.int32], table: Weight) -> Array:
        """Return the rows `ids` of the embedding table: (T, dim)."""

    def norm(self, x: Array, weight: Vector, epsilon: float) -> Array:
        """Return x / sqrt(mean(x²) + epsilon) × weight, row by row. Source: Zhang and Sennrich 2019 (RMSNorm)."""

    def add_norm(self, x: Array, delta: Array, weight: Vector, epsilon: float) -> tuple[Array, Array]:
        """Return (x + delta, norm(x + delta)). May work in place: the caller does not use `x` or `delta` again."""

    def linear(self, x: Array, weights: Sequence[Weight], biases: Sequence[Vector | None] = ()) -> tuple[Array, ...]:
        """Return x · Wᵀ (+ bias) for each weight; they share their input so that it is prepared once.

        Each is (T, rows of W).
        """

    def add_low_rank(self, outputs: Sequence[Array], x: Array, changes: Sequence[RowChange]) -> tuple[Array, ...]:
        """Return `outputs`, products of x, with what `changes` add to some of their rows. May work in place.

        No row is in two of the changes. What a row gets depends on its own values and pairs only. Source: Hu et al.
        2021 (LoRA).
        """

    def attend(self, q: Array, k: Array, v: Array, layer: int, batch: Batch) -> Array:
        """Rotate q and k, write k and v to this layer's pages, and attend causally.

        q: (T, H·D); k, v: (T, K·D), H a multiple of K; query head h reads key/value head h // (H / K). Returns
        (T, H·D). Source: Kwon et al. 2023 (PagedAttention); Ainslie et al. 2023 (grouped queries).
        """

    def gate(self, gate: Array, up: Array) -> Array:
        """Return silu(gate) × up, with silu(z) = z / (1 + exp(−z)).

        Source: Shazeer 2020 (SwiGLU). May work in place.
        """

    def layer_norm(self, parts: Sequence[Array], weight: Vector, bias: Vector, epsilon: float) -> Array:
        """Return (s − mean(s)) / sqrt(variance(s) + epsilon) × weight + bias, row by row, with s the sum of `parts`.

        Source: Ba et al. 2016 (layer normalization).
        """

    def gelu(self, x: Array) -> Array:
        """Return x × Φ(x), with Φ the normal distribution's. May work in place. Source: Hendrycks and Gimpel 2016."""

    def attend_whole(self, q: Array, k: Array, v: Array, attention: AttentionSpec, batch: Batch) -> Array:
        """Rotate q and k, and let every token attend to all tokens of its sequence: nothing is kept in pages.

        The batch holds its sequences whole. Shapes as for `attend`. Source: Vaswani et al. 2017; Devlin et al. 2019.
        """

    def rows(self, x: Array, indexes: NDArray[np.int32]) -> Array:
        """Return the rows `indexes` of x."""

    def tanh(self, x: Array) -> Array:
        """Return tanh(x). May work in place."""

    def logits(self, x: Array, head: Weight, wanted: NDArray[np.int32]) -> Array:
        """Return the scores of all vocabulary entries for the rows `wanted`: (W, V)."""


class Forward(Protocol):
    """A model, as a backend sees it."""

    def forward(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return the logits of its wanted rows: (W, V)."""


@dataclass(frozen=True)
class Memory:
    """Bytes that this backend's memory has, and those that are free for weights and pages, within container limits."""

    total_bytes: int
    available_bytes: int


class Measured(Protocol):
    """What can be known of a backend before it is opened: what pages take on it, and what memory it has."""

    @property
    def name(self) -> str:
        """What it computes on, for people to read."""

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        """Return the bytes of one page over all layers."""

    def memory(self) -> Memory:
        """Say how much memory there is."""


class Backend(Protocol):
    """One place to compute. An instance serves one model: its weights and its pages."""

    @property
    def name(self) -> str:
        """`reference`, `cpu` or `gpu`, with what it runs on, for logs: `cpu (avx512, 2 threads)`."""

    def place(self, tensor: Tensor) -> Weight:
        """Take a weight matrix in.

        May keep a view of its bytes instead of a copy. Raises UnsupportedFormat for its block type.
        """

    def place_vector(self, values: NDArray[np.float32]) -> Vector:
        """Take a norm or a bias in."""

    def place_low_rank(self, down: NDArray[np.floating], up: NDArray[np.floating], scale: float) -> LowRank:
        """Take a pair in: scale × up (rows, rank) · down (rank, columns), both float32 or both float16."""

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        """Return the bytes of one page over all layers."""

    def open_pages(self, attention: AttentionSpec, cache_type: CacheType, num_pages: int) -> None:
        """Allocate the pages. Raises OutOfMemory."""

    def run(self, model: Forward, batch: Batch) -> Array:
        """Copy the pages that `batch` names, run the forward pass, return the logits (W, V) as `sample` takes them.

        Raises OutOfMemory where what a batch needs for a moment is not to be had; nothing that is kept is lost.
        """

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers: (page_bytes,)."""

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave, of this page or another one, in this process or another one."""

    def sample(self, logits: Array, draws: Sequence[Draw]) -> list[Drawn]:
        """Draw one token for each row of logits."""

    def memory(self) -> Memory:
        """Say how much memory there is."""


@runtime_checkable
class Copier(Protocol):
    """A backend that reads weights faster from a copy of them in a layout of its own. The results are the same."""

    @property
    def layout(self) -> str:
        """The layout's name; another one for every change of it."""

    def read_from(self, copy: FastCopy) -> None:
        """Take the weights that are placed from now on out of the copy, where they are in it."""

    def copyable(self) -> tuple[Sequence[Matrix], Fill]:
        """Return the placed weights that a copy would be of, and what fills it. Both may be used in another thread."""
