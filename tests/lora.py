"""Adapters for tests: seeded random pairs for matrices of a model, written in both forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.formats import BlockType, open_checkpoint, tensor_from_values, write_gguf, write_safetensors
from camelid.models.load import read_spec
from camelid.models.lora import TARGETS
from camelid.models.names import Naming, tensor_name
from camelid.models.spec import ModelSpec, Weight
from camelid.models.weights import weight_shape

LORA = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": 8.0}
Pairs = Mapping[tuple[Weight, int], tuple[NDArray[np.float32], NDArray[np.float32]]]  # down, up


def spec_of(path: Path) -> ModelSpec:
    with open_checkpoint(path) as checkpoint:
        return read_spec(checkpoint)


def random_pairs(
    spec: ModelSpec, seed: int = 7, rank: int = 4, spread: float = 0.1, weights: tuple[Weight, ...] = TARGETS
) -> Pairs:
    """Return pairs for `weights` of every layer."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer in range(spec.num_layers):
        for weight in weights:
            rows, columns = weight_shape(spec, weight)
            down = rng.normal(0, spread, (rank, columns)).astype(np.float32)
            found[weight, layer] = (down, rng.normal(0, spread, (rows, rank)).astype(np.float32))
    return found


def write_gguf_lora(path: Path, pairs: Pairs, metadata: Mapping[str, Any] = LORA) -> Path:
    """Write llama.cpp's form."""
    tensors = []
    for (weight, layer), (down, up) in pairs.items():
        name = tensor_name(Naming.GGUF, weight, layer)
        tensors.append(tensor_from_values(f"{name}.lora_a", down, BlockType.F32))
        tensors.append(tensor_from_values(f"{name}.lora_b", up, BlockType.F32))
    write_gguf(path, metadata, tensors)
    return path


def write_peft_lora(folder: Path, pairs: Pairs, **config: Any) -> Path:
    """Write PEFT's form. The rows of query and key are as the pairs have them."""
    folder.mkdir()
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_dora": False, "modules_to_save": None}
    (folder / "adapter_config.json").write_text(json.dumps({**plain, **config}))
    tensors: dict[str, NDArray[np.float32]] = {}
    for (weight, layer), (down, up) in pairs.items():
        module = "base_model.model." + tensor_name(Naming.HUGGING_FACE, weight, layer).removesuffix(".weight")
        tensors |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    write_safetensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})
    return folder
