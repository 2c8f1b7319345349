"""LoRA adapters: what training changed of a model, as pairs of small matrices, merged into the weights at loading.

An adapted checkpoint is a checkpoint: whoever places weights or counts memory sees the merged tensors and knows of no
adapter. Merged tensors of a quantized model are Q8_0, which loses less than the adapter says; those of others keep
their type.
Source: llama.cpp's adapter files (`convert_lora_to_gguf.py`), version of 2024 and later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import ModelError, UnsupportedModel
from camelid.formats import BlockType, Checkpoint, TensorInfo, decode, encode, open_checkpoint, read, row_bytes

DOWN, UP = ".lora_a", ".lora_b"
MAX_RANK = 4096  # adapters in use have 8 to 256
_KEPT = (BlockType.F32, BlockType.F16, BlockType.BF16)
_SLAB_ROWS = 1024  # merged at a time, so that a large tensor takes little memory beside its result


@dataclass(frozen=True)
class _Change:
    """What is added to one tensor: `scale` times up (out, rank) @ down (rank, in)."""

    down: NDArray[np.float32]
    up: NDArray[np.float32]
    scale: float


class AdaptedCheckpoint:
    """A checkpoint with one adapter merged into it."""

    def __init__(self, base: Checkpoint, adapter: Checkpoint) -> None:
        """Check that the adapter belongs to the base. Raises ModelError, UnsupportedModel."""
        check_adapter(adapter)
        self._base, self._adapter = base, adapter
        self._changed = _changed_tensors(base, adapter)
        merged = {name: _merged_info(base.tensors[name]) for name in self._changed}
        self._tensors = MappingProxyType({**base.tensors, **merged})

    @property
    def path(self) -> Path:
        return self._base.path

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._base.metadata

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return a tensor's bytes; those of a merged one are made by each call."""
        if name not in self._changed:
            return self._base.raw(name)
        return _merge(self._base, self._tensors[name], _change(self._adapter, name))

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
        checkpoint = AdaptedCheckpoint(checkpoint, open_checkpoint(adapter))
    return checkpoint


def check_adapter(adapter: Checkpoint) -> None:
    """Raise UnsupportedModel for what is no LoRA adapter in a GGUF file."""
    found = adapter.metadata.get("adapter.type")
    if found != "lora":
        what = "is no adapter in GGUF" if found is None else f"is an adapter of the type {found!r:.40}"
        raise UnsupportedModel(f"{adapter.path} {what}", hint="convert it with llama.cpp's convert_lora_to_gguf.py")


def _changed_tensors(base: Checkpoint, adapter: Checkpoint) -> frozenset[str]:
    """Return the base's tensors that the adapter changes, all of them checked."""
    architectures = [checkpoint.metadata.get("general.architecture") for checkpoint in (base, adapter)]
    if architectures[0] != architectures[1]:
        raise ModelError(f"{adapter.path} is for the architecture {architectures[1]!r}, not {architectures[0]!r}")
    names = {name.removesuffix(DOWN).removesuffix(UP) for name in adapter.tensors}
    for name in sorted(names):
        _check_pair(base, adapter, name)
    return frozenset(names)


def _check_pair(base: Checkpoint, adapter: Checkpoint, name: str) -> None:
    down, up = adapter.tensors.get(name + DOWN), adapter.tensors.get(name + UP)
    if down is None or up is None:
        raise UnsupportedModel(f"{adapter.path}: {name} lacks {DOWN} or {UP}", hint="it is no plain LoRA adapter")
    if name not in base.tensors:
        raise ModelError(f"{adapter.path} changes {name}, which {base.path} does not have")
    if name.startswith("token_embd."):
        raise UnsupportedModel(f"{adapter.path} changes the embedding, which is not supported")
    shape = base.tensors[name].shape
    rank = down.shape[0] if len(down.shape) == 2 else 0
    if not 1 <= rank <= MAX_RANK or len(shape) != 2 or (up.shape, down.shape) != ((shape[0], rank), (rank, shape[1])):
        raise ModelError(f"{adapter.path}: {up.shape} by {down.shape} does not fit {name}, which is {shape}")


def _change(adapter: Checkpoint, name: str) -> _Change:
    down, up = read(adapter, name + DOWN), read(adapter, name + UP)
    alpha = adapter.metadata.get("adapter.lora.alpha")
    scale = float(alpha) / len(down) if isinstance(alpha, int | float) and alpha else 1.0
    return _Change(down, up, scale)


def _merged_info(info: TensorInfo) -> TensorInfo:
    quantized = BlockType.F16 if info.shape[1] % BlockType.Q8_0.weights_per_block else BlockType.Q8_0
    kind = info.block_type if info.block_type in _KEPT else quantized
    return replace(info, block_type=kind, size_bytes=info.shape[0] * row_bytes(kind, info.shape[1]))


def _merge(base: Checkpoint, info: TensorInfo, change: _Change) -> NDArray[np.uint8]:
    """Return the merged tensor's bytes: (rows, bytes per row), read-only."""
    rows, kind = base.raw(info.name), base.tensors[info.name].block_type
    merged = np.empty((info.shape[0], row_bytes(info.block_type, info.shape[1])), np.uint8)
    for start in range(0, len(rows), _SLAB_ROWS):
        slab = slice(start, start + _SLAB_ROWS)
        added = np.float32(change.scale) * (change.up[slab] @ change.down)
        merged[slab] = encode(decode(rows[slab], kind) + added, info.block_type)
    merged.flags.writeable = False
    return merged
