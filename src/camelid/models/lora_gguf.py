"""An adapter of any form becomes llama.cpp's GGUF file: the one form that a store keeps and other programs read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from camelid.formats import BlockType, TensorSource, tensor_from_values, write_gguf

from .lora import DOWN, UP, LoraAdapter
from .names import Naming, tensor_name
from .spec import ModelSpec


def write_gguf_adapter(adapter: LoraAdapter, spec: ModelSpec, path: Path) -> None:
    """Write `adapter`, which fits the model `spec`, as a GGUF file. Raises UnsupportedModel, OSError."""
    alphas = {pair.scale * pair.rank for pair in adapter.pairs.values()}
    alpha = alphas.pop() if len(alphas) == 1 else 0.0  # 0: the matrices count as they are, so their scales are in them
    metadata = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
    }
    write_gguf(path, metadata, list(_tensors(adapter, spec, has_alpha=alpha != 0.0)))


def _tensors(adapter: LoraAdapter, spec: ModelSpec, *, has_alpha: bool) -> Iterator[TensorSource]:
    for weight, layer in adapter.pairs:
        change = adapter.change(weight, layer, spec, Naming.GGUF)
        up = change.up if has_alpha else np.float32(change.scale) * change.up
        name = tensor_name(Naming.GGUF, weight, layer)
        yield tensor_from_values(name + DOWN, change.down, BlockType.F32)
        yield tensor_from_values(name + UP, up, BlockType.F32)
