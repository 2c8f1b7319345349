"""LoRA adapters merged into the weights at loading: what training changed is added, once.

An adapted checkpoint is a checkpoint: whoever places weights or counts memory sees the merged tensors and knows of no
adapter. Merged tensors of a quantized model are Q8_0, which loses less than the adapter says; those of others keep
their type. Adapters that requests choose are not merged: see `low_rank.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import UnsupportedModel
from camelid.formats import BlockType, Checkpoint, TensorInfo, decode, encode, open_checkpoint, row_bytes

from .load import naming_of, read_spec
from .lora import Change, LoraAdapter, open_lora
from .names import tensor_name
from .spec import Weight

_KEPT = (BlockType.F32, BlockType.F16, BlockType.BF16)
_SLAB_ROWS = 1024  # merged at a time, so that a large tensor takes little memory beside its result


class AdaptedCheckpoint:
    """A checkpoint with one adapter merged into it."""

    def __init__(self, base: Checkpoint, adapter: LoraAdapter) -> None:
        """Check that the adapter belongs to the base. Raises ModelError, UnsupportedModel."""
        self._base, self._adapter = base, adapter
        self._spec, self._naming = read_spec(base), naming_of(base)
        adapter.check(self._spec, str(base.path))
        if self._spec.is_tied and (Weight.HEAD, 0) in adapter.pairs:
            raise UnsupportedModel(
                f"{adapter.path} changes the head, which is the embedding of {base.path}",
                hint="it can be used without merging: --adapter NAME=PATH",
            )
        self._changed = {tensor_name(self._naming, *slot): slot for slot in adapter.pairs}
        merged = {name: _merged_info(base.tensors[name]) for name in self._changed}
        self._tensors = MappingProxyType({**base.tensors, **merged})

    @property
    def path(self) -> Path:
        return self._base.path

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._base.metadata

    @property
    def typed_metadata(self) -> Mapping[str, Any]:
        """The base's metadata with the types that its file gives them, where it has any."""
        return getattr(self._base, "typed_metadata", self._base.metadata)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return a tensor's bytes; those of a merged one are made by each call."""
        if name not in self._changed:
            return self._base.raw(name)
        change = self._adapter.change(*self._changed[name], self._spec, self._naming)
        return _merge(self._base, self._tensors[name], change)

    def close(self) -> None:
        self._base.close()
        self._adapter.close()

    def __enter__(self) -> AdaptedCheckpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_adapted(path: Path | str, adapters: Sequence[Path | str] = ()) -> Checkpoint:
    """Open a model with its adapters merged, in their order. Raises what `open_checkpoint` does, and ModelError."""
    checkpoint = open_checkpoint(path)
    for adapter in adapters:
        checkpoint = AdaptedCheckpoint(checkpoint, open_lora(Path(adapter)))
    return checkpoint


def _merged_info(info: TensorInfo) -> TensorInfo:
    quantized = BlockType.F16 if info.shape[1] % BlockType.Q8_0.weights_per_block else BlockType.Q8_0
    kind = info.block_type if info.block_type in _KEPT else quantized
    return replace(info, block_type=kind, size_bytes=info.shape[0] * row_bytes(kind, info.shape[1]))


def _merge(base: Checkpoint, info: TensorInfo, change: Change) -> NDArray[np.uint8]:
    """Return the merged tensor's bytes: (rows, bytes per row), read-only."""
    rows, kind = base.raw(info.name), base.tensors[info.name].block_type
    merged = np.empty((info.shape[0], row_bytes(info.block_type, info.shape[1])), np.uint8)
    for start in range(0, len(rows), _SLAB_ROWS):
        slab = slice(start, start + _SLAB_ROWS)
        added = np.float32(change.scale) * (change.up[slab] @ change.down)
        merged[slab] = encode(decode(rows[slab], kind) + added, info.block_type)
    merged.flags.writeable = False
    return merged
