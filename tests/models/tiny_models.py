"""Small things that several tests of models share: a checkpoint in memory, batches over pages, and tiny checkpoints of
both kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import PAGE_TOKENS, Backend, Batch, CacheType
from camelid.errors import NotFound
from camelid.formats.blocks import BlockType, encode
from camelid.formats.checkpoint import TensorInfo
from camelid.models.load import Model
from camelid.models.rope import attention_spec

Arrays = Mapping[str, NDArray[np.float32]]


class MemoryCheckpoint:
    """A checkpoint made of arrays. Matrices are encoded as `block_type`, vectors as F32."""

    def __init__(self, metadata: Mapping[str, Any], arrays: Arrays, block_type: BlockType = BlockType.F32) -> None:
        self.path = Path("tiny")
        self.metadata = dict(metadata)
        self.tensors: dict[str, TensorInfo] = {}
        self._rows: dict[str, NDArray[np.uint8]] = {}
        for name, values in arrays.items():
            self.add(name, values, block_type if values.ndim > 1 else BlockType.F32)

    def add(self, name: str, values: NDArray[np.float32], block_type: BlockType = BlockType.F32) -> None:
        rows = encode(values.reshape(-1, values.shape[-1]), block_type)
        self.tensors[name] = TensorInfo(name, values.shape, block_type, rows.nbytes)
        self._rows[name] = rows

    def raw(self, name: str) -> NDArray[np.uint8]:
        if name not in self._rows:
            raise NotFound(name)
        return self._rows[name]

    def close(self) -> None:
        self._rows.clear()

    def __enter__(self) -> MemoryCheckpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def gguf_metadata(**changes: Any) -> dict[str, Any]:
    """Return the metadata of a tiny GGUF model; a change named `a__b` sets the key `llama.a.b`, None removes it."""
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 256,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.tokens": [f"t{index}" for index in range(40)],
    }
    metadata.update({f"llama.{key.replace('__', '.')}": value for key, value in changes.items()})
    return {key: value for key, value in metadata.items() if value is not None}


def gguf_arrays(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return seeded weights that fit `gguf_metadata()`, with a head of their own."""
    shapes = {"token_embd": (40, 32), "output": (40, 32), "output_norm": (32,)}
    for layer in range(2):
        shapes |= {
            f"blk.{layer}.attn_norm": (32,),
            f"blk.{layer}.attn_q": (32, 32),
            f"blk.{layer}.attn_k": (16, 32),
            f"blk.{layer}.attn_v": (16, 32),
            f"blk.{layer}.attn_output": (32, 32),
            f"blk.{layer}.ffn_norm": (32,),
            f"blk.{layer}.ffn_gate": (48, 32),
            f"blk.{layer}.ffn_up": (48, 32),
            f"blk.{layer}.ffn_down": (32, 48),
        }
    rng = np.random.default_rng(seed)
    return {
        f"{name}.weight": (rng.normal(size=shape) * 0.2 + (len(shape) == 1)).astype(np.float32)
        for name, shape in shapes.items()
    }


def batch_of(chunks: Sequence[tuple[Sequence[int], int, Sequence[int]]], *, wants_all: bool = True) -> Batch:
    """Return a batch. Each chunk is (new ids, position of the first, pages of the sequence)."""
    num_pages = max(len(pages) for _, _, pages in chunks)
    page_table = np.zeros((len(chunks), num_pages), np.int32)
    for row, (_, _, pages) in enumerate(chunks):
        page_table[row, : len(pages)] = pages
    lengths = [len(ids) for ids, _, _ in chunks]
    row_starts = np.cumsum([0, *lengths]).astype(np.int32)
    return Batch(
        ids=np.array([token for ids, _, _ in chunks for token in ids], np.int32),
        positions=np.concatenate([np.arange(start, start + len(ids)) for ids, start, _ in chunks]).astype(np.int32),
        row_starts=row_starts,
        page_table=page_table,
        wanted=np.arange(sum(lengths), dtype=np.int32) if wants_all else row_starts[1:] - 1,
    )


def all_logits(
    model: Model, backend: Backend, ids: Sequence[int], *, chunk: int = 1 << 30, cache_type: CacheType = CacheType.F32
) -> NDArray[np.float64]:
    """Return the logits at every position of one sequence, computed `chunk` tokens at a time on mixed pages: (T, V)."""
    num_pages = -(-len(ids) // PAGE_TOKENS)
    backend.open_pages(attention_spec(model.spec), cache_type, num_pages + 1)
    pages = np.random.default_rng(5).permutation(num_pages + 1)[:num_pages].tolist()
    logits = [
        np.array(backend.run(model, batch_of([(ids[start : start + chunk], start, pages)])), copy=True)
        for start in range(0, len(ids), chunk)
    ]
    return np.concatenate(logits).astype(np.float64)


def relative_rms(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Return the root mean square of the difference over that of `expected`."""
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))
