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


def multiply(x: Tensor, rows: Tensor, block_type: BlockType) -> Tensor:
    """Return x · Wᵀ for a quantized weight: x (T, columns), rows (N, bytes) → (T, N) in the type of x."""
    return functional.linear(x, decode(rows, block_type).to(x.dtype))


def attend(
    queries: Tensor, kept: Kept, table: Tensor, row_starts: list[int], positions: Tensor, scale: float
) -> Tensor:
    """Return causal attention of new tokens over the pages of their sequences.

    queries: (T, H, D); kept: one layer of the cache, the new tokens' own included; table: (S, most pages); row_starts:
    (S + 1); positions: (T,). Query head h reads key/value head h // (H / K). → (T, H, D).
    """
    output = torch.empty_like(queries)
    for sequence, (start, end) in enumerate(pairwise(row_starts)):
        if start == end:
            continue
        length = int(positions[end - 1]) + 1
        pages = table[sequence, : -(-length // PAGE_TOKENS)]
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
