"""Which part of each weight one of several ranks has, so that together they compute a model: tensor parallelism.

A plan, not a computation: query heads, the feed-forward width and the vocabulary are shared out, and every product that
ends in the running sum is cut by columns, so that the ranks sum twice in a layer. The model's own file does not know:
what is summed follows from how a weight is cut (`backends.base.Part`). Source: Shoeybi et al. 2019 (Megatron-LM).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from camelid.backends.base import Axis, Part
from camelid.errors import InvalidSetting
from camelid.formats.blocks import BlockType, decode, encode
from camelid.formats.checkpoint import Checkpoint, Piece, read_piece

from .spec import ModelSpec, Weight

RANKS = (1, 2, 4, 8)
FFN_UNITS = (256, 32, 1)  # columns that stay together: first so that no block is cut
SLAB_ROWS = 1024

_HEADS = (Weight.QUERY, Weight.ATTENTION_OUT)
_PAST = (Weight.KEY, Weight.VALUE)
_WIDTH = (Weight.GATE, Weight.UP, Weight.DOWN)
_WORDS = (Weight.EMBEDDING, Weight.HEAD)
_BY_COLUMNS = (Weight.ATTENTION_OUT, Weight.DOWN)


@dataclass(frozen=True)
class Share:
    """Rank `rank` of `ranks`."""

    rank: int = 0
    ranks: int = 1


ALL = Share()


def check_ranks(spec: ModelSpec, ranks: int) -> None:
    """Raise InvalidSetting unless a model can be shared out to so many ranks."""
    if ranks == 1:
        return
    if spec.encoder is not None:
        raise InvalidSetting("a model that only reads is not shared out to several ranks", hint="--tensor-parallel 1")
    if spec.num_heads % ranks or max(ranks, spec.num_kv_heads) % min(ranks, spec.num_kv_heads):
        raise InvalidSetting(
            f"tensor_parallel must divide the model's {spec.num_heads} heads, and divide its {spec.num_kv_heads} "
            f"key/value heads or be a multiple of them; got {ranks}"
        )


def part_of(spec: ModelSpec, weight: Weight, share: Share) -> Part | None:
    """Return what a rank has of a weight, None for all of it."""
    if share.ranks == 1:
        return None
    axis = Axis.COLUMNS if weight in _BY_COLUMNS else Axis.ROWS
    if weight in _HEADS:
        return _part(axis, spec.num_heads * spec.head_dim, *_even(spec.num_heads, share), spec.head_dim)
    if weight in _PAST:
        return _part(axis, spec.num_kv_heads * spec.head_dim, *_past_heads(spec, share), spec.head_dim)
    if weight in _WIDTH:
        unit = next(unit for unit in FFN_UNITS if spec.ffn_dim % unit == 0 and spec.ffn_dim >= unit * share.ranks)
        return _part(axis, spec.ffn_dim, *_even(spec.ffn_dim // unit, share), unit)
    if weight in _WORDS:
        return Part(axis, *_words(spec, share), spec.vocab_size)
    return None


def local_spec(spec: ModelSpec, ranks: int) -> ModelSpec:
    """Return the numbers of what one rank attends with: its share of the heads."""
    return replace(spec, num_heads=spec.num_heads // ranks, num_kv_heads=max(1, spec.num_kv_heads // ranks))


@dataclass(frozen=True)
class Shard:
    """The bytes of a part: rows of blocks, and their type."""

    rows: np.ndarray
    block_type: BlockType


def read_part(checkpoint: Checkpoint, name: str, part: Part | None) -> Shard:
    """Return a part of a matrix, or all of it. Only what belongs to it is read.

    A part whose columns cut blocks in two is decoded and written anew with 16 bits a weight.
    """
    kind = checkpoint.tensors[name].block_type
    if part is None:
        return Shard(checkpoint.raw(name), kind)
    if part.axis is Axis.ROWS:
        return Shard(read_piece(checkpoint, name, Piece(rows=(part.start, part.stop))), kind)
    unit = kind.weights_per_block
    if part.start % unit == 0 and part.stop % unit == 0:
        return Shard(read_piece(checkpoint, name, Piece(columns=(part.start, part.stop))), kind)
    return Shard(_recoded(checkpoint.raw(name), kind, part), BlockType.F16)


def _recoded(rows: np.ndarray, kind: BlockType, part: Part) -> np.ndarray:
    slabs = (rows[start : start + SLAB_ROWS] for start in range(0, len(rows), SLAB_ROWS))
    cut = [encode(decode(slab, kind)[:, part.start : part.stop], BlockType.F16) for slab in slabs]
    return np.concatenate(cut)


def _part(axis: Axis, whole: int, start: int, stop: int, unit: int) -> Part:
    return Part(axis, start * unit, stop * unit, whole)


def _even(count: int, share: Share) -> tuple[int, int]:
    """Return from where to where so many things are a rank's; the first rank has no fewer than the others."""
    return -(-count * share.rank // share.ranks), -(-count * (share.rank + 1) // share.ranks)


def _past_heads(spec: ModelSpec, share: Share) -> tuple[int, int]:
    """Return which key/value heads a rank has: with fewer heads than ranks, several ranks have the same one."""
    if share.ranks <= spec.num_kv_heads:
        return _even(spec.num_kv_heads, share)
    first = share.rank * spec.num_kv_heads // share.ranks
    return first, first + 1


def _words(spec: ModelSpec, share: Share) -> tuple[int, int]:
    """Return which rows of the vocabulary a rank has: equally many, but for the last ranks, who may have fewer."""
    step = -(-spec.vocab_size // share.ranks)
    return min(share.rank * step, spec.vocab_size), min((share.rank + 1) * step, spec.vocab_size)
