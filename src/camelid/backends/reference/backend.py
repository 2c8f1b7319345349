"""The reference backend: the contract of `base.py` in plain numpy, as close to the formulas as it can be written.

It is the truth that the other backends are tested against, so it takes the plain way everywhere: weights stay as they
lie in the file and are dequantized each time they are used, sums are numpy's own. It is right, not fast. Its pages are
real all the same, so that a fault in paging shows here too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camelid.errors import UnsupportedFormat

from ..base import AttentionSpec, Batch, CacheType, Draw, Drawn, Forward, Memory, Tensor
from .ops import ReferenceOps
from .pages import Floats, Pages, page_bytes


class ReferenceBackend:
    """Computes in `dtype`, float64 unless told otherwise.

    The cache holds `dtype` for CacheType.F32, and what other types round to for these.
    """

    def __init__(self, dtype: type[np.floating] = np.float64) -> None:
        self._dtype = np.dtype(dtype)
        self._attention: AttentionSpec | None = None
        self._pages: Pages | None = None

    @property
    def name(self) -> str:
        """`reference` with the type it computes in."""
        return f"reference ({self._dtype.name})"

    def place(self, tensor: Tensor) -> Tensor:
        """Keep the tensor as it is. Raises UnsupportedFormat for a block type that cannot be decoded."""
        if not tensor.block_type.is_decodable:
            raise UnsupportedFormat(tensor.name, "its block type", tensor.block_type.name, "it cannot be decoded")
        return tensor

    def place_vector(self, values: NDArray[np.float32]) -> Floats:
        """Return the values in the type that is computed in."""
        return values.astype(self._dtype)

    def place_low_rank(
        self, down: NDArray[np.floating], up: NDArray[np.floating], scale: float
    ) -> tuple[Floats, Floats, float]:
        """Return the pair in the type that is computed in."""
        return down.astype(self._dtype), up.astype(self._dtype), scale

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        """Return the bytes of one page over all layers."""
        return page_bytes(attention, self._dtype, cache_type)

    def open_pages(self, attention: AttentionSpec, cache_type: CacheType, num_pages: int) -> None:
        """Allocate the pages. Raises OutOfMemory."""
        self._attention = attention
        self._pages = Pages(attention, self._dtype, cache_type, num_pages)

    def run(self, model: Forward, batch: Batch) -> Floats:
        """Copy the pages that `batch` names, run the forward pass, return the logits (W, V)."""
        if self._pages is not None and len(batch.page_copies):
            self._pages.copy(batch.page_copies)
        logits: Floats = model.forward(ReferenceOps(self._dtype, self._attention, self._pages), batch)
        return logits

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers: (page_bytes,)."""
        return self._open_pages().read_page(page)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        self._open_pages().write_page(page, content)

    def sample(self, logits: Floats, draws: Sequence[Draw]) -> list[Drawn]:
        """Draw one token for each row of logits."""
        from ..sampling import sample

        return sample(logits, draws)

    def memory(self) -> Memory:
        """Return the machine's memory. Container limits are not looked at: this backend is for tests."""
        page_size = os.sysconf("SC_PAGE_SIZE")
        return Memory(os.sysconf("SC_PHYS_PAGES") * page_size, os.sysconf("SC_AVPHYS_PAGES") * page_size)

    def _open_pages(self) -> Pages:
        assert self._pages is not None, "there are no pages before open_pages"
        return self._pages
