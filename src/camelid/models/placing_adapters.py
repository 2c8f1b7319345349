"""Adapters are taken in by a backend, for use beside the weights (`low_rank.py`), and what memory that takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import Backend, LowRank
from camelid.errors import ModelError
from camelid.formats import BlockType, Checkpoint

from .load import naming_of
from .lora import Change, LoraAdapter
from .low_rank import PlacedAdapter, Slot
from .names import tensor_name
from .spec import ModelSpec, Weight
from .weights import weight_shape


def place_adapter(adapter: LoraAdapter, base: Checkpoint, spec: ModelSpec, backend: Backend) -> PlacedAdapter:
    """Check that an adapter fits a model, and take it in on the model's backend.

    Its numbers are kept in 16 bits, each matrix scaled into their range, but for matrices that are F32 in the base.
    Raises ModelError, UnsupportedModel, OutOfMemory.
    """
    adapter.check(spec, str(base.path))
    naming = naming_of(base)
    changes: dict[Slot, LowRank] = {}
    for weight, layer in adapter.pairs:
        whole = _is_whole(base, spec, weight, layer)
        change = adapter.change(weight, layer, spec, naming)
        if not (np.isfinite(change.down).all() and np.isfinite(change.up).all()):
            raise ModelError(f"{adapter.path}: the change of {weight.value} {layer} has numbers that are not finite")
        changes[weight, layer] = backend.place_low_rank(*(_as_is(change) if whole else _kept(change)))
    return PlacedAdapter(changes)


def adapter_bytes(adapter: LoraAdapter, base: Checkpoint, spec: ModelSpec) -> int:
    """Return the memory that `place_adapter` takes for an adapter that fits."""
    return sum(
        _num_weights(spec, weight, pair.rank) * (4 if _is_whole(base, spec, weight, layer) else 2)
        for (weight, layer), pair in adapter.pairs.items()
    )


def _num_weights(spec: ModelSpec, weight: Weight, rank: int) -> int:
    return rank * sum(weight_shape(spec, weight))


def _is_whole(base: Checkpoint, spec: ModelSpec, weight: Weight, layer: int) -> bool:
    """Say whether a matrix is F32 in the base."""
    is_head = weight is Weight.HEAD and spec.is_tied
    name = tensor_name(naming_of(base), Weight.EMBEDDING if is_head else weight, layer)
    return base.tensors[name].block_type is BlockType.F32


def _as_is(change: Change) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    return change.down, change.up, change.scale


def _kept(change: Change) -> tuple[NDArray[np.float16], NDArray[np.float16], float]:
    """Return the matrices in 16 bits, each multiplied by the power of two that brings its largest number near 1."""
    down, down_power = _normal(change.down)
    up, up_power = _normal(change.up)
    return down, up, change.scale * 2.0 ** (down_power + up_power)


def _normal(matrix: NDArray[np.float32]) -> tuple[NDArray[np.float16], int]:
    largest = float(np.abs(matrix).max())
    power = int(np.frexp(largest)[1]) if 0 < largest < np.inf else 0
    return np.ldexp(matrix, -power).astype(np.float16), power
