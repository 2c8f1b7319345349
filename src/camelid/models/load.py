"""A checkpoint becomes a model: its spec is read, its tensors are checked against the spec, its weights are placed on a
backend.

All tensors are checked before the first is placed, so that a file that is wrong costs no memory and one error tells
everything that is missing. Which file, which backend and how many pages is decided above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from camelid.backends.base import Array, Axis, Backend, Batch, Ops, Tensor, Vector
from camelid.backends.base import Weight as PlacedWeight
from camelid.errors import MissingTensor, ModelError, UnsupportedModel
from camelid.formats.checkpoint import Checkpoint, read

from .bert import Bert, BertLayer, Classifier, Norm
from .llama import Layer, Linear, Llama
from .low_rank import Adapters
from .names import Naming, tensor_name
from .rope import attention_spec
from .sharding import ALL, Share, check_ranks, part_of, read_part
from .spec import EncoderSpec, ModelSpec, Weight
from .spec_encoder import ENCODERS, read_encoder
from .spec_gguf import ROPE_DIVISORS, read_gguf
from .spec_hf import read_hugging_face
from .spec_meta import is_meta, read_meta
from .weights import Slot, all_slots

MAX_LISTED = 5  # tensors named in an error; a wrong file can have hundreds


_READERS = {Naming.GGUF: read_gguf, Naming.HUGGING_FACE: read_hugging_face, Naming.META: read_meta}


class Model(Protocol):
    """A loaded model: what a backend runs, and the numbers that everything else asks for."""

    @property
    def spec(self) -> ModelSpec:
        """The architecture's numbers."""

    def forward(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return the logits of its wanted rows: (W, V)."""

    def hidden(self, ops: Ops, batch: Batch) -> Array:
        """Run the new tokens of `batch` and return their last hidden states: (T, dim)."""

    def scores(self, ops: Ops, batch: Batch) -> Array:
        """Return what a classifier makes of the first token of each sequence: (S, labels)."""


def read_spec(checkpoint: Checkpoint) -> ModelSpec:
    """Return the spec of a GGUF file, of a Hugging Face folder or of Meta's.

    Raises ModelError where a number is missing, out of bounds or at odds with another, UnsupportedModel for an
    architecture or a feature that is not implemented.
    """
    try:
        return _reader_of(checkpoint)(checkpoint)
    except ModelError as error:
        raise type(error)(f"{checkpoint.path}: {error.message}", hint=error.hint) from error


def _reader_of(checkpoint: Checkpoint) -> Callable[[Checkpoint], ModelSpec]:
    naming = naming_of(checkpoint)
    is_encoder = naming is Naming.GGUF and checkpoint.metadata["general.architecture"] in ENCODERS
    return read_encoder if is_encoder else _READERS[naming]


def naming_of(checkpoint: Checkpoint) -> Naming:
    """Return how the checkpoint names its tensors; GGUF is known by the key that all its files must have."""
    if "general.architecture" in checkpoint.metadata:
        return Naming.GGUF
    return Naming.META if is_meta(checkpoint.metadata) else Naming.HUGGING_FACE


def load_model(checkpoint: Checkpoint, backend: Backend, adapters: Adapters | None = None, share: Share = ALL) -> Model:
    """Place all weights of `checkpoint` on `backend` and return the model. `adapters` are those that batches may name.

    Where several ranks share the model, only the part of this one is read and placed. The checkpoint must stay open as
    long as the model is used, because a backend may keep views of it. Raises what `read_spec` raises, MissingTensor for
    weights that are absent or of another shape, UnsupportedModel for weights that this architecture does not use,
    InvalidSetting for a number of ranks that it cannot be shared out to.
    """
    spec = read_spec(checkpoint)
    check_tensors(checkpoint, spec)
    check_ranks(spec, share.ranks)
    placer = _Placer(checkpoint, backend, naming_of(checkpoint), spec, share)
    return (
        _build(placer, spec, adapters or Adapters())
        if spec.encoder is None
        else _build_bert(placer, spec, spec.encoder)
    )


def used_tensors(checkpoint: Checkpoint, spec: ModelSpec) -> dict[str, Slot]:
    """Return the tensors that the model needs, by their names in this checkpoint."""
    naming = naming_of(checkpoint)
    return {tensor_name(naming, slot.weight, slot.layer, is_bias=slot.is_bias): slot for slot in all_slots(spec)}


def check_tensors(checkpoint: Checkpoint, spec: ModelSpec) -> None:
    """Check that every weight is there in its shape, and that there is none beside them. Raises MissingTensor,
    UnsupportedModel.
    """
    needed = used_tensors(checkpoint, spec)
    absent = [f"{name} {slot.shape}" for name, slot in needed.items() if name not in checkpoint.tensors]
    if absent:
        raise MissingTensor(
            f"{checkpoint.path}: {len(absent)} of the model's {len(needed)} tensors are missing: {_listed(absent)}",
            hint="the file is incomplete or of another architecture: download or convert it again",
        )
    for name, slot in needed.items():
        found = checkpoint.tensors[name].shape
        if found != slot.shape:
            raise MissingTensor(
                f"{checkpoint.path}: {name} has the shape {found}, but the metadata ask for {slot.shape}",
                hint="the metadata describe another model: convert or download it again",
            )
    _refuse_unknown(checkpoint, needed)


def _refuse_unknown(checkpoint: Checkpoint, needed: dict[str, Slot]) -> None:
    """Refuse tensors without a use: leaving out a weight that the model relies on gives wrong answers in silence."""
    unknown = [name for name in checkpoint.tensors if name not in needed and not _is_redundant(name)]
    if unknown:
        raise UnsupportedModel(
            f"{checkpoint.path}: {len(unknown)} tensors have no use in this architecture: {_listed(unknown)}",
            hint="the model is a variant that is not implemented",
        )


def _is_redundant(name: str) -> bool:
    """Whether the tensor only repeats the metadata: rotation tables, and the head that tied models are sometimes saved
    with.
    """
    if name in (tensor_name(Naming.GGUF, Weight.CLASSIFIER_DENSE, is_bias=is_bias) for is_bias in (False, True)):
        return True  # a pooler without a classifier behind it
    tables = ("rotary_emb.inv_freq", ".attn_rot_embd.weight", ".rope_freqs.weight")
    return name in (ROPE_DIVISORS, "rope.freqs", tensor_name(Naming.HUGGING_FACE, Weight.HEAD)) or name.endswith(tables)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + rest


@dataclass(frozen=True)
class _Placer:
    """Hands tensors of one checkpoint to one backend."""

    checkpoint: Checkpoint
    backend: Backend
    naming: Naming
    spec: ModelSpec
    share: Share

    def matrix(self, weight: Weight, layer: int = 0) -> PlacedWeight:
        name = tensor_name(self.naming, weight, layer)
        part = part_of(self.spec, weight, self.share)
        shape, shard = self.checkpoint.tensors[name].shape, read_part(self.checkpoint, name, part)
        if part is not None:
            shape = tuple(part.stop - part.start if axis == part.axis.value else n for axis, n in enumerate(shape))
        return self.backend.place(Tensor(name, shape, shard.block_type, shard.rows, part))

    def thirds(self, spec: ModelSpec, weight: Weight, layer: int) -> Linear:
        """Return the three matrices that lie in one, a third of its rows each, and their biases."""
        name = tensor_name(self.naming, weight, layer)
        info, rows = self.checkpoint.tensors[name], self.checkpoint.raw(name)
        shape = (info.shape[0] // 3, info.shape[1])
        parts = np.split(rows, 3)
        placed = (self.backend.place(Tensor(name, shape, info.block_type, part)) for part in parts)
        return Linear(tuple(placed), self._third_biases(weight, layer) if weight in spec.biased else (None,) * 3)

    def _third_biases(self, weight: Weight, layer: int) -> tuple[Vector, ...]:
        values = read(self.checkpoint, tensor_name(self.naming, weight, layer, is_bias=True))
        return tuple(self.backend.place_vector(part) for part in np.split(values, 3))

    def norm(self, weight: Weight, layer: int = 0) -> Norm:
        return Norm(self.vector(weight, layer), self.vector(weight, layer, is_bias=True))

    def vector(self, weight: Weight, layer: int = 0, *, is_bias: bool = False) -> Vector:
        values = read(self.checkpoint, tensor_name(self.naming, weight, layer, is_bias=is_bias))
        part = part_of(self.spec, weight, self.share) if is_bias else None
        if part is not None and part.axis is Axis.ROWS:
            values = values[part.start : part.stop]
        return self.backend.place_vector(values)

    def linear(self, spec: ModelSpec, layer: int, *weights: Weight) -> Linear:
        return Linear(
            tuple(self.matrix(weight, layer) for weight in weights),
            tuple(self.vector(weight, layer, is_bias=True) if weight in spec.biased else None for weight in weights),
        )


def _build(placer: _Placer, spec: ModelSpec, adapters: Adapters) -> Llama:
    embedding = placer.matrix(Weight.EMBEDDING)
    return Llama(
        spec=spec,
        embedding=embedding,
        layers=tuple(_build_layer(placer, spec, index) for index in range(spec.num_layers)),
        final_norm=placer.vector(Weight.FINAL_NORM),
        head=embedding if spec.is_tied else placer.matrix(Weight.HEAD),
        adapters=adapters,
    )


def _build_layer(placer: _Placer, spec: ModelSpec, index: int) -> Layer:
    return Layer(
        attention_norm=placer.vector(Weight.ATTENTION_NORM, index),
        query_key_value=placer.linear(spec, index, Weight.QUERY, Weight.KEY, Weight.VALUE),
        attention_out=placer.linear(spec, index, Weight.ATTENTION_OUT),
        ffn_norm=placer.vector(Weight.FFN_NORM, index),
        gate_up=placer.linear(spec, index, Weight.GATE, Weight.UP),
        down=placer.linear(spec, index, Weight.DOWN),
    )


def _build_bert(placer: _Placer, spec: ModelSpec, encoder: EncoderSpec) -> Bert:
    return Bert(
        spec=spec,
        attention=attention_spec(spec),
        embedding=placer.matrix(Weight.EMBEDDING),
        positions=placer.matrix(Weight.POSITIONS) if encoder.num_positions else None,
        segments=placer.matrix(Weight.SEGMENTS) if encoder.num_segments else None,
        embedding_norm=placer.norm(Weight.EMBEDDING_NORM),
        layers=tuple(_build_bert_layer(placer, spec, encoder, index) for index in range(spec.num_layers)),
        classifier=_build_classifier(placer, spec, encoder) if encoder.num_labels else None,
    )


def _build_bert_layer(placer: _Placer, spec: ModelSpec, encoder: EncoderSpec, index: int) -> BertLayer:
    split = (Weight.QUERY, Weight.KEY, Weight.VALUE)
    return BertLayer(
        query_key_value=placer.thirds(spec, Weight.QUERY_KEY_VALUE, index)
        if encoder.is_fused
        else placer.linear(spec, index, *split),
        attention_out=placer.linear(spec, index, Weight.ATTENTION_OUT),
        attention_norm=placer.norm(Weight.ATTENTION_OUT_NORM, index),
        up=placer.linear(spec, index, *((Weight.GATE, Weight.UP) if encoder.is_gated else (Weight.UP,))),
        down=placer.linear(spec, index, Weight.DOWN),
        ffn_norm=placer.norm(Weight.FFN_OUT_NORM, index),
    )


def _build_classifier(placer: _Placer, spec: ModelSpec, encoder: EncoderSpec) -> Classifier:
    dense = placer.linear(spec, 0, Weight.CLASSIFIER_DENSE) if encoder.has_dense else None
    return Classifier(dense, placer.linear(spec, 0, Weight.CLASSIFIER))
