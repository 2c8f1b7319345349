"""Keys and values in pages on a device: for each layer (pages, key/value heads, slots, head size).

A head's slots lie together, so that attention reads a page of one head in one piece.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import PAGE_TOKENS, AttentionSpec, CacheType

DTYPES = {CacheType.F32: torch.float32, CacheType.F16: torch.float16}


class Pages:
    """The cache of one model."""

    def __init__(self, spec: AttentionSpec, cache_type: CacheType, num_pages: int, device: torch.device) -> None:
        shape = (spec.num_layers, num_pages, spec.num_kv_heads, PAGE_TOKENS, spec.head_dim)
        self.spec = spec
        self.keys = torch.zeros(shape, dtype=DTYPES[cache_type], device=device)
        self.values = torch.zeros_like(self.keys)

    def copy(self, pairs: Tensor) -> None:
        """Copy pages in all layers. pairs: (C, 2) from, to; every source is read before any target is written."""
        for part in (self.keys, self.values):
            part[:, pairs[:, 1]] = part[:, pairs[:, 0]]

    def write(self, layer: int, pages: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store the new tokens' keys and values (T, K, D) at `slots` of `pages`, (T,) each."""
        self.keys[layer, pages, :, slots] = keys.to(self.keys.dtype)
        self.values[layer, pages, :, slots] = values.to(self.values.dtype)

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers."""
        whole = torch.stack((self.keys[:, page], self.values[:, page])).cpu().numpy()
        return whole.reshape(-1).view(np.uint8)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        shape = (2, *self.keys[:, page].shape)
        whole = torch.from_numpy(content.copy()).view(self.keys.dtype).reshape(shape).to(self.keys.device)
        self.keys[:, page], self.values[:, page] = whole[0], whole[1]
