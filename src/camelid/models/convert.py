"""A model becomes the same one in another layout: GGUF, safetensors as Transformers writes them, or Meta's files.

What changes is names, the order of rows in query and key matrices (the layouts pair the dimensions that rotate
together in two ways), types where others are asked for, and how rotation is scaled. Tensors are worked on one by one,
in slabs of rows, so memory does not depend on the model's size. Tokenizers are files beside the weights: what becomes
of them is decided above, and handed in.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import RopePairs
from camelid.backends.recoding import Recoder
from camelid.errors import InvalidRequest, UnsupportedModel
from camelid.formats.blocks import BlockType
from camelid.formats.checkpoint import Checkpoint
from camelid.formats.gguf_writer import TensorSource, tensor_from_values, write_gguf
from camelid.formats.meta_folder import PARAMS, ROWS, MetaCheckpoint, cut_of
from camelid.formats.pth import write_pth
from camelid.formats.safetensors import stream_safetensors

from .load import check_tensors, naming_of, read_spec
from .mixes import MIXES, Mix, block_type, find_mix
from .names import Naming, tensor_name
from .reshard import file_name, reshard
from .rope import inverse_frequencies, llama3_divisors
from .row_order import row_order
from .slabs import Bytes, Progress, Slabs
from .spec import DivisorScaling, Llama3Scaling, ModelSpec, RopeSpec, Weight
from .spec_gguf import ROPE_DIVISORS, gguf_metadata
from .spec_hf import hugging_face_config
from .spec_meta import meta_params
from .weights import Slot, all_slots

SHARD_BYTES = 5_000_000_000  # as Transformers cuts safetensors
FLOATS = {BlockType.BF16: "bfloat16", BlockType.F16: "float16", BlockType.F32: "float32"}
KNOWN_FACTORS = (8.0, 32.0, 2.0, 4.0, 16.0)  # of Llama 3.1's scaling


@dataclass(frozen=True)
class Companions:
    """What lies beside the weights in the new layout: metadata of a GGUF file, or files of a folder."""

    metadata: Mapping[str, Any]
    files: Mapping[str, bytes]


def convert(
    checkpoint: Checkpoint,
    target: Path,
    layout: Naming,
    companions: Companions,
    *,
    quantization: str | None = None,
    num_files: int = 1,
    is_merged: bool = False,
    progress: Progress = lambda _: None,
) -> None:
    """Write the model of `checkpoint` to `target`, a file for GGUF and a new folder for the others.

    `quantization` is a name such as Q4_K_M for GGUF, and BF16, F16 or F32 for the others; what is not asked for stays.
    `num_files` is into how many Meta's weights are cut; `is_merged` gives them the names that AIME's worker looks for.
    Meta's files become others byte for byte, where no type is asked for. The target appears whole or not at all.
    Raises InvalidRequest, FormatError, ModelError, OSError.
    """
    spec = read_spec(checkpoint)
    check_tensors(checkpoint, spec)
    with Slabs(progress) as slabs:
        work = _Work(checkpoint, spec, naming_of(checkpoint), layout, slabs, Recoder())
        match layout:
            case Naming.GGUF:
                _write_gguf(work, target, companions, find_mix(quantization) if quantization else None)
            case Naming.HUGGING_FACE:
                _write_hugging_face(work, target, companions, _float_type(work, quantization))
            case Naming.META:
                names = [file_name(number, num_files, is_merged=is_merged) for number in range(num_files)]
                if isinstance(checkpoint, MetaCheckpoint) and quantization is None:
                    _rewrite_meta(work, target, companions, names, progress)
                else:
                    _write_meta(work, target, companions, _float_type(work, quantization), names)


@dataclass(frozen=True)
class _Work:
    """One conversion under way."""

    checkpoint: Checkpoint
    spec: ModelSpec
    source: Naming
    layout: Naming
    slabs: Slabs
    recoder: Recoder

    def tensor(self, slot: Slot, kind: BlockType | None) -> TensorSource:
        """Return a tensor in the new layout; `kind` None keeps its type."""
        name = tensor_name(self.source, slot.weight, slot.layer, is_bias=slot.is_bias)
        old = self.checkpoint.tensors[name].block_type
        new = kind or old
        named = tensor_name(self.layout, slot.weight, slot.layer, is_bias=slot.is_bias)
        return TensorSource(named, slot.shape, new, partial(self._produce, name, slot, old, new))

    def _produce(self, name: str, slot: Slot, old: BlockType, new: BlockType) -> Iterator[Bytes]:
        """Yield a tensor's rows, slab by slab and in order."""
        is_vector = len(slot.shape) == 1
        rows = self.checkpoint.raw(name)
        if is_vector:
            rows = rows.reshape(slot.shape[0], -1)
        order = row_order(self.spec, slot.weight, self.source, self.layout)
        heads = self.spec.head_dim if order is not None else 1  # a slab holds whole heads
        work = partial(self._converted, order=order, old=old, new=new)
        yield from self.slabs.each(rows, 1 if is_vector else slot.shape[1], work, heads)

    def _converted(self, rows: Bytes, order: NDArray[np.intp] | None, old: BlockType, new: BlockType) -> Bytes:
        """Return a slab with its rows in the new order and its weights in the new type."""
        if order is not None:
            rows = rows.reshape(-1, len(order), rows.shape[1])[:, order].reshape(rows.shape)
        return self.recoder.recode(rows, old, new)


