"""Loading checks every tensor against the metadata before it places one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import MemoryCheckpoint, all_logits, gguf_arrays, gguf_metadata

from camelid.backends.reference import ReferenceBackend
from camelid.errors import MissingTensor, UnsupportedFormat, UnsupportedModel
from camelid.formats.blocks import BlockType
from camelid.models.load import load_model


class CountingBackend(ReferenceBackend):
    """A reference backend that counts what is placed on it."""

    def __init__(self) -> None:
        super().__init__()
        self.placed: list[str] = []

    def place(self, tensor):  # type: ignore[no-untyped-def]
        self.placed.append(tensor.name)
        return super().place(tensor)


def load(arrays: dict[str, NDArray[np.float32]], **changes: object) -> CountingBackend:
    backend = CountingBackend()
    load_model(MemoryCheckpoint(gguf_metadata(**changes), arrays), backend)
    return backend


def test_a_tied_embedding_is_placed_once() -> None:
    arrays = gguf_arrays()
    del arrays["output.weight"]

    assert load(arrays).placed.count("token_embd.weight") == 1


def test_missing_tensors_are_named_together() -> None:
    arrays = gguf_arrays()
    del arrays["blk.0.attn_q.weight"], arrays["blk.1.ffn_norm.weight"]

    with pytest.raises(
        MissingTensor,
        match=r"tiny: 2 of the model's 21 tensors are missing: "
        r"blk.0.attn_q.weight \(32, 32\), blk.1.ffn_norm.weight \(32,\)",
    ):
        load(arrays)


def test_a_bias_must_be_there_in_every_layer() -> None:
    arrays = gguf_arrays() | {"blk.0.attn_k.bias": np.zeros(16, np.float32)}

    with pytest.raises(MissingTensor, match=r"1 of .* missing: blk.1.attn_k.bias \(16,\)"):
        load(arrays)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.1.ffn_down.weight", (48, 32)),
        ("blk.0.attn_norm.weight", (16,)),
        ("token_embd.weight", (40, 16)),
        ("output.weight", (39, 32)),
        ("blk.0.attn_k.weight", (16, 2, 16)),
    ],
)
def test_a_tensor_of_another_shape_is_refused_with_both_shapes(name: str, shape: tuple[int, ...]) -> None:
    arrays = gguf_arrays()
    expected = arrays[name].shape
    arrays[name] = np.zeros(shape, np.float32)
    backend = CountingBackend()

    with pytest.raises(MissingTensor) as caught:
        load_model(MemoryCheckpoint(gguf_metadata(), arrays), backend)

    assert caught.value.message == f"tiny: {name} has the shape {shape}, but the metadata ask for {expected}"
    assert backend.placed == []


def test_tensors_without_a_use_are_refused_by_name() -> None:
    arrays = gguf_arrays() | {"blk.0.attn_q_norm.weight": np.zeros(8, np.float32)}

    with pytest.raises(UnsupportedModel, match=r"1 tensors have no use in this architecture: blk.0.attn_q_norm.weight"):
        load(arrays)


def test_layers_beyond_the_announced_number_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"9 tensors have no use .*blk.1.attn_norm.weight, .* and 4 more"):
        load(gguf_arrays(), block_count=1)


def test_stored_rotation_tables_are_no_reason_to_refuse() -> None:
    arrays = gguf_arrays() | {"blk.0.attn_rot_embd.weight": np.zeros(4, np.float32)}

    assert "token_embd.weight" in load(arrays).placed


def test_weights_of_a_type_that_cannot_be_decoded_are_refused_by_name() -> None:
    checkpoint = MemoryCheckpoint(gguf_metadata(), gguf_arrays())
    info = checkpoint.tensors["blk.0.attn_q.weight"]
    checkpoint.tensors["blk.0.attn_q.weight"] = type(info)(info.name, info.shape, BlockType.IQ2_XS, 0)

    with pytest.raises(UnsupportedFormat, match=r"blk.0.attn_q.weight: its block type is 'IQ2_XS'"):
        load_model(checkpoint, ReferenceBackend())


def test_quantized_weights_give_the_logits_of_their_dequantized_values() -> None:
    from camelid.formats.checkpoint import read

    quantized = MemoryCheckpoint(gguf_metadata(feed_forward_length=64), _with_ffn_of_64(), BlockType.Q8_0)
    dequantized = MemoryCheckpoint(
        gguf_metadata(feed_forward_length=64), {name: read(quantized, name) for name in quantized.tensors}
    )
    backend = ReferenceBackend()

    logits = [
        all_logits(load_model(checkpoint, backend), backend, list(range(40))) for checkpoint in (quantized, dequantized)
    ]

    np.testing.assert_array_equal(logits[0], logits[1])


def _with_ffn_of_64() -> dict[str, NDArray[np.float32]]:
    """Return the tiny weights with feed-forward matrices widened to whole blocks."""
    arrays = gguf_arrays()
    for name in list(arrays):
        if "ffn_gate" in name or "ffn_up" in name:
            arrays[name] = np.concatenate([arrays[name], arrays[name][:16]])
        elif "ffn_down" in name:
            arrays[name] = np.ascontiguousarray(arrays[name.replace("down", "up")].T)
    return arrays
