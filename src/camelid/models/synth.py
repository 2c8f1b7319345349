"""Writes models of published shapes with seeded random weights: right in size and speed, not in sense.

Quantizing a billion weights takes minutes; so a pool of normal weights is quantized once per type and width, and every
tensor is drawn from it in pieces of 256. Every block is a valid one with the statistics of a freshly initialised model,
whose outputs neither vanish nor explode.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camelid.formats.blocks import BlockType, encode, row_bytes
from camelid.formats.gguf_writer import TensorSource, tensor_from_values, write_gguf

from .lora import DOWN, TARGETS, UP
from .mixes import Mix, block_type, find_mix
from .names import Naming, tensor_name
from .shapes import shape_spec
from .spec import DivisorScaling, ModelSpec, Weight
from .spec_gguf import ROPE_DIVISORS, gguf_metadata
from .vocabulary import Vocabulary, made_up_vocabulary, read_vocabulary
from .weights import Slot, all_slots, weight_shape

PIECE_WEIGHTS = 256  # the widest block; all shapes are multiples of it
POOL_PIECES = 4096  # a million weights: two rows alike in a piece are rare, and the pool takes 0.2 s to quantize
CHUNK_PIECES = 1 << 16  # 9 MB of Q4_K written at once
NORM_SPREAD = 0.1  # norms are 1 with this deviation, so that one left out or mixed up shows


def write_synthetic(
    path: Path | str,
    shape: str,
    quant: str,
    *,
    seed: int = 0,
    num_layers: int | None = None,
    active_layers: int | None = None,
    vocabulary: Path | None = None,
) -> None:
    """Write a GGUF file of a published shape, such as `1b`, in a quantization, such as `Q4_K_M`.

    The same arguments give the same bytes. `num_layers` cuts the model short. Layers beyond the first `active_layers`
    add nothing, so the model says what it says when it is cut to these: a pair for a draft model and its target.
    `vocabulary` is Meta's tokenizer.model or a tokenizer.json, and decides the number of tokens; without it a
    vocabulary of the published size is made up. Raises InvalidRequest for a shape or quantization that is not known,
    NotFound and ModelError for the vocabulary.
    """
    mix = find_mix(quant)
    spec = shape_spec(shape, num_layers=num_layers)
    words = made_up_vocabulary(spec.vocab_size) if vocabulary is None else read_vocabulary(vocabulary)
    spec = shape_spec(shape, num_layers=num_layers, vocab_size=len(words.tokens))
    write_gguf(path, _metadata(spec, mix, words, shape, seed), _tensors(spec, mix, seed, active_layers))


def write_synthetic_adapter(path: Path, spec: ModelSpec, rank: int, *, seed: int = 0) -> None:
    """Write a LoRA adapter of seeded random numbers for every matrix of every layer, as a GGUF file.

    Both matrices have the spread that trained ones have, so that the adapter changes what the model says.
    """
    metadata = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "general.name": f"Synthetic adapter of rank {rank}, seed {seed}",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(rank),
    }
    tensors = []
    for layer in range(spec.num_layers):
        for weight in TARGETS:
            name = tensor_name(Naming.GGUF, weight, layer)
            rows, columns = weight_shape(spec, weight)
            generator = _generator(seed, name)
            down = generator.standard_normal((rank, columns), dtype=np.float32) * np.float32(columns**-0.5)
            up = generator.standard_normal((rows, rank), dtype=np.float32) * np.float32(0.1)
            tensors.append(tensor_from_values(name + DOWN, down, BlockType.F16))
            tensors.append(tensor_from_values(name + UP, up, BlockType.F16))
    write_gguf(path, metadata, tensors)


def _metadata(spec: ModelSpec, mix: Mix, words: Vocabulary, shape: str, seed: int) -> dict[str, object]:
    return {
        **gguf_metadata(spec),
        "general.name": f"Synthetic Llama {shape.upper()}, seed {seed}",
        "general.file_type": mix.file_type,
        "general.quantization_version": 2,
        **words.metadata(),
    }


def _tensors(spec: ModelSpec, mix: Mix, seed: int, active_layers: int | None) -> Iterator[TensorSource]:
    pools = _Pools(seed)
    if isinstance(spec.rope.scaling, DivisorScaling):
        yield tensor_from_values(ROPE_DIVISORS, np.array(spec.rope.scaling.divisors), BlockType.F32)
    for slot in all_slots(spec):
        name = tensor_name(Naming.GGUF, slot.weight, slot.layer, is_bias=slot.is_bias)
        if len(slot.shape) == 1:
            values = 1 + NORM_SPREAD * _generator(seed, name).standard_normal(slot.shape)
            yield tensor_from_values(name, values, BlockType.F32)
        elif slot.weight in (Weight.ATTENTION_OUT, Weight.DOWN) and slot.layer >= (active_layers or spec.num_layers):
            kind = block_type(mix, spec, slot)
            yield TensorSource(name, slot.shape, kind, partial(_zeros, kind, slot))
        else:
            kind = block_type(mix, spec, slot)
            yield TensorSource(name, slot.shape, kind, partial(_draw, pools, kind, slot, _generator(seed, name)))


def _draw(pools: _Pools, kind: BlockType, slot: Slot, generator: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield a matrix, in chunks of pieces drawn from the pool."""
    pool = pools.pieces(kind, slot.shape[1])
    num_pieces = slot.shape[0] * slot.shape[1] // PIECE_WEIGHTS
    for start in range(0, num_pieces, CHUNK_PIECES):
        yield pool[generator.integers(0, len(pool), min(CHUNK_PIECES, num_pieces - start))]


def _zeros(kind: BlockType, slot: Slot) -> Iterator[NDArray[np.uint8]]:
    """Yield a matrix of zeros: in every type, a block of zero bytes is one."""
    yield np.zeros((slot.shape[0], row_bytes(kind, slot.shape[1])), np.uint8)


class _Pools:
    """Encoded pieces of normal weights, one pool per block type and number of columns."""

    def __init__(self, seed: int) -> None:
        self._weights = _generator(seed, "pool").standard_normal((POOL_PIECES, PIECE_WEIGHTS), dtype=np.float32)
        self._pools: dict[tuple[BlockType, int], NDArray[np.uint8]] = {}

    def pieces(self, kind: BlockType, num_columns: int) -> NDArray[np.uint8]:
        """Return the pool for rows of `num_columns`: weights of variance 1 / num_columns, so that products keep their
        input's size.
        """
        key = (kind, num_columns)
        if key not in self._pools:
            self._pools[key] = encode(self._weights * np.float32(num_columns**-0.5), kind)
        return self._pools[key]


def _generator(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one tensor, so that no tensor depends on which others are written."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
