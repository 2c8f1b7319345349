"""The cpu backend: the contract of `base.py` on the extension.

It keeps the promise that a token's logits depend on the tokens before it and on nothing else; how: native/ops.h.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camelid.errors import InvalidSetting, OutOfMemory, UnsupportedFormat
from camelid.formats.fast_copy import FastCopy, Fill, Matrix

from ..base import AttentionSpec, Batch, CacheType, Draw, Drawn, Forward, Memory, Tensor
from . import machine
from ._native import Cache, Processor, available_isas
from .encoders import Workers
from .ops import CpuOps, Floats, Pages, Placed, PlacedPair
from .turning import LAYOUT, Turning

MAX_THREADS = 1024


class CpuBackend:
    """Computes with `threads` threads on the instruction set `isa`; None takes what this machine is fastest with.

    Raises InvalidSetting for an instruction set that does not run here, and for a number of threads out of range.
    """

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        available = available_isas()
        if isa is not None and isa not in available:
            raise InvalidSetting(f"cpu_isa must be one of {', '.join(available)} on this machine, got {isa!r}")
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise InvalidSetting(f"threads must be 1–{MAX_THREADS}, got {threads}")
        self._processor = Processor(threads or machine.default_threads(), isa or available[-1])
        self._workers = Workers(self._processor.threads)
        self._pages: Pages | None = None
        self._turning = Turning()

    @property
    def name(self) -> str:
        """`cpu` with the instruction set and the number of threads."""
        threads = self._processor.threads
        return f"cpu ({self._processor.isa}, {threads} thread{'s' if threads > 1 else ''})"

    def place(self, tensor: Tensor) -> Placed:
        """Keep a view of the tensor's rows.

        Raises UnsupportedFormat for a block type without kernels, or rows of a wrong size.
        """
        rows = np.ascontiguousarray(tensor.rows)
        try:
            return self._turning.place(tensor.name, rows, tensor.block_type.ggml_id, tensor.shape[-1])
        except ValueError as error:
            raise UnsupportedFormat(tensor.name, "its block type", tensor.block_type.name, str(error)) from error

    layout = LAYOUT

    def read_from(self, copy: FastCopy) -> None:
        """Take the weights that are placed from now on out of the copy, where they are in it."""
        self._turning.read_from(copy)

    def copyable(self) -> tuple[Sequence[Matrix], Fill]:
        """Return the placed weights that a copy would be of, and what fills it."""
        return self._turning.copyable()

    def place_vector(self, values: NDArray[np.float32]) -> Floats:
        """Return the values as a contiguous vector."""
        return np.ascontiguousarray(values, np.float32)

    def place_low_rank(self, down: NDArray[np.floating], up: NDArray[np.floating], scale: float) -> PlacedPair:
        """Copy a pair of small matrices into the layout of the kernels."""
        return PlacedPair(down, up, scale)

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        """Return the bytes of one page over all layers."""
        numbers = attention.num_layers, attention.num_kv_heads, attention.head_dim
        return Cache.page_bytes(*numbers, cache_type.bits)

    def open_pages(self, attention: AttentionSpec, cache_type: CacheType, num_pages: int) -> None:
        """Allocate the pages; the system hands the memory out when it is first touched. Raises OutOfMemory."""
        self._pages = None  # the old ones go first
        need_bytes = num_pages * self.page_bytes(attention, cache_type)
        free_bytes = self.memory().available_bytes
        try:
            if need_bytes > free_bytes:
                raise MemoryError
            self._pages = Pages(attention, num_pages, cache_type.bits)
        except MemoryError as error:
            raise OutOfMemory(
                f"a cache of {num_pages} pages needs {need_bytes >> 20} MiB, and {free_bytes >> 20} MiB are free",
                hint="ask for a shorter context (--context-length), or for fewer sequences at a time",
            ) from error

    def run(self, model: Forward, batch: Batch) -> Floats:
        """Copy the pages that `batch` names, run the forward pass, return the logits (W, V)."""
        if len(batch.page_copies) and self._pages is not None:
            self._pages.cache.copy_pages(np.ascontiguousarray(batch.page_copies, np.int32))
        ops = CpuOps(self._processor, self._pages, self._workers)
        logits: Floats = model.forward(ops, batch)
        ops.finish()
        return logits

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of what the page holds in all layers: (page_bytes,)."""
        return self._open_cache().view()[:, page].reshape(-1)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Make the page hold what `read_page` gave."""
        view = self._open_cache().view()
        view[:, page] = content.reshape(view.shape[0], view.shape[2])

    def sample(self, logits: Floats, draws: Sequence[Draw]) -> list[Drawn]:
        """Draw one token for each row of logits."""
        from ..sampling import sample

        return sample(logits, draws)

    def _open_cache(self) -> Cache:
        assert self._pages is not None, "there are no pages before open_pages"
        return self._pages.cache

    def memory(self) -> Memory:
        """Return the memory of this machine, or of the container that this process runs in."""
        return machine.memory()
