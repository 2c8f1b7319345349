"""LoRA adapters as files: which matrices of a model one changes, and by what.

Two forms are read: llama.cpp's GGUF file, and the folder that PEFT writes (adapter_config.json and
adapter_model.safetensors). What an adapter is for is told by shapes and names alone, since no file says it reliably.
What becomes of the changes, merged weights or products beside them, is decided elsewhere.
Source: llama.cpp, `convert_lora_to_gguf.py`; Hugging Face PEFT, `LoraConfig` and `LoraLayer`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import ModelError, NotFound, UnsupportedModel
from camelid.formats import Checkpoint, SafetensorsCheckpoint, open_checkpoint, read
from camelid.formats.json_file import load_json

from .names import Naming, tensor_name
from .row_order import row_order
from .spec import ModelSpec, Weight
from .weights import weight_shape

DOWN, UP = ".lora_a", ".lora_b"
MAX_RANK = 4096  # adapters in use have 8 to 256
MAX_LISTED = 3
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CONVERT = "convert it with llama.cpp's convert_lora_to_gguf.py, or give the folder that PEFT wrote"

TARGETS = (Weight.QUERY, Weight.KEY, Weight.VALUE, Weight.ATTENTION_OUT, Weight.GATE, Weight.UP, Weight.DOWN)

# Fields of PEFT's configuration that make an adapter more than two matrices, with what leaves it plain.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": ([], None),
    "fan_in_fan_out": (False, None),
    "use_qalora": (False, None),
    "layer_replication": (None,),
    "target_parameters": ([], None),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
    "megatron_config": (None,),
    "arrow_config": (None,),
}


@dataclass(frozen=True)
class Change:
    """What is added to one matrix: `scale` times up (rows, rank) · down (rank, columns)."""

    down: NDArray[np.float32]
    up: NDArray[np.float32]
    scale: float


@dataclass(frozen=True)
class Pair:
    """The two matrices of one change, as they lie in the file."""

    down: str
    up: str
    rank: int
    scale: float


class LoraAdapter:
    """An opened adapter. Close it, or use it in a `with` statement."""

    def __init__(self, checkpoint: Checkpoint, naming: Naming, pairs: Mapping[tuple[Weight, int], Pair]) -> None:
        self.path = checkpoint.path
        self.pairs = MappingProxyType(dict(pairs))
        self._checkpoint = checkpoint
        self._naming = naming

    @property
    def num_weights(self) -> int:
        """Numbers in all matrices together."""
        tensors = self._checkpoint.tensors
        return sum(math.prod(tensors[name].shape) for pair in self.pairs.values() for name in (pair.down, pair.up))

    @property
    def max_rank(self) -> int:
        """The rank of its widest change."""
        return max(pair.rank for pair in self.pairs.values())

    def check(self, spec: ModelSpec, base: str) -> None:
        """Raise ModelError, UnsupportedModel unless the adapter fits the model `spec`, which errors call `base`."""
        architecture = self._checkpoint.metadata.get("general.architecture")
        if spec.encoder is not None or (architecture is not None and architecture != spec.architecture):
            raise ModelError(
                f"{self.path} is for the architecture {architecture or 'llama'!r}, not {spec.architecture!r}"
            )
        for (weight, layer), pair in self.pairs.items():
            if layer >= spec.num_layers:
                raise ModelError(f"{self.path} changes {pair.down}, and {base} has only {spec.num_layers} layers")
            shape = weight_shape(spec, weight)
            up, down = (self._checkpoint.tensors[name].shape for name in (pair.up, pair.down))
            if (up, down) != ((shape[0], pair.rank), (pair.rank, shape[1])):
                raise ModelError(
                    f"{self.path}: {up} by {down} does not fit {_called(weight, layer)} of {base}, which is {shape}",
                    hint=_for_whom(self._checkpoint),
                )

    def change(self, weight: Weight, layer: int, spec: ModelSpec, naming: Naming) -> Change:
        """Return what is added to one matrix of a model whose weights lie as `naming` has them."""
        pair = self.pairs[weight, layer]
        down, up = read(self._checkpoint, pair.down), read(self._checkpoint, pair.up)
        order = row_order(spec, weight, self._naming, naming)
        if order is not None:
            up = up.reshape(-1, len(order), up.shape[1])[:, order].reshape(up.shape)
        return Change(down, up, pair.scale)

    def close(self) -> None:
        """Unmap the file."""
        self._checkpoint.close()

    def __enter__(self) -> LoraAdapter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_lora(path: Path) -> LoraAdapter:
    """Open an adapter: a GGUF file, PEFT's folder, or the safetensors file in it.

    Raises NotFound, FormatError, UnsupportedModel for what is no plain LoRA adapter, ModelError for one that is broken.
    """
    if path.is_dir() or path.suffix == ".safetensors":
        return _open_peft(path if path.is_dir() else path.parent)
    checkpoint = open_checkpoint(path)
    try:
        return _from_gguf(checkpoint)
    except ModelError:
        checkpoint.close()
        raise


def lora_files(path: Path) -> tuple[Path, ...]:
    """Return the files that an adapter consists of, none of them opened."""
    folder = path if path.is_dir() else path.parent
    return (folder / CONFIG, folder / WEIGHTS) if path.is_dir() or path.suffix == ".safetensors" else (path,)


# ── GGUF ──


def _from_gguf(checkpoint: Checkpoint) -> LoraAdapter:
    found = checkpoint.metadata.get("adapter.type")
    if found != "lora":
        what = "is no adapter in GGUF" if found is None else f"is an adapter of the type {found!r:.40}"
        raise UnsupportedModel(f"{checkpoint.path} {what}", hint=CONVERT)
    if "adapter.alora.invocation_tokens" in checkpoint.metadata:
        raise UnsupportedModel(
            f"{checkpoint.path} is to be switched on by tokens of the prompt, which is not supported"
        )
    alpha = checkpoint.metadata.get("adapter.lora.alpha")
    names = {name.removesuffix(DOWN).removesuffix(UP) for name in checkpoint.tensors}
    pairs: dict[tuple[Weight, int], Pair] = {}
    for name in sorted(names):
        rank = _rank(checkpoint, name + DOWN, name + UP)
        scale = float(alpha) / rank if isinstance(alpha, int | float) and alpha else 1.0
        pairs[_slot(checkpoint, Naming.GGUF, name)] = Pair(name + DOWN, name + UP, rank, scale)
    return _checked(LoraAdapter(checkpoint, Naming.GGUF, pairs))


# ── PEFT ──


def _open_peft(folder: Path) -> LoraAdapter:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise NotFound(f"{folder} holds no {name}", hint="a PEFT adapter is a folder with both files")
    config = load_json(folder / CONFIG)
    checkpoint = SafetensorsCheckpoint(folder / WEIGHTS, config)
    try:
        _check_config(folder, config)
        return _from_peft(checkpoint, config)
    except ModelError:
        checkpoint.close()
        raise


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModel(f"{folder} is an adapter of the type {kind!r:.40}", hint="plain LoRA is supported")
    for field, plain in _PLAIN.items():
        if field in config and config[field] not in plain:
            raise UnsupportedModel(f"{folder}: {field} is {config[field]!r:.60}, which is not supported")


def _from_peft(checkpoint: Checkpoint, config: Mapping[str, Any]) -> LoraAdapter:
    halves: dict[str, dict[str, str]] = {}
    for name in checkpoint.tensors:
        if name.endswith(".base_layer.weight"):  # PEFT adds a copy of the head that an adapter changes
            continue
        found = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight", name)
        if found is None:
            raise UnsupportedModel(f"{checkpoint.path} holds {name!r:.120}, which is no part of a plain LoRA adapter")
        halves.setdefault(found[1], {})[found[2]] = name
    pairs: dict[tuple[Weight, int], Pair] = {}
    for module, names in sorted(halves.items()):
        down, up = names.get("A", f"{module}.lora_A.weight"), names.get("B", f"{module}.lora_B.weight")
        rank = _rank(checkpoint, down, up)
        slot = _slot(checkpoint, Naming.HUGGING_FACE, f"{module}.weight")
        pairs[slot] = Pair(down, up, rank, _peft_scale(checkpoint.path, config, module, rank))
    return _checked(LoraAdapter(checkpoint, Naming.HUGGING_FACE, pairs))


def _peft_scale(path: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return alpha / rank, or alpha / √rank where the adapter is stabilized (Kalajdzievski 2023, rsLoRA)."""
    alpha = config.get("lora_alpha", 8)
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping):
        raise ModelError(f"{path.parent / CONFIG}: alpha_pattern must map modules to numbers, got {patterns!r:.60}")
    for pattern, value in patterns.items():
        if re.fullmatch(r"\^?[A-Za-z0-9_.]+\$?", pattern) is None:  # not every regular expression of a file is run
            raise UnsupportedModel(f"{path.parent / CONFIG}: the alpha_pattern {pattern!r:.60} is not supported")
        name = pattern.strip("^$")
        if module == name or (not pattern.startswith("^") and module.endswith(f".{name}")):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelError(f"{path.parent / CONFIG}: lora_alpha must be a number, got {alpha!r:.60}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


# ── both ──


def _rank(checkpoint: Checkpoint, down: str, up: str) -> int:
    """Return the rank of a pair whose halves are both there and fit each other."""
    for name in (down, up):
        if name not in checkpoint.tensors:
            raise UnsupportedModel(f"{checkpoint.path} lacks {name}", hint="it is no plain LoRA adapter")
    shapes = [checkpoint.tensors[name].shape for name in (up, down)]
    rank = shapes[1][0] if len(shapes[0]) == len(shapes[1]) == 2 else 0
    if not 1 <= rank <= MAX_RANK or shapes[0][1] != rank:
        raise ModelError(
            f"{checkpoint.path}: {shapes[0]} by {shapes[1]} does not fit together for {up}, with a rank of 1–{MAX_RANK}"
        )
    return rank


def _slot(checkpoint: Checkpoint, naming: Naming, name: str) -> tuple[Weight, int]:
    """Return which matrix a name means. Raises UnsupportedModel for one that no adapter may change here."""
    numbers = re.findall(r"\.(\d{1,6})\.", name)
    layer = int(numbers[0]) if numbers else 0
    for weight in (*TARGETS, Weight.HEAD):
        if tensor_name(naming, weight, layer) == name:
            return weight, layer
    targets = ", ".join(tensor_name(naming, weight).removesuffix(".weight").rpartition(".")[2] for weight in TARGETS)
    head = tensor_name(naming, Weight.HEAD).removesuffix(".weight")
    raise UnsupportedModel(
        f"{checkpoint.path} changes {name!r:.120}, which is not supported", hint=f"supported are {targets}, {head}"
    )


def _checked(adapter: LoraAdapter) -> LoraAdapter:
    if not adapter.pairs:
        raise ModelError(f"{adapter.path} changes nothing: it holds no matrices")
    return adapter


def _called(weight: Weight, layer: int) -> str:
    return tensor_name(Naming.GGUF, weight, layer)


def _for_whom(checkpoint: Checkpoint) -> str:
    said = checkpoint.metadata.get("base_model_name_or_path") or checkpoint.metadata.get("general.base_model.0.name")
    return f"the adapter says that it is for {said}" if isinstance(said, str) and said else "it is for another model"
