"""The kernels in plain PyTorch: what the Triton kernels must equal, and what runs where there is no Triton.

Every function here has a namesake in `multiply.py` or `attend.py`, with the same arguments.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from camelid.backends.base import PAGE_TOKENS
from camelid.formats.blocks import BlockType

from ..pages import Kept
from .blocks import decode
from .spans import Spans


def multiply(x: Tensor, rows: Tensor, block_type: BlockType) -> Tensor:
    """Return x · Wᵀ for a quantized weight: x (T, columns), rows (N, bytes) → (T, N) in the type of x."""
    return functional.linear(x, decode(rows, block_type).to(x.dtype))


def attend(queries: Tensor, kept: Kept, spans: Spans, scale: float) -> Tensor:
    """Return causal attention of new tokens over the pages of their sequences.

    queries: (T, H, D); kept: one layer of the cache, the new tokens' own included. Query head h reads key/value head
    h // (H / K). → (T, H, D).
    """
    if spans.is_fixed:
        return _attend_fixed(queries, kept, spans, scale)
    output = torch.empty_like(queries)
    positions = spans.positions
    for sequence, (start, end) in enumerate(pairwise(spans.row_starts)):
        if start == end:
            continue
        length = int(positions[end - 1]) + 1
        pages = spans.table[sequence, : -(-length // PAGE_TOKENS)]
        past_keys, past_values = (part[:, :length].to(queries.dtype) for part in _floats(kept, pages))
        is_seen = torch.arange(length, device=queries.device) <= positions[start:end, None]
        output[start:end] = functional.scaled_dot_product_attention(
            queries[start:end].transpose(0, 1)[None],
            past_keys[None],
            past_values[None],
            attn_mask=is_seen,
            scale=scale,
            enable_gqa=True,
        )[0].transpose(0, 1)
    return output


def _attend_fixed(queries: Tensor, kept: Kept, spans: Spans, scale: float) -> Tensor:
    """Do the same where every sequence has one token, with a mask over all pages of the table: no number is looked at
    on the host.
    """
    num_slots = spans.table.shape[1] * PAGE_TOKENS
    is_seen = torch.arange(num_slots, device=queries.device) <= spans.positions[:, None]  # (S, slots)
    outputs = []
    for sequence in range(len(spans.table)):
        past_keys, past_values = (part.to(queries.dtype) for part in _floats(kept, spans.table[sequence]))
        seen = is_seen[sequence]
        outputs.append(
            functional.scaled_dot_product_attention(
                queries[sequence][None, :, None],
                past_keys[None],
                torch.where(seen[:, None], past_values, 0.0)[None],  # unwritten slots may hold anything
                attn_mask=seen[None],
                scale=scale,
                enable_gqa=True,
            )[:, :, 0]
        )
    return torch.cat(outputs)


def _floats(kept: Kept, pages: Tensor) -> tuple[Tensor, Tensor]:
    """Return the keys and values of some pages: (K, n × PAGE_TOKENS, D) each."""
    keys, values = kept.keys[pages], kept.values[pages]
    if kept.key_scales is not None and kept.value_scales is not None:
        keys = keys * kept.key_scales[pages].float()[..., None]
        values = values * kept.value_scales[pages].float()[..., None]
    return _joined(keys), _joined(values)


def _joined(pages: Tensor) -> Tensor:
    """Return pages (n, K, PAGE_TOKENS, D) as (K, n × PAGE_TOKENS, D)."""
    return pages.transpose(0, 1).flatten(1, 2)