# ── types and rotation ──


def _float_type(work: _Work, quantization: str | None) -> BlockType:
    """Return the one type that all tensors get: what is asked for, the source's own, or F16 for a quantized source."""
    if quantization is None:
        name = tensor_name(work.source, Weight.QUERY)
        kept = work.checkpoint.tensors[name].block_type
        return kept if kept in FLOATS else BlockType.F16
    kind = find_mix(quantization).base
    if kind not in FLOATS:
        hint = "only GGUF holds quantized weights; use one of BF16, F16, F32"
        raise InvalidRequest(f"{quantization} cannot be written in this layout", field="quant", hint=hint)
    return kind


def plain_rope(rope: RopeSpec) -> RopeSpec:
    """Return a rotation with Llama 3.1's scaling in place of the divisors that a GGUF file spells it out with.

    Raises UnsupportedModel for divisors that no known scaling gives.
    """
    if not isinstance(rope.scaling, DivisorScaling):
        return rope
    frequencies = inverse_frequencies(replace(rope, scaling=None))
    for factor in KNOWN_FACTORS:
        scaling = Llama3Scaling(factor, 1.0, 4.0, 8192)
        if np.allclose(llama3_divisors(frequencies, scaling), rope.scaling.divisors, rtol=1e-5):
            return replace(rope, scaling=scaling)
    raise UnsupportedModel(f"{ROPE_DIVISORS} holds divisors that only GGUF can say")


def _gguf_rope(rope: RopeSpec) -> RopeSpec:
    """Return a rotation as GGUF says it."""
    rope = replace(rope, pairs=RopePairs.INTERLEAVED)
    if not isinstance(rope.scaling, Llama3Scaling):
        return rope
    divisors = llama3_divisors(inverse_frequencies(replace(rope, scaling=None)), rope.scaling).astype(np.float32)
    return replace(rope, scaling=DivisorScaling(tuple(divisors.tolist())))


# ── the three layouts ──


def _write_gguf(work: _Work, target: Path, companions: Companions, mix: Mix | None) -> None:
    spec = replace(work.spec, rope=_gguf_rope(work.spec.rope))
    tensors: list[TensorSource] = []
    if isinstance(spec.rope.scaling, DivisorScaling):
        tensors.append(tensor_from_values(ROPE_DIVISORS, np.array(spec.rope.scaling.divisors), BlockType.F32))
    for slot in all_slots(spec):
        kind = BlockType.F32 if len(slot.shape) == 1 else None if mix is None else block_type(mix, spec, slot)
        tensors.append(work.tensor(slot, kind))
    metadata = {**gguf_metadata(spec), **_file_type(work, mix), **companions.metadata}
    if "tokenizer.ggml.tokens" in metadata:
        metadata.pop("llama.vocab_size", None)  # the list says it
    write_gguf(target, metadata, tensors)


def _file_type(work: _Work, mix: Mix | None) -> dict[str, int]:
    kept = work.checkpoint.tensors[tensor_name(work.source, Weight.QUERY)].block_type
    if mix is None:
        mix = next((known for known in MIXES.values() if known.base is kept), None)
    return {} if mix is None else {"general.file_type": mix.file_type, "general.quantization_version": 2}


