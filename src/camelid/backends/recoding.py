"""Weights from one block type to another: what quantizing, converting and merging do to every matrix.

It is here because the fast way is compiled and the plain way is numpy's (`formats/blocks.py`): both give the same
bytes, and who asks need not know which one it was. It knows no tensor's purpose, and no file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camelid.formats.blocks import BlockType, decode, encode, row_bytes

Bytes = NDArray[np.uint8]

_FLOATS = (BlockType.F32, BlockType.F16, BlockType.BF16)


class Recoder:
    """Decodes and encodes rows, on all cores where the extension was built. Calls of several threads take turns."""

    def __init__(self) -> None:
        try:
            from .cpu import machine
            from .cpu._native import Processor, available_isas
        except ImportError:
            self._processor = None
        else:
            self._processor = Processor(machine.default_threads(), available_isas()[-1])

    def recode(self, rows: Bytes, old: BlockType, new: BlockType) -> Bytes:
        """Return rows of `old` as rows of `new`: (R, bytes per row).

        Raises InvalidRequest for a row that is no whole number of blocks, and for a weight that `new` cannot hold;
        UnsupportedModel for a type that is not written.
        """
        if old is new:
            return rows
        if old in _FLOATS:
            return self._from_floats(rows, old, new)
        return self._from_floats(decode(rows, old).view(np.uint8), BlockType.F32, new)

    def encode(self, weights: NDArray[np.float32], new: BlockType) -> Bytes:
        """Return rows of weights, (R, n), in a block type. Raises what `recode` raises."""
        return self.recode(np.ascontiguousarray(weights, np.float32).view(np.uint8), BlockType.F32, new)

    def _from_floats(self, rows: Bytes, old: BlockType, new: BlockType) -> Bytes:
        if self._processor is not None and new.is_encodable and rows.size:
            out = np.empty((len(rows), row_bytes(new, rows.shape[1] // old.bytes_per_block)), np.uint8)
            if self._processor.encode(np.ascontiguousarray(rows), old.ggml_id, new.ggml_id, out):
                return out
        return encode(decode(rows, old), new)  # which says what is wrong
