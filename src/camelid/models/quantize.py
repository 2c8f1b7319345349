"""A GGUF file becomes one in another quantization: matrices decoded and encoded anew, everything else as it was.

Rows are worked on in slabs, so memory does not depend on the model's size. Which type a matrix gets is told by `mixes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import InvalidRequest
from camelid.formats import Typed, ValueType, open_checkpoint
from camelid.formats.blocks import BlockType, decode, encode
from camelid.formats.checkpoint import Checkpoint
from camelid.formats.gguf import GgufCheckpoint
from camelid.formats.gguf_writer import TensorSource, tensor_from_raw, write_gguf

from .load import check_tensors, read_spec, used_tensors
from .mixes import Mix, block_type, find_mix
from .spec import ModelSpec

SLAB_WEIGHTS = 1 << 20  # decoded at once in a thread: 4 MiB
THREADS = 2

Progress = Callable[[int], object]  # told how many bytes of the source were done since the last call


def quantize(source: Path, target: Path, quantization: str, progress: Progress = lambda _: None) -> None:
    """Write the model of `source`, a GGUF file, to `target` in a quantization such as `Q4_K_M`.

    The target appears whole or not at all. Raises InvalidRequest, FormatError, ModelError, OSError.
    """
    mix = find_mix(quantization)
    with open_checkpoint(source) as checkpoint:
        if not isinstance(checkpoint, GgufCheckpoint):
            raise InvalidRequest(f"{source} is no GGUF file", hint="other formats cannot be quantized yet")
        spec = read_spec(checkpoint)
        check_tensors(checkpoint, spec)
        with ThreadPoolExecutor(THREADS) as pool:
            write_gguf(target, _metadata(checkpoint, mix), _tensors(checkpoint, spec, mix, pool, progress))


def _metadata(checkpoint: GgufCheckpoint, mix: Mix) -> dict[str, Any]:
    """Return the source's metadata with the new quantization."""
    changed = {"general.file_type": mix.file_type, "general.quantization_version": 2}
    return {**checkpoint.typed_metadata, **{key: Typed(ValueType.UINT32, value) for key, value in changed.items()}}


def _tensors(
    checkpoint: Checkpoint, spec: ModelSpec, mix: Mix, pool: ThreadPoolExecutor, progress: Progress
) -> Iterator[TensorSource]:
    slots = used_tensors(checkpoint, spec)
    for name, info in checkpoint.tensors.items():
        slot = slots.get(name)
        kind = info.block_type if slot is None or len(info.shape) == 1 else block_type(mix, spec, slot)
        rows = checkpoint.raw(name)
        if kind is info.block_type:
            yield tensor_from_raw(name, info.shape, kind, rows)
        else:
            produce = partial(_encoded, rows, info.block_type, kind, info.shape[-1], pool, progress)
            yield TensorSource(name, info.shape, kind, produce)


def _encoded(
    rows: NDArray[np.uint8],
    old: BlockType,
    new: BlockType,
    columns: int,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Iterator[NDArray[np.uint8]]:
    """Yield a matrix in its new type, slab by slab and in order."""
    step = max(1, SLAB_WEIGHTS // columns)
    slabs = [rows[start : start + step] for start in range(0, len(rows), step)]
    for slab, found in zip(slabs, pool.map(lambda slab: encode(decode(slab, old), new), slabs), strict=True):
        progress(slab.nbytes)
        yield found
