"""Keys and values in pages, as plain arrays: one for keys and one for values, (layers, pages, slots, key/value heads,
head size).

What is written where follows from the batch alone (see `base.Batch`); whose page is whose is decided by the engine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from camelid.errors import OutOfMemory

from ..base import PAGE_TOKENS, AttentionSpec

Floats = NDArray[np.floating]


class Pages:
    """The cache of one model."""

    def __init__(self, attention: AttentionSpec, dtype: DTypeLike, num_pages: int) -> None:
        shape = (attention.num_layers, num_pages, PAGE_TOKENS, attention.num_kv_heads, attention.head_dim)
        try:
            self._keys: Floats = np.zeros(shape, dtype)
            self._values: Floats = np.zeros(shape, dtype)
        except MemoryError as error:
            raise OutOfMemory(
                f"a cache of {num_pages} pages ({num_pages * PAGE_TOKENS} tokens) does not fit into memory",
                hint="ask for a shorter context (--context-length)",
            ) from error

    def copy(self, pairs: NDArray[np.int32]) -> None:
        """Copy pages in all layers. pairs: (C, 2) from, to; every source is read before any target is written."""
        sources, targets = pairs[:, 0], pairs[:, 1]
        self._keys[:, targets] = self._keys[:, sources]
        self._values[:, targets] = self._values[:, sources]

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers."""
        return np.stack((self._keys[:, page], self._values[:, page])).reshape(-1).view(np.uint8)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        shape = (2, *self._keys[:, page].shape)
        self._keys[:, page], self._values[:, page] = content.view(self._keys.dtype).reshape(shape)

    def write(self, layer: int, table: NDArray[np.int32], positions: NDArray[np.int32], k: Floats, v: Floats) -> None:
        """Store the keys and values of one sequence's new tokens. k, v: (T, K, D)."""
        pages, slots = table[positions // PAGE_TOKENS], positions % PAGE_TOKENS
        self._keys[layer, pages, slots] = k
        self._values[layer, pages, slots] = v

    def read(self, layer: int, table: NDArray[np.int32], num_tokens: int) -> tuple[Floats, Floats]:
        """Return copies of the keys and values of one sequence's first tokens: (num_tokens, K, D) each."""
        positions = np.arange(num_tokens)
        pages, slots = table[positions // PAGE_TOKENS], positions % PAGE_TOKENS
        return self._keys[layer, pages, slots], self._values[layer, pages, slots]
