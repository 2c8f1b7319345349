"""Attention over pages: prompts, chunks and single tokens of all sequences in one launch.

One program serves TOKENS consecutive tokens of one sequence and one key/value head: the query heads that share it are
further rows of the same tile, so keys and values are read once for all of them. It walks the sequence's pages with a
running maximum and sum. Twin: `twin.attend`. Source: Dao 2023 (FlashAttention-2); Kwon et al. 2023 (PagedAttention).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from camelid.backends.base import PAGE_TOKENS

from ..pages import Kept
from .spans import Spans

TILE = 16  # rows of a tile at least: what a tensor core takes


@triton.jit
def _attend(
    q, keys, values, key_scales, value_scales, table, firsts, ends, sequences, positions, out, scale, num_heads,
    most_pages,
    GROUP: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr,
    PAGE: tl.constexpr, CODED: tl.constexpr,
):  # fmt: skip
    """Compute the tile of `firsts[i]` … below `ends[i]` for one key/value head. WIDTH: DIM rounded up."""
    item, head = tl.program_id(0), tl.program_id(1)
    first, end, sequence = tl.load(firsts + item), tl.load(ends + item), tl.load(sequences + item)
    rows, lanes, slots = tl.arange(0, ROWS), tl.arange(0, WIDTH), tl.arange(0, PAGE)
    tokens, heads = first + rows // GROUP, head * GROUP + rows % GROUP
    is_row, is_lane = (rows < TOKENS * GROUP) & (tokens < end), lanes < DIM
    at = (tokens * num_heads + heads)[:, None] * DIM + lanes[None, :]
    query = tl.load(q + at, mask=is_row[:, None] & is_lane[None, :], other=0.0)
    place = tl.load(positions + tokens, mask=is_row, other=0)
    last = tl.load(positions + end - 1)

    most = tl.full((ROWS,), float("-inf"), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for index in range(last // PAGE + 1):
        page = tl.load(table + sequence * most_pages + index).to(tl.int64)
        slot = (page * tl.num_programs(1) + head) * PAGE + slots
        cell = slot[:, None] * DIM + lanes[None, :]
        is_seen = (index * PAGE + slots)[None, :] <= place[:, None]
        key = tl.load(keys + cell, mask=is_lane[None, :], other=0.0).to(query.dtype)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        if CODED:
            scores = scores * tl.load(key_scales + slot).to(tl.float32)[None, :]
        scores = tl.where(is_seen, scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))  # finite: all see position 0
        shrink, shares = tl.exp(most - higher), tl.exp(scores - higher[:, None])
        is_written = (index * PAGE + slots)[:, None] <= last
        weight = weight * shrink + tl.sum(shares, 1)
        if CODED:
            steps = tl.load(value_scales + slot, mask=index * PAGE + slots <= last, other=0.0).to(tl.float32)
            shares = shares * steps[None, :]
        value = tl.load(values + cell, mask=is_lane[None, :] & is_written, other=0.0).to(query.dtype)
        total = total * shrink[:, None] + tl.dot(shares.to(query.dtype), value, input_precision="ieee")
        most = higher
    result = total / weight[:, None]
    tl.store(out + at, result.to(out.dtype.element_ty), mask=is_row[:, None] & is_lane[None, :])


def attend(queries: Tensor, kept: Kept, spans: Spans, scale: float) -> Tensor:
    """Return causal attention of new tokens over the pages of their sequences (see `twin.attend`)."""
    queries, keys = queries.contiguous(), kept.keys
    is_coded = kept.key_scales is not None
    num_heads, dim = queries.shape[1:]
    group = num_heads // keys.shape[1]
    tokens = max(1, TILE // group)
    firsts, ends, sequences = tiles = spans.tiles(tokens)
    out = torch.empty_like(queries)
    if not tiles.shape[1]:
        return out
    _attend[tiles.shape[1], keys.shape[1]](
        queries, keys, kept.values, kept.key_scales if is_coded else keys, kept.value_scales if is_coded else keys,
        spans.table, firsts, ends, sequences, spans.positions, out, scale, num_heads, spans.table.shape[1],
        GROUP=group, TOKENS=tokens, ROWS=max(TILE, triton.next_power_of_2(tokens * group)),
        WIDTH=max(TILE, triton.next_power_of_2(dim)), DIM=dim, PAGE=PAGE_TOKENS, CODED=is_coded,
    )  # fmt: skip
    return out
