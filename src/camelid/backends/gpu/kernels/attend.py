"""Attention over pages: prompts, chunks and single tokens of all sequences in one launch.

One program serves TOKENS consecutive tokens of one sequence and one key/value head: the query heads that share it are
further rows of the same tile, so keys and values are read once for all of them. It walks the sequence's pages with a
running maximum and sum. Where there are too few tiles to keep the device busy, the pages of each are split into
segments for several programs, and a second launch joins what they found.
Twin: `twin.attend`. Source: Dao 2023 (FlashAttention-2); Kwon et al. 2023 (PagedAttention); Dao et al. 2023
(Flash-Decoding).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from camelid.backends.base import PAGE_TOKENS

from ..pages import Kept
from .device import processors
from .spans import Spans

TILE = 16  # rows of a tile at least: what a tensor core takes
SEGMENT_PAGES = 8  # a segment has so many pages at least: 256 tokens
MOST_SEGMENTS = 32
WAVES = 2  # programs for each multiprocessor that are wanted


@triton.jit
def _attend(
    q, keys, values, key_scales, value_scales, table, firsts, ends, sequences, positions, out, peaks, sums, scale,
    num_heads, most_pages, num_tokens,
    GROUP: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr,
    PAGE: tl.constexpr, CODED: tl.constexpr, SEGMENTS: tl.constexpr,
):  # fmt: skip
    """Compute the tile of `firsts[i]` … below `ends[i]` for one key/value head and one segment of its pages.

    WIDTH: DIM rounded up. With several segments `out` is (SEGMENTS, T, H, DIM) and not divided yet; `peaks` and `sums`
    are (SEGMENTS, T, H).
    """
    item, head, segment = tl.program_id(0), tl.program_id(1), tl.program_id(2)
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
    num_pages = last // PAGE + 1
    each = (num_pages + SEGMENTS - 1) // SEGMENTS
    for index in range(segment * each, tl.minimum((segment + 1) * each, num_pages)):
        page = tl.load(table + sequence * most_pages + index).to(tl.int64)
        slot = (page * tl.num_programs(1) + head) * PAGE + slots
        cell = slot[:, None] * DIM + lanes[None, :]
        is_seen = (index * PAGE + slots)[None, :] <= place[:, None]
        key = tl.load(keys + cell, mask=is_lane[None, :], other=0.0).to(query.dtype)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        if CODED:
            scores = scores * tl.load(key_scales + slot).to(tl.float32)[None, :]
        scores = tl.where(is_seen, scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        level = tl.where(higher == float("-inf"), 0.0, higher)  # a row that sees nothing of this segment yet
        shrink, shares = tl.exp(most - level), tl.exp(scores - level[:, None])
        is_written = (index * PAGE + slots)[:, None] <= last
        weight = weight * shrink + tl.sum(shares, 1)
        if CODED:
            steps = tl.load(value_scales + slot, mask=index * PAGE + slots <= last, other=0.0).to(tl.float32)
            shares = shares * steps[None, :]
        value = tl.load(values + cell, mask=is_lane[None, :] & is_written, other=0.0).to(query.dtype)
        total = total * shrink[:, None] + tl.dot(shares.to(query.dtype), value, input_precision="ieee")
        most = higher
    if SEGMENTS == 1:
        total = total / weight[:, None]
    else:
        cell = segment * num_tokens * num_heads + tokens * num_heads + heads
        tl.store(peaks + cell, most, mask=is_row)
        tl.store(sums + cell, weight, mask=is_row)
    at += segment * num_tokens * num_heads * DIM
    tl.store(out + at, total.to(out.dtype.element_ty), mask=is_row[:, None] & is_lane[None, :])


@triton.jit
def _join(parts, peaks, sums, out, count, WIDTH: tl.constexpr, DIM: tl.constexpr, SEGMENTS: tl.constexpr):
    """Join the segments of one token and head; `count` is T × H."""
    row = tl.program_id(0)
    segments, lanes = tl.arange(0, SEGMENTS), tl.arange(0, WIDTH)
    is_lane = lanes < DIM
    peak = tl.load(peaks + segments * count + row)
    factors = tl.exp(peak - tl.max(peak, 0))  # of a segment that saw nothing: 0
    weight = tl.sum(factors * tl.load(sums + segments * count + row), 0)
    at = (segments[:, None] * count + row) * DIM + lanes[None, :]
    part = tl.load(parts + at, mask=is_lane[None, :], other=0.0)
    total = tl.sum(factors[:, None] * part, 0) / weight
    tl.store(out + row * DIM + lanes, total.to(out.dtype.element_ty), mask=is_lane)


def attend(queries: Tensor, kept: Kept, spans: Spans, scale: float, segments: int | None = None) -> Tensor:
    """Return causal attention of new tokens over the pages of their sequences (see `twin.attend`).

    segments: a power of two, into which the pages of each tile are split; None: as many as the device needs.
    """
    queries, keys = queries.contiguous(), kept.keys
    is_coded = kept.key_scales is not None
    num_tokens, num_heads, dim = queries.shape
    group = num_heads // keys.shape[1]
    tokens = max(1, TILE // group)
    firsts, ends, sequences = tiles = spans.tiles(tokens)
    out = torch.empty_like(queries)
    if not tiles.shape[1]:
        return out
    count = segments or wanted_segments(tiles.shape[1] * keys.shape[1], spans.table.shape[1], processors(queries))
    width = max(TILE, triton.next_power_of_2(dim))
    parts, peaks, sums = (out, out, out) if count == 1 else _room(count, queries)
    _attend[tiles.shape[1], keys.shape[1], count](
        queries, keys, kept.values, kept.key_scales if is_coded else keys, kept.value_scales if is_coded else keys,
        spans.table, firsts, ends, sequences, spans.positions, parts, peaks, sums, scale, num_heads,
        spans.table.shape[1], num_tokens,
        GROUP=group, TOKENS=tokens, ROWS=max(TILE, triton.next_power_of_2(tokens * group)), WIDTH=width, DIM=dim,
        PAGE=PAGE_TOKENS, CODED=is_coded, SEGMENTS=count,
    )  # fmt: skip
    if count > 1:
        rows = num_tokens * num_heads
        _join[rows,](parts, peaks, sums, out, rows, WIDTH=width, DIM=dim, SEGMENTS=count)
    return out


def wanted_segments(num_programs: int, most_pages: int, num_processors: int) -> int:
    """Return into how many segments pages are split: a power of two, 1 where the programs fill the device as it is.

    It follows from shapes alone, so that a recorded step keeps it.
    """
    wanted = min(WAVES * num_processors // num_programs, most_pages // SEGMENT_PAGES, MOST_SEGMENTS)
    return 1 << max(0, wanted.bit_length() - 1) if wanted > 0 else 1


def _room(count: int, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return room for what the segments find: totals, peaks, sums."""
    parts = torch.empty((count, *queries.shape), dtype=torch.float32, device=queries.device)
    return parts, torch.empty_like(parts[..., 0]), torch.empty_like(parts[..., 0])
