"""Long contexts on a small model: every way of keeping a past against the float64 reference.

A command with a size (`python -m tests.models.long_context 131072`), because the longest takes minutes; a test runs a
small one. What is compared is logits behind every chunk of the prompt.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import PAGE_TOKENS, Backend, Batch, CacheType, Forward
from camelid.backends.reference import ReferenceBackend
from camelid.backends.reference.ops import ReferenceOps, rotate
from camelid.models.load import load_model
from camelid.models.rope import attention_spec

sys.path.insert(0, str(Path(__file__).parent))
from tiny_models import MemoryCheckpoint, batch_of, gguf_arrays, gguf_metadata, relative_rms

CHUNK = 512
SPARE = 3  # pages that the sequence does not use


def small_model(num_layers: int) -> MemoryCheckpoint:
    """Return some layers with Llama 3.1's rotation, for up to 131,072 positions."""
    metadata = gguf_metadata(block_count=num_layers, context_length=131_072, rope__freq_base=500_000.0)
    spare = tuple(f"blk.{layer}." for layer in range(num_layers, 2))
    arrays = {name: values for name, values in gguf_arrays(seed=2).items() if not name.startswith(spare)}
    return MemoryCheckpoint(metadata, arrays)


class WantedOps(ReferenceOps):
    """The reference, attending only for tokens whose logits are wanted: all that counts in the last layer."""

    def attend(self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], layer: int, batch: Batch) -> NDArray[Any]:
        assert self._pages is not None
        assert self._attention is not None
        heads = (len(k), -1, self._attention.head_dim)
        keys = rotate(k.reshape(heads), batch.positions, self._attention)
        self._pages.write(layer, batch.page_table[0], batch.positions, keys, v.reshape(heads))
        last = Batch(batch.ids[-1:], batch.positions[-1:], np.array([0, 1], np.int32), batch.page_table, batch.wanted)
        attended = np.zeros_like(q)
        attended[-1:] = super().attend(q[-1:], k[-1:], v[-1:], layer, last)
        return attended


class WantedBackend(ReferenceBackend):
    """A reference backend over `WantedOps`: exact for one layer and one sequence that wants its last token."""

    def run(self, model: Forward, batch: Batch) -> NDArray[Any]:
        logits: NDArray[Any] = model.forward(WantedOps(self._dtype, self._attention, self._pages), batch)
        return logits


def logits_at_chunks(
    backend: Backend, length: int, cache_type: CacheType, *, chunk: int = CHUNK, num_layers: int = 2
) -> NDArray[np.float64]:
    """Return the logits behind every chunk of a seeded prompt: (length / chunk, V)."""
    model = load_model(small_model(num_layers), backend)
    num_pages = -(-length // PAGE_TOKENS)
    backend.open_pages(attention_spec(model.spec), cache_type, num_pages + SPARE)
    pages = np.random.default_rng(5).permutation(num_pages + SPARE)[:num_pages].tolist()
    ids = np.random.default_rng(6).integers(0, 40, length).tolist()
    rows = [
        backend.run(model, batch_of([(ids[start : start + chunk], start, pages)], wants_all=False)).copy()
        for start in range(0, length, chunk)
    ]
    return np.concatenate(rows).astype(np.float64)


def main() -> int:
    """Compare the cpu backend with the reference and say how far they are apart."""
    from camelid.backends.cpu.backend import CpuBackend

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("length", type=int, nargs="?", default=8192)
    length = parser.parse_args().length
    start = time.perf_counter()
    exact = logits_at_chunks(WantedBackend(), length, CacheType.F32, num_layers=1)
    print(f"{length} tokens; reference, float64: {time.perf_counter() - start:.0f} s", flush=True)
    for cache_type in CacheType:
        start = time.perf_counter()
        found = logits_at_chunks(CpuBackend(), length, cache_type, num_layers=1)
        seconds = time.perf_counter() - start
        last = relative_rms(found[-4:], exact[-4:])
        errors = f"{relative_rms(found, exact):.1e}, at the end {last:.1e}"
        print(f"cpu, {cache_type.value}: {errors}; {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
