"""Which block type each weight gets in a quantization that users know by name, such as Q4_K_M.

A name stands for a mix: most matrices in the type that the name says, those that suffer most from rounding in a finer
one. The rules are llama.cpp's (`llama-quant.cpp`), so that a file made here has the size and speed of the published
file of that name.
"""

from __future__ import annotations

from dataclasses import dataclass

from camelid.errors import InvalidRequest
from camelid.formats.blocks import BlockType

from .spec import ModelSpec, Weight
from .weights import Slot


@dataclass(frozen=True)
class Mix:
    """A named quantization. `file_type` is its number in the metadata of GGUF files."""

    name: str
    file_type: int
    base: BlockType
    head: BlockType  # the head, which is the embedding in tied models


MIXES = {
    mix.name: mix
    for mix in (
        Mix("F32", 0, BlockType.F32, BlockType.F32),
        Mix("F16", 1, BlockType.F16, BlockType.F16),
        Mix("BF16", 32, BlockType.BF16, BlockType.BF16),
        Mix("Q8_0", 7, BlockType.Q8_0, BlockType.Q8_0),
        Mix("Q6_K", 18, BlockType.Q6_K, BlockType.Q6_K),
        Mix("Q5_K_M", 17, BlockType.Q5_K, BlockType.Q6_K),
        Mix("Q5_K_S", 16, BlockType.Q5_K, BlockType.Q6_K),
        Mix("Q4_K_M", 15, BlockType.Q4_K, BlockType.Q6_K),
        Mix("Q4_K_S", 14, BlockType.Q4_K, BlockType.Q6_K),
        Mix("Q4_0", 2, BlockType.Q4_0, BlockType.Q6_K),
    )
}


# Small tables whose every element counts
SMALL = frozenset({Weight.POSITIONS, Weight.SEGMENTS, Weight.CLASSIFIER, Weight.CLASSIFIER_DENSE})


def find_mix(name: str) -> Mix:
    """Return the mix of that name, in upper or lower case. Raises InvalidRequest."""
    mix = MIXES.get(name.upper())
    if mix is None:
        raise InvalidRequest(
            f"no quantization is called {name!r:.80}", field="quant", hint=f"use one of {', '.join(MIXES)}"
        )
    return mix


def block_type(mix: Mix, spec: ModelSpec, slot: Slot) -> BlockType:
    """Return the type that `slot` gets. Norms and biases stay F32, and so do rows that fill no whole block, as F16."""
    if len(slot.shape) == 1 or slot.weight in SMALL:
        return BlockType.F32
    wanted = _wanted(mix, spec, slot)
    for choice in (wanted, BlockType.Q8_0):
        if slot.shape[-1] % choice.weights_per_block == 0:
            return choice
    return BlockType.F16


def _wanted(mix: Mix, spec: ModelSpec, slot: Slot) -> BlockType:
    if slot.weight is Weight.HEAD or (slot.weight is Weight.EMBEDDING and spec.is_tied):
        return mix.head
    if slot.weight not in (Weight.VALUE, Weight.DOWN):
        return mix.base
    if mix.name in ("Q4_K_M", "Q5_K_M") and _deserves_more_bits(slot.layer, spec.num_layers):
        return BlockType.Q6_K
    if mix.name == "Q4_K_S" and slot.layer < (4 if slot.weight is Weight.VALUE else spec.num_layers // 8):
        return BlockType.Q5_K
    if slot.weight is Weight.VALUE and mix.base is BlockType.Q4_K and _is_70b(spec):
        return BlockType.Q5_K
    return mix.base


def _deserves_more_bits(layer: int, num_layers: int) -> bool:
    """Whether a layer is in the first or last eighth, or every third between."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


def _is_70b(spec: ModelSpec) -> bool:
    """Whether llama.cpp takes the model for a 70B, whose value matrices are small beside the rest."""
    return spec.num_layers == 80 and spec.num_heads != spec.num_kv_heads
