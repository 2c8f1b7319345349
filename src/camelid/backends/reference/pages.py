"""Keys and values in pages, as plain arrays: one for keys and one for values, (layers, pages, slots, key/value heads,
head size).

What is written where follows from the batch alone (see `base.Batch`); whose page is whose is decided by the engine.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from camelid.errors import OutOfMemory

from ..base import PAGE_TOKENS, AttentionSpec, CacheType

Floats = NDArray[np.floating]
Index = Any  # of layers, pages, slots and heads, as numpy takes it


class Kept(Protocol):
    """The keys or the values of all pages."""

    def put(self, index: Index, heads: Floats) -> None:
        """Keep numbers: (…, D)."""

    def get(self, index: Index) -> Floats:
        """Return the numbers that are kept: (…, D)."""

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that is kept."""


class KeptFloats:
    """Numbers rounded to a type of floats."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._numbers = np.zeros(shape, dtype)

    def put(self, index: Index, heads: Floats) -> None:
        """Keep numbers."""
        self._numbers[index] = heads

    def get(self, index: Index) -> Floats:
        """Return the numbers that are kept."""
        kept: Floats = self._numbers[index]
        return kept

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that is kept."""
        return [self._numbers]


class KeptCodes:
    """Numbers rounded to 8 bits, with a scale in float16 for each token and head."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._codes = np.zeros(shape, np.int8)
        self._scales = np.zeros((*shape[:-1], 1), np.float16)

    def put(self, index: Index, heads: Floats) -> None:
        """Keep numbers."""
        scales = (np.abs(heads).max(axis=-1, keepdims=True) / 127).astype(np.float16)
        steps = scales.astype(heads.dtype)
        codes = np.divide(heads, steps, out=np.zeros_like(heads), where=steps != 0)
        self._codes[index] = np.clip(np.rint(codes), -127, 127)
        self._scales[index] = scales

    def get(self, index: Index) -> Floats:
        """Return the numbers that are kept."""
        kept: Floats = self._codes[index] * self._scales[index].astype(self._dtype)
        return kept

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that is kept."""
        return [self._codes, self._scales]


class Pages:
    """The cache of one model. `dtype` is the type that is computed in, and what CacheType.F32 keeps."""

    def __init__(self, attention: AttentionSpec, dtype: DTypeLike, cache_type: CacheType, num_pages: int) -> None:
        shape = (attention.num_layers, num_pages, PAGE_TOKENS, attention.num_kv_heads, attention.head_dim)
        try:
            self._keys = _kept(shape, dtype, cache_type)
            self._values = _kept(shape, dtype, cache_type)
        except MemoryError as error:
            raise OutOfMemory(
                f"a cache of {num_pages} pages ({num_pages * PAGE_TOKENS} tokens) does not fit into memory",
                hint="ask for a shorter context (--context-length)",
            ) from error

    def copy(self, pairs: NDArray[np.int32]) -> None:
        """Copy pages in all layers. pairs: (C, 2) from, to; every source is read before any target is written."""
        sources, targets = pairs[:, 0], pairs[:, 1]
        for array in self._arrays():
            array[:, targets] = array[:, sources]

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers."""
        parts = [np.ascontiguousarray(array[:, page]).reshape(-1).view(np.uint8) for array in self._arrays()]
        return np.concatenate(parts)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        start = 0
        for array in self._arrays():
            part = array[:, page]
            end = start + part.nbytes
            array[:, page] = content[start:end].view(array.dtype).reshape(part.shape)
            start = end

    def write(self, layer: int, table: NDArray[np.int32], positions: NDArray[np.int32], k: Floats, v: Floats) -> None:
        """Store the keys and values of one sequence's new tokens. k, v: (T, K, D)."""
        index = (layer, table[positions // PAGE_TOKENS], positions % PAGE_TOKENS)
        self._keys.put(index, k)
        self._values.put(index, v)

    def read(self, layer: int, table: NDArray[np.int32], num_tokens: int) -> tuple[Floats, Floats]:
        """Return copies of the keys and values of one sequence's first tokens: (num_tokens, K, D) each."""
        positions = np.arange(num_tokens)
        index = (layer, table[positions // PAGE_TOKENS], positions % PAGE_TOKENS)
        return self._keys.get(index), self._values.get(index)

    def _arrays(self) -> list[NDArray[Any]]:
        return self._keys.arrays() + self._values.arrays()


def page_bytes(attention: AttentionSpec, dtype: DTypeLike, cache_type: CacheType) -> int:
    """Return the bytes of one page over all layers."""
    heads = 2 * attention.num_layers * PAGE_TOKENS * attention.num_kv_heads
    if cache_type is CacheType.I8:
        return heads * (attention.head_dim + 2)
    return heads * attention.head_dim * (np.dtype(dtype).itemsize if cache_type is CacheType.F32 else 2)


def _kept(shape: tuple[int, ...], dtype: DTypeLike, cache_type: CacheType) -> Kept:
    if cache_type is CacheType.I8:
        return KeptCodes(shape, dtype)
    return KeptFloats(shape, dtype if cache_type is CacheType.F32 else np.float16)
