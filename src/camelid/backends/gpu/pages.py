"""Keys and values in pages on a device: for each layer (pages, key/value heads, slots, head size).

A head's slots lie together, so that attention reads a page of one head in one piece. Codes of 8 bits have a scale for
each slot beside them, as deep as the numbers but for the last dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import PAGE_TOKENS, AttentionSpec, CacheType

DTYPES = {CacheType.F32: torch.float32, CacheType.F16: torch.float16, CacheType.I8: torch.int8}


@dataclass(frozen=True)
class Kept:
    """The keys and values of one layer: (pages, K, PAGE_TOKENS, D), and scales (pages, K, PAGE_TOKENS) of codes."""

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None


class Pages:
    """The cache of one model."""

    def __init__(self, spec: AttentionSpec, cache_type: CacheType, num_pages: int, device: torch.device) -> None:
        shape = (spec.num_layers, num_pages, spec.num_kv_heads, PAGE_TOKENS, spec.head_dim)
        self.spec = spec
        self.keys = torch.zeros(shape, dtype=DTYPES[cache_type], device=device)
        self.values = torch.zeros_like(self.keys)
        scales = shape[:-1] if cache_type is CacheType.I8 else (spec.num_layers, 0)
        self.key_scales = torch.zeros(scales, dtype=torch.float16, device=device)
        self.value_scales = torch.zeros_like(self.key_scales)

    def copy(self, pairs: Tensor) -> None:
        """Copy pages in all layers. pairs: (C, 2) from, to; every source is read before any target is written."""
        for part in self._parts():
            part[:, pairs[:, 1]] = part[:, pairs[:, 0]]

    def write(self, layer: int, pages: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store the new tokens' keys and values (T, K, D) at `slots` of `pages`, (T,) each."""
        index = (layer, pages, slice(None), slots)
        if self.keys.dtype == torch.int8:
            self.keys[index], self.key_scales[index] = to_codes(keys)
            self.values[index], self.value_scales[index] = to_codes(values)
        else:
            self.keys[index] = keys.to(self.keys.dtype)
            self.values[index] = values.to(self.values.dtype)

    def layer(self, layer: int) -> Kept:
        """Return what one layer keeps."""
        if self.keys.dtype != torch.int8:
            return Kept(self.keys[layer], self.values[layer])
        return Kept(self.keys[layer], self.values[layer], self.key_scales[layer], self.value_scales[layer])

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers."""
        parts = [part[:, page].contiguous().cpu().numpy().reshape(-1).view(np.uint8) for part in self._parts()]
        return np.concatenate(parts)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        start = 0
        for part in self._parts():
            target = part[:, page]
            end = start + target.numel() * target.element_size()
            target.copy_(torch.from_numpy(content[start:end].copy()).view(part.dtype).reshape(target.shape))
            start = end

    def _parts(self) -> list[Tensor]:
        scales = [self.key_scales, self.value_scales] if self.keys.dtype == torch.int8 else []
        return [self.keys, self.values, *scales]


def to_codes(heads: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes and scales: (…, D) int8 and (…) float16."""
    heads = heads.float()
    scales = (heads.abs().amax(-1) / 127).half()
    steps = scales.float()[..., None]
    codes = torch.where(steps == 0, torch.zeros_like(heads), heads / steps)
    return codes.round().clamp(-127, 127).to(torch.int8), scales
