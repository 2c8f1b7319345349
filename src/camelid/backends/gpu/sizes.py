"""What pages take on a device, as numbers: known without PyTorch, because the front reckons with them."""

from __future__ import annotations

from ..base import PAGE_TOKENS, AttentionSpec, CacheType

SCALE_BYTES = 2  # of a token's and head's scale, float16
ELEMENT_BYTES = {CacheType.F32: 4, CacheType.F16: 2, CacheType.I8: 1}
SCALED = (CacheType.I8,)


def page_bytes(spec: AttentionSpec, cache_type: CacheType) -> int:
    """Return the bytes of one page over all layers."""
    heads = 2 * spec.num_layers * PAGE_TOKENS * spec.num_kv_heads
    return heads * (spec.head_dim * ELEMENT_BYTES[cache_type] + (SCALE_BYTES if cache_type in SCALED else 0))
