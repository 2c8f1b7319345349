"""A GGUF file becomes one in another quantization: matrices decoded and encoded anew, everything else as it was.

Memory does not depend on the model's size (`slabs`). Which type a matrix gets is told by `mixes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from camelid.backends.recoding import Recoder
from camelid.errors import InvalidRequest
from camelid.formats import Typed, ValueType, open_checkpoint
from camelid.formats.checkpoint import Checkpoint
from camelid.formats.gguf import GgufCheckpoint
from camelid.formats.gguf_writer import TensorSource, tensor_from_raw, write_gguf

from .load import check_tensors, read_spec, used_tensors
from .mixes import Mix, block_type, find_mix
from .slabs import Progress, Slabs
from .spec import ModelSpec


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
        with Slabs(progress) as slabs:
            write_gguf(target, _metadata(checkpoint, mix), _tensors(checkpoint, spec, mix, slabs))


def _metadata(checkpoint: GgufCheckpoint, mix: Mix) -> dict[str, Any]:
    """Return the source's metadata with the new quantization."""
    changed = {"general.file_type": mix.file_type, "general.quantization_version": 2}
    return {**checkpoint.typed_metadata, **{key: Typed(ValueType.UINT32, value) for key, value in changed.items()}}


def _tensors(checkpoint: Checkpoint, spec: ModelSpec, mix: Mix, slabs: Slabs) -> Iterator[TensorSource]:
    slots, recoder = used_tensors(checkpoint, spec), Recoder()
    for name, info in checkpoint.tensors.items():
        slot = slots.get(name)
        kind = info.block_type if slot is None or len(info.shape) == 1 else block_type(mix, spec, slot)
        rows = checkpoint.raw(name)
        if kind is info.block_type:
            yield tensor_from_raw(name, info.shape, kind, rows)
        else:
            work = partial(recoder.recode, old=info.block_type, new=kind)
            yield TensorSource(name, info.shape, kind, partial(slabs.each, rows, info.shape[-1], work))
