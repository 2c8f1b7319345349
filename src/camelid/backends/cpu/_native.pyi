"""The compiled part of the cpu backend (native/bind.cpp). Arrays must be C-contiguous and of exactly these types.

Every shape, index and block type is checked; a wrong one raises ValueError, a wrong type TypeError.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def available_isas() -> list[str]:
    """Return the instruction sets that run on this machine, slowest first."""

def built_isas() -> list[str]:
    """Return the instruction sets that this build has kernels for."""

def arithmetic_probes() -> list[list[str]]:
    """Return the arithmetic probes of this build: (instruction set, "int8" or "fp32", the instructions timed)."""

def probe_arithmetic(isa: str, kind: str, threads: int, seconds: float) -> float:
    """Return the multiply-adds a second that registers alone allow on `threads` threads."""

def probe_reading(isa: str, threads: int, num_bytes: int, ahead: int, seconds: float) -> float:
    """Return the bytes a second that `threads` threads read, prefetching `ahead` bytes ahead (0: not at all).

    Raises MemoryError.
    """

class Weight:
    """A weight matrix in place: rows is (rows, bytes per row); it is kept, not copied.

    `is_turned`: the bytes are what `turn` wrote.
    """

    def __init__(self, rows: NDArray[np.uint8], ggml_id: int, columns: int, is_turned: bool = False) -> None: ...
    @property
    def can_turn(self) -> bool:
        """Whether the matrix can lie turned: quantized, and every row whole slices of 256 weights."""

    def turn(self, begin: int, out: NDArray[np.uint8]) -> None:
        """Write the rows from `begin` on, as many as `out` has, turned: native/ops.h says how.

        Both ends are multiples of 16, or the end of the matrix.
        """

class Cache:
    """Keys and values of all layers, in pages, each number in 32, 16 or 8 bits. Raises MemoryError."""

    def __init__(self, num_layers: int, num_pages: int, num_kv_heads: int, head_dim: int, bits: int) -> None: ...
    @staticmethod
    def page_bytes(num_layers: int, num_kv_heads: int, head_dim: int, bits: int) -> int:
        """Return the bytes of one page over all layers."""

    def copy_pages(self, pairs: NDArray[np.int32]) -> None:
        """Copy pages in all layers. pairs: (C, 2) from, to; every source is read before any target is written."""

    def view(self) -> NDArray[np.uint8]:
        """Return the memory itself: (layers, pages, bytes of a page in one layer). It keeps the cache alive."""

    def poison(self) -> None:
        """Fill everything with NaN: for tests, which then see whether a slot that was never written counts."""

class Step:
    """What the attention of one batch needs in every layer: the checked page table, and the angles."""

    def __init__(
        self,
        positions: NDArray[np.int32],
        row_starts: NDArray[np.int32],
        page_table: NDArray[np.int32],
        num_pages: int,
        inverse_frequencies: NDArray[np.float64],
        amplitude: float,
    ) -> None: ...

class _Operations:
    """Each is checked at once; when it is done, the class says."""

    def linear(
        self,
        x: NDArray[np.float32],
        weights: Sequence[Weight],
        biases: Sequence[NDArray[np.float32] | None],
        outs: Sequence[NDArray[np.float32]],
    ) -> None:
        """Write x · Wᵀ (+ bias) into each of `outs`, (T, rows of W). No biases at all may be given as ()."""

    def add_low_rank(
        self,
        x: NDArray[np.float32],
        downs: Sequence[Weight],
        ups: Sequence[Weight],
        scales: Sequence[float],
        rows: Sequence[NDArray[np.int32]],
        outs: Sequence[NDArray[np.float32]],
    ) -> None:
        """Add up · (scale × (down · x)) to the rows `rows` of each of `outs`.

        down: (rank, columns of x); up: for each 32 outputs a row of (rank, 32), zeros behind the last; F32 or F16.
        """

    def embed(self, ids: NDArray[np.int32], table: Weight, out: NDArray[np.float32]) -> None:
        """Write the dequantized rows `ids` into `out`."""

    def norm(
        self,
        x: NDArray[np.float32],
        delta: NDArray[np.float32] | None,
        weight: NDArray[np.float32],
        epsilon: float,
        out: NDArray[np.float32],
    ) -> None:
        """Add `delta` to x, in place, and write the norm of the sum times `weight` into `out`."""

    def gate(self, gate: NDArray[np.float32], up: NDArray[np.float32]) -> None:
        """Write silu(gate) × up over `gate`."""

    def attend(
        self,
        q: NDArray[np.float32],
        k: NDArray[np.float32],
        v: NDArray[np.float32],
        cache: Cache,
        layer: int,
        step: Step,
        num_heads: int,
        softmax_scale: float,
        interleaved: bool,
        out: NDArray[np.float32],
    ) -> None:
        """Rotate q and k, write k and v to the cache, attend causally into `out`, which is shaped like q."""

class Processor(_Operations):
    """The kernels of one instruction set on a pool of threads. Operations of several callers take turns."""

    def __init__(self, threads: int, isa: str) -> None: ...
    @property
    def threads(self) -> int: ...
    @property
    def isa(self) -> str: ...
    def encode(self, rows: NDArray[np.uint8], from_id: int, to_id: int, out: NDArray[np.uint8]) -> bool:
        """Encode rows of F32, F16 or BF16 into blocks of another type; ids are GGML's.

        False, with `out` half written, for a weight that the type cannot hold.
        """

class Queue(_Operations):
    """Operations that wait until `run`. Their arrays are kept until then, and must not be changed."""

    def __init__(self, processor: Processor) -> None: ...
    def run(self) -> None:
        """Do them in the order in which they came, and forget them."""