def _write_hugging_face(work: _Work, target: Path, companions: Companions, kind: BlockType) -> None:
    spec = replace(work.spec, rope=plain_rope(work.spec.rope))
    config = hugging_face_config(spec, FLOATS[kind])
    with _new_folder(target) as folder:
        shards = list(_grouped([work.tensor(slot, kind) for slot in all_slots(spec)]))
        owners: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
            stream_safetensors(folder / file, shard, {"format": "pt"})
            owners |= {source.name: file for source in shard}
        if len(shards) > 1:
            size = sum(source.size_bytes for shard in shards for source in shard)
            index = {"metadata": {"total_size": size}, "weight_map": owners}
            _write_json(folder / "model.safetensors.index.json", index)
        _write_json(folder / "config.json", config)
        _write_files(folder, companions)


def _grouped(sources: Iterable[TensorSource]) -> Iterator[list[TensorSource]]:
    """Yield the tensors of each shard."""
    shard: list[TensorSource] = []
    for source in sources:
        if shard and sum(other.size_bytes for other in shard) + source.size_bytes > SHARD_BYTES:
            yield shard
            shard = []
        shard.append(source)
    yield shard


def _rewrite_meta(work: _Work, target: Path, companions: Companions, names: Sequence[str], progress: Progress) -> None:
    _check_files(work.spec, len(names))
    with _new_folder(target) as folder:
        reshard(work.checkpoint, folder, work.spec.dim, names, progress)
        _write_json(folder / PARAMS, work.checkpoint.metadata)
        _write_files(folder, companions)


def _write_meta(work: _Work, target: Path, companions: Companions, kind: BlockType, names: Sequence[str]) -> None:
    num_files = len(names)
    spec = replace(work.spec, rope=plain_rope(work.spec.rope))
    params = meta_params(spec)
    _check_files(spec, num_files)
    sources = [work.tensor(slot, kind) for slot in all_slots(spec)]
    if spec.is_tied:  # Meta's own code has a head always
        head = tensor_name(Naming.META, Weight.HEAD)
        sources.append(replace(work.tensor(next(iter(all_slots(spec))), kind), name=head))
    with _new_folder(target) as folder:
        for number, name in enumerate(names):
            write_pth(folder / name, [_part(source, spec.dim, number, num_files) for source in sources])
        _write_json(folder / PARAMS, params)
        _write_files(folder, companions)


def _check_files(spec: ModelSpec, count: int) -> None:
    if not 1 <= count <= spec.num_kv_heads or spec.num_kv_heads % count or spec.vocab_size % count:
        rule = f"it divides the {spec.num_kv_heads} key/value heads and the {spec.vocab_size} tokens"
        raise InvalidRequest(f"{count} files are not possible: {rule}", field="num_files")


def _part(source: TensorSource, dim: int, number: int, count: int) -> TensorSource:
    """Return what one of `count` files holds of a tensor."""
    cut = cut_of(source.name, source.shape, dim) if count > 1 else None
    if cut is None:
        return source
    if source.shape[cut] % count:
        raise InvalidRequest(f"{count} files are not possible: {source.name} has the shape {source.shape}")
    shape = tuple(size // count if axis == cut else size for axis, size in enumerate(source.shape))
    return TensorSource(source.name, shape, source.block_type, partial(_cut, source, cut, number, count))


def _cut(source: TensorSource, cut: int, number: int, count: int) -> Iterator[Bytes]:
    """Yield the part of a tensor that belongs to one file, out of the slabs of the whole."""
    length, seen = source.shape[cut] // count, 0
    row_bytes = source.size_bytes // math.prod(source.shape[:-1])
    for slab in source.produce():
        if cut == ROWS:
            first, last = max(number * length - seen, 0), min((number + 1) * length - seen, len(slab))
            seen += len(slab)
            if first < last:
                yield slab[first:last]
        else:
            width = row_bytes // count
            yield slab[:, number * width : (number + 1) * width]


# ── files ──


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder that takes the name `target` when all is in it. Raises InvalidRequest where there is one."""
    if target.exists():
        raise InvalidRequest(f"{target} is there already", hint="give the name of a new folder")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(values), indent=2) + "\n", encoding="utf-8")


def _write_files(folder: Path, companions: Companions) -> None:
    for name, content in companions.files.items():
        (folder / name).write_bytes(content)
