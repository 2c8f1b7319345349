"""What a model is, in a few words: read from its header, without loading it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from camelid.formats import open_checkpoint
from camelid.models.load import read_spec
from camelid.models.spec import ModelSpec, Pooling


def capabilities(spec: ModelSpec) -> list[str]:
    """Return what a model is for, in Ollama's words, and `rerank`, for which it has none."""
    if spec.pooling is Pooling.RANK:
        return ["rerank"]
    return ["embedding"] if spec.pooling is not None else ["completion"]


def summarize(weights: Path) -> dict[str, Any]:
    """Return architecture, sizes and quantization of a weights file. Raises FormatError, ModelError."""
    with open_checkpoint(weights) as checkpoint:
        spec = read_spec(checkpoint)
        tensors = checkpoint.tensors.values()
        parameters = sum(math.prod(info.shape) for info in tensors)
        types: Counter[str] = Counter()
        for info in tensors:
            types[info.block_type.name] += info.size_bytes
        return {
            "architecture": str(checkpoint.metadata.get("general.architecture", "llama")),
            "parameters": f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M",
            "context length": spec.context_length,
            "embedding length": spec.dim,
            "layers": spec.num_layers,
            "quantization": types.most_common(1)[0][0],
            "capabilities": capabilities(spec),
            "size": sum(info.size_bytes for info in tensors),
        }
